"""Brings chunks into the library and the vector index, so that a crash at any step heals.

The order of the steps is what makes it heal: chunks are stored, then their points written, then
the document is marked as complete. A crash leaves a document without its mark, which
`reconcile` does again; points of unknown documents, which it deletes; or an index that lost its
content, which it notices by the number of points of each document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from rag_app.embedding import EmbeddingClient
from rag_app.errors import Superseded
from rag_app.interfaces import Claim, Point, Reconciliation, StoredChunk, VectorWriter
from rag_app.library import SqliteLibrary
from rag_app.library.chunks import IndexedDocument
from rag_app.model import Chunk, ParsedDocument
from rag_app.text.tokens import count_terms
from rag_app.vectors.bm25 import Bm25
from rag_app.vectors.signature import KEPT_SIGNATURES

BATCH = 500
# Terms of more chunks than this are counted twice instead of being kept: 20 KB each.
KEPT_TERMS = 2000
# How far the average length may move before the weights of old chunks are made anew.
TOLERATED_DRIFT = 0.1

Chunker = Callable[[ParsedDocument], Sequence[Chunk]]
Progress = Callable[[int, int], None]


class ChunkIndexer:
    """`rag_app.interfaces.Indexer`. `k1` and `b` as in `Tuning`; one at a time for a library."""

    def __init__(
        self,
        library: SqliteLibrary,
        vectors: VectorWriter,
        signature: str,
        chunker: Chunker,
        *,
        k1: float,
        b: float,
        embedding: EmbeddingClient | None = None,
    ) -> None:
        self._library = library
        self._vectors = vectors
        self._signature = signature
        self._chunker = chunker
        self._k1 = k1
        self._b = b
        self._embedding = embedding

    def index(self, claim: Claim, parsed: ParsedDocument, progress: Progress | None = None) -> None:
        """See `rag_app.interfaces.Indexer.index`."""
        chunks = self._library.store(claim, parsed, self._signature, self._chunker(parsed))
        average = self._write(claim.document.id, chunks, progress)
        if not self._library.finish(claim, self._signature, average):
            self._drop_if_gone(claim.document.id)
            raise Superseded(f"{claim.document.name} was replaced or removed meanwhile")

    def remove(self, document_id: str) -> None:
        """Remove a document everywhere; from the library first, so that no search shows it."""
        self._library.remove(document_id)
        self._vectors.delete(document_id)

    def reconcile(self) -> Reconciliation:
        """See `rag_app.interfaces.Indexer.reconcile`."""
        self._vectors.ensure()
        self._library.use_signature(self._signature, KEPT_SIGNATURES)
        points = self._vectors.counts()
        known = self._library.indexed(self._signature)
        dropped = [document for document in points if document not in known]
        for document in dropped:
            self._vectors.delete(document)
        broken = [item for item in known.values() if _is_broken(item, points)]
        reindexed = sum(self._index_again(item.document_id) for item in broken)
        return Reconciliation(reindexed, self._weigh_again(), len(dropped))

    def mark_ready(self, corpus: str) -> None:
        """Record that this corpus is searchable in the index that is open now."""
        self._library.mark_corpus_ready(corpus, self._signature, self._vectors.ensure())

    def _index_again(self, document_id: str) -> bool:
        parsed = self._library.parsed(document_id)
        if parsed is None:
            return False
        try:
            chunks = self._library.chunks_of(document_id, self._signature)
            if not chunks:
                chunks = self._library.store_chunks(
                    document_id, self._signature, self._chunker(parsed)
                )
            return self._rewrite(document_id, chunks)
        except Superseded:
            return False

    def _weigh_again(self) -> int:
        average = self._library.statistics(self._signature).average_length
        drifted = [
            item.document_id
            for item in self._library.indexed(self._signature).values()
            if item.chunks and abs(item.average_length - average) > TOLERATED_DRIFT * average
        ]
        return sum(self._index_again(document_id) for document_id in drifted)

    def _rewrite(self, document_id: str, chunks: Sequence[StoredChunk]) -> bool:
        average = self._write(document_id, chunks, None)
        return self._library.complete(document_id, self._signature, average) or not (
            self._drop_if_gone(document_id)
        )

    def _write(
        self, document_id: str, chunks: Sequence[StoredChunk], progress: Progress | None
    ) -> float:
        """Count terms and write the points; the average length that was used."""
        counted = [_terms(stored) for stored in chunks] if len(chunks) <= KEPT_TERMS else None
        counts = counted or (_terms(stored) for stored in chunks)
        average = self._library.count_terms(document_id, self._signature, counts).average_length
        bm25 = Bm25(self._k1, self._b, average)
        for first in range(0, len(chunks), BATCH):
            batch = chunks[first : first + BATCH]
            terms = counted[first : first + BATCH] if counted else map(_terms, batch)
            points = zip(batch, map(bm25.weigh, terms), self._dense(batch), strict=True)
            self._vectors.upsert(
                [Point(stored.id, document_id, sparse, dense) for stored, sparse, dense in points]
            )
            if progress:
                progress(first + len(batch), len(chunks))
        self._vectors.delete(document_id, keep=[stored.id for stored in chunks])
        return average

    def _dense(self, batch: Sequence[StoredChunk]) -> Iterator[tuple[float, ...] | None]:
        if self._embedding is None:
            yield from (None for _ in batch)
        else:
            yield from self._embedding.passages([indexed_text(item.chunk) for item in batch])

    def _drop_if_gone(self, document_id: str) -> bool:
        gone = self._library.get(document_id) is None
        if gone:
            self._vectors.delete(document_id)
        return gone


def indexed_text(chunk: Chunk) -> str:
    """What is searched: the chunk below its headings.

    A heading that also begins the text counts twice: the section about a word ranks above the
    sections that mention it.
    """
    return "\n".join((*chunk.heading_path, chunk.text))


def _terms(stored: StoredChunk) -> Counter[int]:
    return count_terms(indexed_text(stored.chunk))


def _is_broken(item: IndexedDocument, points: Mapping[str, int]) -> bool:
    return not item.complete or item.chunks != points.get(item.document_id, 0)
