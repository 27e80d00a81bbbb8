"""Doubles of what the web process talks to, and the settings to run it over them.

They are doubles: search here is word overlap over paragraphs kept in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rag_app.answer import Answerer, LanguageModel, SmallModel
from rag_app.config import Config
from rag_app.conversation import Turn
from rag_app.engines.openai import Usage
from rag_app.errors import EngineFailed, RerankFailed, VectorsUnavailable
from rag_app.interfaces import Extract, Readiness
from rag_app.model import Citation, Document, DocumentState, Origin, Passage
from rag_app.prompts import PromptTexts, load
from rag_app.retrieval import Ranking
from rag_app.web.server import admission
from rag_app.web.services import Services

RELEASE = "sha256:0123456789ab"
_PARAGRAPH = re.compile(r"^[^\n#][^\n]*(?:\n[^\n#][^\n]*)*", re.MULTILINE)
_WORD = re.compile(r"\w{2,}")


def make_config(folder: Path, **sections: object) -> Config:
    """Settings whose files lie in `folder`; `sections` replace whole sections."""
    prompts = folder / "prompts"
    prompts.mkdir(exist_ok=True)
    texts = {
        "system": "Answer from the passages only.",
        "context": "<passages>\n{passages}\n</passages>\nQuestion:\n{question}",
        "no_evidence_en": "The documents do not hold an answer.",
        "no_evidence_ko": "문서에서 답을 찾지 못했습니다.",
    }
    for name, text in texts.items():
        (prompts / f"{name}.txt").write_text(text, encoding="utf-8")
    values: dict[str, object] = {
        "release": RELEASE,
        "storage": {"data": folder / "data"},
        "tuning": {
            "chunk_size": 600, "chunk_overlap": 80, "top_k": 4, "candidates": 20, "fusion_k": 60,
            "weight_sparse": 1.0, "weight_dense": 0.0, "bm25_k1": 1.2, "bm25_b": 0.75,
            "evidence_threshold": 0.3, "max_quotes": 3,
        },
        "prompts": {name: prompts / f"{name}.txt" for name in texts},
    }  # fmt: skip
    return Config.model_validate({**values, **sections})


def make_passage(number: int = 1, text: str = "", **values: object) -> Passage:
    """A passage with enough evidence."""
    passage = Passage(
        chunk_id=number, document_id=f"d{number}", document=f"document-{number}.md",
        text=text or f"Passage {number}.", start=10 * number, end=10 * number + 5,
        score=1 / number, evidence=0.9, page=number,
    )  # fmt: skip
    return replace(passage, **values)  # type: ignore[arg-type]


class LibraryDouble:
    """Documents in memory; everything added is READY at once unless `state` says otherwise."""

    def __init__(self) -> None:
        self.held: dict[str, Document] = {}
        self.texts: dict[str, str] = {}
        self.sources: dict[str, Path] = {}
        self.state = DocumentState.READY

    def hold(self, name: str, text: str, **values: object) -> Document:
        """Put a document in without a file."""
        encoded = text.encode()
        document = Document(
            id=hashlib.sha256(name.encode()).hexdigest()[:16], name=name, origin=Origin.USER,
            sha256=hashlib.sha256(encoded).hexdigest(), size=len(encoded), state=self.state,
            added="2026-11-22T01:00:00Z", title=name, chunks=1,
        )  # fmt: skip
        document = replace(document, **values)  # type: ignore[arg-type]
        self.held[document.id] = document
        if document.state is DocumentState.READY:
            self.texts[document.id] = text
        return document

    def add(self, name: str, origin: Origin, source: Path, sha256: str, size: int) -> Document:
        text = source.read_bytes().decode("utf-8", errors="replace")
        document = self.hold(name, text, origin=origin, sha256=sha256, size=size)
        self.sources[document.id] = source.rename(source.with_suffix(".kept"))
        return document

    def documents(self) -> list[Document]:
        return sorted(self.held.values(), key=lambda document: document.name)

    def get(self, document_id: str) -> Document | None:
        return self.held.get(document_id)

    def source(self, document_id: str) -> Path | None:
        return self.sources.get(document_id)

    def text(self, document_id: str) -> str | None:
        return self.texts.get(document_id)

    def remove(self, document_id: str) -> bool:
        self.texts.pop(document_id, None)
        return self.held.pop(document_id, None) is not None

    def passages(self) -> list[Passage]:
        """Every paragraph of every text."""
        return [
            Passage(
                chunk_id=match.start(), document_id=document_id,
                document=self.held[document_id].name, text=match.group(0),
                start=match.start(), end=match.end(), score=0.0, evidence=0.0,
                heading_path=tuple(_headings(text[: match.start()])),
            )
            for document_id, text in self.texts.items()
            for match in _PARAGRAPH.finditer(text)
        ]  # fmt: skip


def _headings(text: str) -> list[str]:
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return found[-1:]


class SearcherDouble:
    """Word overlap with the library's paragraphs; or exactly `found`, or `failure`."""

    def __init__(self, library: LibraryDouble) -> None:
        self._library = library
        self.found: list[Passage] | None = None
        self.failure: Exception | None = None
        self.readiness = Readiness(ready=True)
        self.asked: list[str] = []

    async def search(self, question: str, limit: int, language: str | None = None) -> list[Passage]:
        self.asked.append(question)
        if self.failure:
            raise self.failure
        if self.found is not None:
            return self.found[:limit]
        ranked = [_judged(passage, question) for passage in self._library.passages()]
        ranked.sort(key=lambda passage: -passage.score)
        return [passage for passage in ranked if passage.score > 0][:limit]

    async def ready(self, release: str) -> Readiness:
        return self.readiness


