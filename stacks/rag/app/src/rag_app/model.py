"""The values that travel between the parts of the application. No behaviour, no effects.

Character spans (`start`, `end`) always count Unicode code points in the document's extracted
text, half-open, so that a citation can be opened at exactly the passage it quotes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a document's text that shares one place: a page, or one heading path."""

    start: int
    end: int
    page: int | None = None
    heading_path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """What a parser gives: the whole text once, and segments that cover it in order."""

    text: str
    segments: tuple[Segment, ...]
    title: str = ""
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """One unit of retrieval. `text` equals `document.text[start:end]`."""

    ordinal: int
    start: int
    end: int
    text: str
    page: int | None = None
    heading_path: tuple[str, ...] = ()


class DocumentState(Enum):
    """Where a document stands; only READY documents are searchable.

    One that is being replaced is searchable with its old text until the new one is stored.
    """

    QUEUED = "queued"
    PARSING = "parsing"
    INDEXING = "indexing"
    READY = "ready"
    FAILED = "failed"


class Origin(Enum):
    """Who brought a document: the release (its own manual) or a user."""

    RELEASE = "release"
    USER = "user"


@dataclass(frozen=True, slots=True)
class Document:
    """One document as the library knows it. `id` is stable over changes of content."""

    id: str
    name: str
    origin: Origin
    sha256: str
    size: int
    state: DocumentState
    reason: str = ""
    added: str = ""
    title: str = ""
    pages: int | None = None
    chunks: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """A search hit. `evidence` in 0..1 says how much of the question it covers.

    `score` in 0..1 is the fused score or the reranker's, made smaller where the language is not
    the question's.
    """

    chunk_id: int
    document_id: str
    document: str
    text: str
    start: int
    end: int
    score: float
    evidence: float
    page: int | None = None
    heading_path: tuple[str, ...] = ()
    language: str = ""

    @property
    def locator(self) -> str:
        """Where in the document, for people: `page 3` or `Operate › Roll back`."""
        if self.page is not None:
            return f"page {self.page}"
        return " › ".join(self.heading_path)


@dataclass(frozen=True, slots=True)
class Citation:
    """A quote that stands in a document, with where it stands."""

    document: str
    document_id: str
    locator: str
    quote: str
    score: float
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and what it rests on. `grounded` is false when the documents do not hold it.

    `degraded` is empty, or says in sentences what did not work: why a simpler engine answered,
    why passages are in the order of the search alone. `route` says why this model answered
    (`rag_app.routing.Reason`); empty where there was none to choose.
    """

    answer: str
    grounded: bool
    citations: tuple[Citation, ...]
    engine: str
    release: str
    language: str
    degraded: str = ""
    route: str = ""
    timings: dict[str, float] = field(default_factory=dict)
