"""Brings chunks into the library and the vector index, so that a crash at any step heals.

The order of the steps is what makes it heal: points are written first, under ids that no chunk
has, so that nothing finds them; then one transaction puts text and chunks into the library and
takes out what they replace; then the points of what was replaced go. A crash leaves points that
the library does not know, or an index that lost its content: `reconcile` notices both by the
number of points of each document. A document whose text never came in is still in the queue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TypeVar

from rag_app.embedding import EmbeddingClient
from rag_app.interfaces import Claim, Point, Reading, Reconciliation, StoredChunk, VectorWriter
from rag_app.library import SqliteLibrary
from rag_app.library.chunks import Draft, IndexedDocument
from rag_app.model import Chunk, ParsedDocument
from rag_app.text.tokens import count_terms
from rag_app.vectors.bm25 import Bm25
from rag_app.vectors.signature import KEPT_SIGNATURES

# Points in one call of the index: each call costs a flush, whatever it brings.
BATCH = 500
# Terms of more chunks than this are counted twice instead of being kept: 20 KB each.
KEPT_TERMS = 2000
# How far the average length may move before the weights of old chunks are made anew.
TOLERATED_DRIFT = 0.1
# Characters; only decides how many stored texts are cut at once.
_USUAL_CHUNK = 500

_Item = TypeVar("_Item")
Chunker = Callable[[ParsedDocument], Sequence[Chunk]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Content:
    """What a document is to be cut from: what was just read, or the text in the library."""

    document_id: str
    parsed: ParsedDocument
    reading: Reading | None = None


@dataclass(frozen=True, slots=True)
class _Unit:
    """A chunk under its id; its terms, if they are kept."""

    id: int
    document_id: str
    chunk: Chunk
    terms: Counter[int] | None = None

    def count(self) -> Counter[int]:
        return self.terms or count_terms(indexed_text(self.chunk))


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
        # Documents whose writing was begun and not ended: they may have points of no chunk.
        self._begun: set[str] = set()

    def index_many(
        self, readings: Sequence[Reading], progress: Progress | None = None
    ) -> list[Claim]:
        """See `rag_app.interfaces.Indexer.index_many`."""
        contents = [_Content(item.claim.document.id, item.parsed, item) for item in readings]
        refused = self._bring_in(contents, progress)
        return [draft.reading.claim for draft in refused if draft.reading]

    def reconcile(self) -> Reconciliation:
        """See `rag_app.interfaces.Indexer.reconcile`."""
        self._vectors.ensure()
        self._library.use_signature(self._signature, KEPT_SIGNATURES)
        points = self._vectors.counts()
        known = self._library.indexed(self._signature)
        unknown = [document for document in points if document not in known]
        for some in _groups(unknown, lambda _: 1):
            self._vectors.delete(some)
        broken = [item for item in known.values() if _is_broken(item, points)]
        self._begun.update(item.document_id for item in broken if item.document_id in points)
        written = self._write_again([item for item in broken if item.complete])
        made = self._make_again(item for item in broken if not item.complete)
        return Reconciliation(written + made, self._weigh_again(), len(unknown))

    def mark_ready(self, corpus: str) -> None:
        """Record that this corpus is searchable in the index that is open now."""
        self._library.mark_corpus_ready(corpus, self._signature, self._vectors.ensure())

    def _bring_in(self, contents: Sequence[_Content], progress: Progress | None) -> list[Draft]:
        """Index and store documents; gives what the library refused."""
        drafts, units = self._drafts(contents)
        average = self._library.statistics_with(self._signature, drafts).average_length
        ids = {draft.document_id for draft in drafts}
        replaced = self._library.indexed_among(ids, self._signature) | (self._begun & ids)
        self._begun |= ids
        self._write(units, average, progress)
        refused = self._library.publish(self._signature, drafts, average)
        self._drop_points(replaced.union(draft.document_id for draft in refused))
        self._begun -= ids
        return refused

    def _drafts(self, contents: Sequence[_Content]) -> tuple[list[Draft], list[_Unit]]:
        cut = [self._chunker(content.parsed) for content in contents]
        claims = [content.reading.claim for content in contents if content.reading]
        first = self._library.reserve(sum(map(len, cut)), claims)
        drafts: list[Draft] = []
        units: list[_Unit] = []
        for content, chunks in zip(contents, cut, strict=True):
            own = _units(content.document_id, chunks, first)
            terms, tokens = _totals(own)
            drafts.append(Draft(content.document_id, chunks, first, terms, tokens, content.reading))
            units += own
            first += len(chunks)
        return drafts, units

    def _make_again(self, items: Iterable[IndexedDocument]) -> int:
        """Cut stored texts for this signature; how many were indexed."""
        texts = ((item.document_id, self._library.parsed(item.document_id)) for item in items)
        contents = (_Content(document_id, parsed) for document_id, parsed in texts if parsed)
        done = 0
        for some in _groups(contents, lambda one: 1 + len(one.parsed.text) // _USUAL_CHUNK):
            done += len(some) - len(self._bring_in(some, None))
        return done

    def _write_again(self, items: Iterable[IndexedDocument]) -> int:
        """Write the points of chunks that the library holds; of how many documents."""
        average = self._library.statistics(self._signature).average_length
        done = 0
        for some in _groups(items, lambda item: 1 + item.chunks):
            ids = {item.document_id for item in some}
            held = (self._library.chunks_of(one, self._signature) for one in ids)
            self._write([_unit(stored) for chunks in held for stored in chunks], average, None)
            self._library.weighted(ids, self._signature, average)
            removed = {one for one in ids if self._library.get(one) is None}
            self._drop_points(removed | (self._begun & ids))
            self._begun -= ids
            done += len(ids) - len(removed)
        return done

    def _weigh_again(self) -> int:
        average = self._library.statistics(self._signature).average_length
        return self._write_again(
            item
            for item in self._library.indexed(self._signature).values()
            if item.chunks and abs(item.average_length - average) > TOLERATED_DRIFT * average
        )

    def _write(self, units: Sequence[_Unit], average: float, progress: Progress | None) -> None:
        bm25 = Bm25(self._k1, self._b, average)
        for first in range(0, len(units), BATCH):
            batch = units[first : first + BATCH]
            self._vectors.upsert(
                [
                    Point(unit.id, unit.document_id, bm25.weigh(unit.count()), dense)
                    for unit, dense in zip(batch, self._dense(batch), strict=True)
                ]
            )
            if progress:
                progress(first + len(batch), len(units))

    def _dense(self, batch: Sequence[_Unit]) -> Iterator[tuple[float, ...] | None]:
        if self._embedding is None:
            yield from (None for _ in batch)
        else:
            yield from self._embedding.passages([indexed_text(unit.chunk) for unit in batch])

    def _drop_points(self, document_ids: Set[str]) -> None:
        """Leave these documents no points but those of their chunks; most have no others."""
        if document_ids:
            held = self._library.chunk_ids(document_ids, self._signature)
            self._vectors.delete(sorted(document_ids), keep=held)


def indexed_text(chunk: Chunk) -> str:
    """What is searched: the chunk below its headings.

    A heading that also begins the text counts twice: the section about a word ranks above the
    sections that mention it.
    """
    return "\n".join((*chunk.heading_path, chunk.text))


def _units(document_id: str, chunks: Sequence[Chunk], first: int) -> list[_Unit]:
    kept = len(chunks) <= KEPT_TERMS
    return [
        _Unit(identity, document_id, chunk, count_terms(indexed_text(chunk)) if kept else None)
        for identity, chunk in enumerate(chunks, start=first)
    ]


def _unit(stored: StoredChunk) -> _Unit:
    return _Unit(stored.id, stored.document_id, stored.chunk)


def _totals(units: Iterable[_Unit]) -> tuple[Counter[int], int]:
    """In how many chunks each term occurs, and how long they are together."""
    counts: Counter[int] = Counter()
    tokens = 0
    for unit in units:
        terms = unit.count()
        counts.update(terms.keys())
        tokens += sum(terms.values())
    return counts, tokens


def _groups(items: Iterable[_Item], size: Callable[[_Item], int]) -> Iterator[list[_Item]]:
    """The items in lists that are complete once they are worth a call of the index."""
    group: list[_Item] = []
    total = 0
    for item in items:
        group.append(item)
        total += size(item)
        if total >= BATCH:
            yield group
            group, total = [], 0
    if group:
        yield group


def _is_broken(item: IndexedDocument, points: Mapping[str, int]) -> bool:
    return not item.complete or item.chunks != points.get(item.document_id, 0)
