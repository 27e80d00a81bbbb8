"""The seams between the parts of the application: who may ask whom for what.

Implementations: `rag_app.library` (Library), `rag_app.vectors` (VectorReader, VectorWriter),
`rag_app.indexing` (Indexer), `rag_app.retrieval` (Searcher), `rag_app.engines` (Extractor).
The vector protocols are kept narrow on purpose: both the embedded engine's own process and a
Qdrant server must be able to stand behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rag_app.model import (
    Chunk,
    Citation,
    Document,
    DocumentState,
    Origin,
    ParsedDocument,
    Passage,
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A document taken from the queue, at one revision of its content.

    `source` is relative to the box root (or absolute). `attempt` counts from 1 and survives a
    crash of the worker, so that a document that kills its reader is given up in the end.
    """

    document: Document
    source: Path
    revision: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Reading:
    """A claimed document and what was read in it."""

    claim: Claim
    parsed: ParsedDocument


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk with its id (also the id of its point; never used again) and its document."""

    id: int
    document_id: str
    document: str
    language: str
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Statistics:
    """What BM25 needs to know of the chunks of one signature. Lengths count tokens."""

    chunks: int
    tokens: int

    @property
    def average_length(self) -> float:
        """Tokens of a chunk on average; 0.0 where there is no chunk."""
        return self.tokens / self.chunks if self.chunks else 0.0


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a part can do its work now; `reason` is empty when it can.

    `index` names the index that answers: a new one gets a new name, so that whoever remembers
    "everything is indexed" can tell that it was about another index.
    """

    ready: bool
    reason: str = ""
    pending: int = 0
    index: str = ""


class Library(Protocol):
    """Documents, their texts and chunks, and the queue; synchronous, safe to call from any thread.

    Every call is one transaction. A document that is being replaced stays searchable with its
    old text until the new one is searchable.
    """

    def add(self, name: str, origin: Origin, source: Path, sha256: str, size: int) -> Document:
        """Register a document and queue it; the id depends on origin and name only.

        The same bytes again change nothing (a FAILED document is queued again); other bytes
        under the same name replace the document. A user's file is moved into the library's own
        folder (also when nothing changes); a release's file stays where it is.
        """

    def documents(self) -> list[Document]:
        """All documents, by name."""

    def get(self, document_id: str) -> Document | None:
        """The document, or None."""

    def source(self, document_id: str) -> Path | None:
        """The original file, or None for an unknown document."""

    def parsed(self, document_id: str) -> ParsedDocument | None:
        """The stored text with its segments, or None when there is none (yet)."""

    def text(self, document_id: str) -> str | None:
        """The stored text, or None when there is none (yet)."""

    def remove(self, document_id: str) -> bool:
        """Forget the document, its texts, chunks and (a user's) file; False if unknown."""

    def pending(self) -> int:
        """How many documents are queued or being worked on."""

    def claim(self, most: int, most_bytes: int, alone_from: int) -> list[Claim]:
        """Take the documents that wait longest (the release's first); they become PARSING.

        At most `most`, and the first one and as many more as make up `most_bytes` together. A
        document at its `alone_from`th attempt or later comes alone: should it be what kills the
        worker, no other one is given up with it.
        """

    def hand_back(self, claims: Sequence[Claim]) -> None:
        """Queue claimed documents again that nothing went wrong with: no attempt is counted."""

    def requeue_interrupted(self) -> int:
        """Queue again what a stopped worker left in PARSING or INDEXING; for the worker's start."""

    def use_readers(self, version: int) -> int:
        """Queue again what other versions of the readers have read or refused; how many it was.

        Their text stays searchable until it has been read again. For the worker's start.
        """

    def set_state(self, claim: Claim, state: DocumentState, reason: str = "") -> bool:
        """Move a claimed document on; False if it was replaced or removed meanwhile.

        FAILED also drops its text and chunks: what cannot be read must not be quoted.
        """

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """The chunks with these ids that still exist; O(number of ids)."""

    def corpus_ready(self, corpus: str, signature: str, index: str) -> bool:
        """Whether `mark_corpus_ready` was called with exactly these values last."""

    def mark_corpus_ready(self, corpus: str, signature: str, index: str) -> None:
        """Remember that all documents of this corpus are searchable in this index."""