def _judged(passage: Passage, question: str) -> Passage:
    words = {word.lower()[:5] for word in _WORD.findall(question)}
    shared = words & {word.lower()[:5] for word in _WORD.findall(passage.text)}
    evidence = len(shared) / max(len(words), 1)
    return replace(passage, score=evidence, evidence=evidence)


@dataclass
class RerankerDouble:
    """Likes texts the more the longer they are; or fails with `failure`."""

    failure: str = ""
    candidates: int = 3
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.asked.append((question, list(texts)))
        if self.failure:
            raise RerankFailed(self.failure)
        longest = max(len(text) for text in texts)
        return [len(text) / longest for text in texts]


class VectorsDouble:
    """Remembers what was deleted; `down` makes every call fail."""

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.down = False

    async def delete(self, document_id: str) -> None:
        self._check()
        self.deleted.append(document_id)

    async def count(self) -> int:
        self._check()
        return 7

    def _check(self) -> None:
        if self.down:
            raise VectorsUnavailable("the vectors double is down")


class ExtractorDouble:
    """Quotes the first sentence of every passage."""

    def extract(self, question: str, passages: Sequence[Passage], language: str) -> Extract:
        citations = tuple(_first_sentence(passage) for passage in passages[:3])
        lines = [_numbered(citation.quote, n) for n, citation in enumerate(citations, start=1)]
        return Extract("\n\n".join(lines), citations)


def _numbered(quote: str, number: int) -> str:
    return f"{quote}\n[{number}]" if quote.startswith("    ") else f"{quote} [{number}]"


def _first_sentence(passage: Passage) -> Citation:
    quote = re.split(r"(?<=[.!?다])\s", passage.text, maxsplit=1)[0]
    return Citation(
        document=passage.document, document_id=passage.document_id, locator=passage.locator,
        quote=quote, score=passage.score, start=passage.start, end=passage.start + len(quote),
    )  # fmt: skip


@dataclass
class LanguageModelDouble:
    """Says `pieces`, then `failure` if there is one; notes what it was given and its end."""

    pieces: Sequence[str | Usage] = ("Yes ", "[1].")
    failure: EngineFailed | None = None
    pause_s: float = 0.0
    name: str = "double-model"
    histories: list[Sequence[Turn]] = field(default_factory=list)
    passages: Sequence[Passage] = ()
    open: int = 0

    async def stream(
        self,
        question: str,
        passages: Sequence[Passage],
        language: str,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[str | Usage, None]:
        self.histories.append(history)
        self.passages = passages
        self.open += 1
        try:
            for piece in self.pieces:
                yield piece
                await asyncio.sleep(self.pause_s)
            if self.failure:
                raise self.failure
        finally:
            self.open -= 1


@dataclass
class Box:
    """The web application's services over doubles."""

    services: Services
    library: LibraryDouble
    searcher: SearcherDouble
    vectors: VectorsDouble


def make_box(
    folder: Path,
    *,
    model: LanguageModel | None = None,
    server: Mapping[str, object] | None = None,
    reranker: RerankerDouble | None = None,
    small: SmallModel | None = None,
) -> Box:
    """Services over doubles; `server` replaces values of the `[server]` section."""
    config = make_config(folder, server=dict(server or {}))
    library, vectors = LibraryDouble(), VectorsDouble()
    searcher = SearcherDouble(library)
    ranking = Ranking(searcher, reranker)
    uploads = folder / "data" / "uploads"
    uploads.mkdir(parents=True, exist_ok=True)
    services = Services(
        config=config,
        library=library,  # type: ignore[arg-type]
        searcher=searcher,
        ranking=ranking,
        vectors=vectors,  # type: ignore[arg-type]
        answerer=make_answerer(config, ranking, model, load(config.prompts), small),
        uploads=uploads,
        admission=admission(config.server),
    )
    return Box(services, library, searcher, vectors)


def make_answerer(
    config: Config,
    ranking: Ranking,
    model: LanguageModel | None,
    prompts: PromptTexts,
    small: SmallModel | None = None,
) -> Answerer:
    """The real orchestration over doubles."""
    return Answerer(
        ranking=ranking,
        extractor=ExtractorDouble(),
        model=model,
        prompts=prompts,
        tuning=config.tuning,
        release=config.release,
        small=small,
    )
