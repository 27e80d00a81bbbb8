"""A library with a few documents, and the search over it with a double of the vector index."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vectors_double import VectorReaderDouble, VectorsDouble

from rag_app.chunking import chunk_document
from rag_app.config import Tuning
from rag_app.indexing import ChunkIndexer
from rag_app.interfaces import Claim, Reading
from rag_app.library import SqliteLibrary
from rag_app.model import Document, Origin, ParsedDocument, Segment
from rag_app.parsing.limits import Limits
from rag_app.parsing.markdown import parse_markdown
from rag_app.retrieval import HybridSearcher

SIGNATURE = "signature-1"
TUNING = Tuning(
    chunk_size=600,
    chunk_overlap=80,
    top_k=6,
    candidates=60,
    fusion_k=60,
    weight_sparse=1.0,
    weight_dense=0.7,
    bm25_k1=1.2,
    bm25_b=0.75,
    evidence_threshold=0.5,
    max_quotes=3,
)


def plain(text: str) -> ParsedDocument:
    """A document of one segment."""
    return ParsedDocument(text, (Segment(0, len(text)),))


@dataclass
class Shelf:
    """Everything needed to put a text in and find it again."""

    library: SqliteLibrary
    vectors: VectorsDouble
    indexer: ChunkIndexer
    searcher: HybridSearcher

    def queue(self, name: str, text: str, origin: Origin = Origin.RELEASE) -> Document:
        """Register a document as the ingest process does."""
        content = text.encode()
        return self.library.add(name, origin, Path(name), sha256(content).hexdigest(), len(content))

    def index_claimed(
        self, content: str | ParsedDocument, progress: Callable[[int, int], None] | None = None
    ) -> list[Claim]:
        """Index what waits longest in the queue, with this content; gives what was refused."""
        return self.indexer.index_many([self.reading(content)], progress)

    def reading(self, content: str | ParsedDocument) -> Reading:
        """Claim what waits longest in the queue; this is what was read in it."""
        (claim,) = self.library.claim(1, 0, 1)
        return Reading(claim, plain(content) if isinstance(content, str) else content)

    def put(self, name: str, text: str, *, markdown: bool = False) -> Document:
        """Register, chunk and index a document."""
        document = self.queue(name, text)
        self.index_claimed(_markdown(text) if markdown else text)
        found = self.library.get(document.id)
        assert found is not None
        return found


def make_shelf(
    folder: Path,
    signature: str = SIGNATURE,
    tuning: Tuning = TUNING,
    vectors: VectorsDouble | None = None,
) -> Shelf:
    """A shelf over a library file in `folder`, which may exist."""
    library = SqliteLibrary(folder)
    vectors = vectors or VectorsDouble()
    indexer = ChunkIndexer(
        library,
        vectors,
        signature,
        lambda parsed: chunk_document(parsed, tuning.chunk_size, tuning.chunk_overlap),
        k1=tuning.bm25_k1,
        b=tuning.bm25_b,
    )
    searcher = HybridSearcher(library, VectorReaderDouble(vectors), signature, tuning)
    return Shelf(library, vectors, indexer, searcher)


def _markdown(text: str) -> ParsedDocument:
    from io import BytesIO

    return parse_markdown(BytesIO(text.encode()), Limits())