@dataclass(frozen=True, slots=True)
class SparseVector:
    """Term ids (unsigned 32 bit, ascending, distinct) and their weights."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """What the vector store holds of a chunk: its id, its document, its vectors. No text."""

    id: int
    document_id: str
    sparse: SparseVector
    dense: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A point found, with the score of its lane (BM25 or cosine)."""

    id: int
    score: float


@dataclass(frozen=True, slots=True)
class Hits:
    """Ranked hits of each lane, best first; a lane that was not asked is empty."""

    sparse: tuple[Hit, ...] = ()
    dense: tuple[Hit, ...] = ()


class VectorWriter(Protocol):
    """Synchronous side, for ingest. Raises `VectorsUnavailable` when a call cannot be done."""

    def ensure(self) -> str:
        """Make the collection of this signature exist; returns the name of its index."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert or replace points; what was acknowledged survives a crash."""

    def delete(self, document_ids: list[str], keep: Sequence[int] = ()) -> None:
        """Delete all points of these documents but those in `keep`; no error for none."""

    def counts(self) -> Mapping[str, int]:
        """Number of points of each document that has any."""


class VectorReader(Protocol):
    """Asynchronous side, for the web. Raises `VectorsUnavailable` when a call cannot be done."""

    async def search(
        self, sparse: SparseVector | None, dense: Sequence[float] | None, limit: int
    ) -> Hits:
        """The best `limit` points of each lane that is asked."""

    async def delete(self, document_id: str) -> None:
        """Delete all points of a document; no error if there are none."""

    async def count(self) -> int:
        """Number of points."""

    async def ready(self) -> Readiness:
        """Whether a search could be answered now; never raises."""


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """What reconciling found and mended, in documents."""

    reindexed: int = 0
    reweighted: int = 0
    dropped: int = 0


class Indexer(Protocol):
    """Brings chunks into library and vector store so that a crash at any step heals later."""

    def index_many(
        self,
        readings: Sequence[Reading],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Claim]:
        """Chunk, index and store documents, then set READY; gives those that did not count.

        These were replaced or removed meanwhile. `progress(done, total)` counts chunks.

        Raises `VectorsUnavailable` if the vector store cannot be reached; the documents are then
        INDEXING, with the old text searchable, and may be given here once more.
        """

    def reconcile(self) -> Reconciliation:
        """Make the vector store hold exactly what the library says; cheap when it already does.

        Re-chunks documents that have a text but no chunks of this signature (after a change of
        tuning), re-weights where the average length drifted, drops what the library forgot.
        """

    def mark_ready(self, corpus: str) -> None:
        """Record that this corpus is searchable; for when nothing of it is pending."""


class Searcher(Protocol):
    """Finds the passages that may hold the answer."""

    async def search(self, question: str, limit: int, language: str | None = None) -> list[Passage]:
        """The best passages, best first; `language` ("en" or "ko") is detected when None.

        Raises `VectorsUnavailable`.
        """

    async def ready(self, corpus: str) -> Readiness:
        """Whether a question can be answered now, with this corpus (`Config.corpus_id`) indexed."""


@dataclass(frozen=True, slots=True)
class Extract:
    """Quoted sentences and where each stands. `answer` numbers them [1], [2], … in that order."""

    answer: str
    citations: tuple[Citation, ...]


class Extractor(Protocol):
    """The engine without a language model; pure and deterministic, a few milliseconds."""

    def extract(self, question: str, passages: Sequence[Passage], language: str) -> Extract:
        """Quote the sentences that answer best; empty when no passage has any evidence."""
