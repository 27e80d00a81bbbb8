"""From a question to an answer with citations, as a stream of events.

Order of the events: `Found`, then `Piece`s, at most one `Void` and then at most one `Degraded`
(everything shown before them is void; the pieces after them replace it), and always one `Finished`
at the end. The answer in `Finished` is the truth; the pieces are the same text on its way.

- Below the locked evidence threshold no engine is asked: the release's sentence is the answer.
- A language model's answer counts as grounded only if it cites a passage that it was given.
- Where there is a small model, `rag_app.routing` says who answers. What the small one writes is
  shown from its first citation on; when there is none, or it fails, the large one answers.
- When the model fails, before or in the middle of an answer, the extractor answers instead.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from rag_app.config import Tuning
from rag_app.conversation import Question, Turn
from rag_app.engines.openai import Usage
from rag_app.errors import EngineBusy, EngineFailed
from rag_app.interfaces import Extractor
from rag_app.markers import MarkerFilter
from rag_app.model import Answer, Citation, Passage
from rag_app.prompts import PromptTexts
from rag_app.retrieval.ranking import Ranked, Ranking
from rag_app.routing import Model, Reason, Router
from rag_app.text.language import detect

EXTRACTIVE = "extractive"
_LOG = logging.getLogger(__name__)


class LanguageModel(Protocol):
    """An engine that also hears earlier turns and reports its usage as the last thing it yields."""

    name: str

    def stream(
        self,
        question: str,
        passages: Sequence[Passage],
        language: str,
        history: Sequence[Turn] = (),
    ) -> AsyncGenerator[str | Usage, None]:
        """The answer in pieces; raises `EngineFailed`, possibly after some pieces."""


@dataclass(frozen=True, slots=True)
class Found:
    """The passages that the answer will rest on, best first."""

    passages: tuple[Passage, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Void:
    """The pieces so far are void: another model answers anew, for the reason in `route`."""

    route: str


@dataclass(frozen=True, slots=True)
class Degraded:
    """Why a simpler engine answers; the pieces so far are void."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer; `usage` only if the engine counted tokens."""

    answer: Answer
    usage: Usage | None = None


Event = Found | Piece | Void | Degraded | Finished


@dataclass(frozen=True, slots=True)
class SmallModel:
    """A second model for simple questions, and what tells which these are."""

    model: LanguageModel
    router: Router


class _Clock:
    """Milliseconds since the question, by name of what was done then."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, round((time.perf_counter() - self._start) * 1000, 2))


@dataclass(slots=True)
class _Work:
    """One question under way: what is written from, and what has happened to it."""

    question: Question
    passages: tuple[Passage, ...]
    language: str
    clock: _Clock
    degraded: str
    route: str = ""
    is_void: bool = False


class Answerer:
    """Answers questions; holds no state between them."""

    def __init__(
        self,
        *,
        ranking: Ranking,
        extractor: Extractor,
        model: LanguageModel | None,
        prompts: PromptTexts,
        tuning: Tuning,
        release: str,
        small: SmallModel | None = None,
    ) -> None:
        self._ranking = ranking
        self._extractor = extractor
        self._model = model
        self._small = small
        self._prompts = prompts
        self._tuning = tuning
        self._release = release

    @property
    def engine(self) -> str:
        """Name of the engine that answers when nothing is wrong."""
        return self._model.name if self._model else EXTRACTIVE

    async def events(self, question: Question) -> AsyncGenerator[Event, None]:
        """Answer `question`; raises `VectorsUnavailable` before the first event only.

        Raises `EngineBusy` before the first `Piece`.
        """
        clock = _Clock()
        language = question.language or detect(question.text)
        asked, ranked = await self._search(question, language)
        clock.mark("search_ms")
        if not self._evident(ranked.passages):
            yield Found(())
            for event in self._not_in_documents(language, self.engine, clock, ranked.degraded):
                yield event
            return
        yield Found(ranked.passages)
        work = _Work(question, ranked.passages, language, clock, degraded=ranked.degraded)
        for attempt in (self._by_small, self._by_large):
            async with aclosing(attempt(work)) as events:
                async for event in events:
                    yield event
                    if isinstance(event, Finished):
                        return
        for event in await self._extracted(asked, work):
            yield event

    async def _by_small(self, work: _Work) -> AsyncGenerator[Event, None]:
        """The small model's answer, where that is who answers; without `Finished` where not."""
        if self._small is None:
            return
        route = self._small.router.route(
            work.question.text, len(work.question.history), work.passages
        )
        work.route = route.reason
        if route.model is Model.LARGE:
            return
        writing = _Writing(self._small.model, work, cites_first=True)
        try:
            async with aclosing(writing.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            yield self._written(writing, work)
        except EngineFailed as error:
            work.route = _instead_of_small(error)
            _LOG.warning("%s: the large model answers instead: %s", work.route, error)
            if writing.text:
                work.is_void = True
                yield Void(work.route)

    async def _by_large(self, work: _Work) -> AsyncGenerator[Event, None]:
        """The language model's answer; without `Finished` where there is none or it fails."""
        if self._model is None:
            return
        writing = _Writing(self._model, work)
        try:
            async with aclosing(writing.pieces()) as pieces:
                async for piece in pieces:
                    yield piece
            yield self._written(writing, work)
        except EngineFailed as error:
            if isinstance(error, EngineBusy) and not work.is_void:
                raise  # A little later there is an answer, which is better than quotes now.
            yield Degraded(str(error))
            work.degraded = f"{error} {work.degraded}".rstrip()

    async def _search(self, question: Question, language: str) -> tuple[str, Ranked]:
        """What was asked and what it found; a follow-up that says too little gets its context."""
        ranked = await self._ranking.search(question.text, self._tuning.top_k, language)
        in_context = question.in_context()
        if in_context and not self._evident(ranked.passages):
            ranked = await self._ranking.search(in_context, self._tuning.top_k, language)
            return in_context, ranked
        return question.text, ranked

    def _evident(self, passages: Sequence[Passage]) -> bool:
        best = max((passage.evidence for passage in passages), default=0.0)
        return bool(passages) and best >= self._tuning.evidence_threshold

    def _not_in_documents(
        self, language: str, engine: str, clock: _Clock, degraded: str = ""
    ) -> list[Event]:
        text = self._prompts.no_evidence[language]
        return [Piece(text), self._finished(text, (), engine, language, clock, degraded=degraded)]

    def _written(self, writing: _Writing, work: _Work) -> Finished:
        return self._finished(
            writing.text,
            writing.citations(),
            writing.engine,
            work.language,
            work.clock,
            degraded=work.degraded,
            route=work.route,
            usage=writing.usage,
        )

    async def _extracted(self, asked: str, work: _Work) -> list[Event]:
        # It counts words in the library, which may have to wait for the disk.
        extract = await asyncio.to_thread(
            self._extractor.extract, asked, work.passages, work.language
        )
        if not extract.citations:
            return self._not_in_documents(
                work.language, EXTRACTIVE, work.clock, degraded=work.degraded
            )
        work.clock.mark("first_piece_ms")
        lines = extract.answer.splitlines(keepends=True)
        finished = self._finished(
            extract.answer,
            extract.citations,
            EXTRACTIVE,
            work.language,
            work.clock,
            degraded=work.degraded,
            route=work.route,
        )
        return [*(Piece(line) for line in lines), finished]

    def _finished(
        self,
        text: str,
        citations: tuple[Citation, ...],
        engine: str,
        language: str,
        clock: _Clock,
        *,
        degraded: str = "",
        route: str = "",
        usage: Usage | None = None,
    ) -> Finished:
        clock.mark("total_ms")
        answer = Answer(
            answer=text,
            grounded=bool(citations),
            citations=citations,
            engine=engine,
            release=self._release,
            language=language,
            degraded=degraded,
            route=route,
            timings=clock.marks,
        )
        return Finished(answer, usage)


class _Uncited(EngineFailed):
    """An answer that had to cite a passage and does not."""


def _instead_of_small(error: EngineFailed) -> Reason:
    if isinstance(error, _Uncited):
        return Reason.SMALL_UNCITED
    return Reason.SMALL_BUSY if isinstance(error, EngineBusy) else Reason.SMALL_FAILED


class _Writing:
    """One answer of a language model while it is being written.

    With `cites_first` nothing of it is shown before it has cited a passage that it was given.
    """

    def __init__(self, model: LanguageModel, work: _Work, *, cites_first: bool = False) -> None:
        question, passages = work.question, work.passages
        self.engine = model.name
        self._stream = model.stream(question.text, passages, work.language, question.history)
        self._passages = passages
        self._clock = work.clock
        self._cites_first = cites_first
        self._markers = MarkerFilter(len(passages))
        self._held = ""
        self._shown: list[str] = []
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        """Everything shown so far."""
        return "".join(self._shown)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The pieces with their markers mapped; raises `EngineFailed` also for an empty answer,
        and for one without a citation where it had to cite."""
        async with aclosing(self._stream) as stream:
            async for piece in stream:
                if isinstance(piece, Usage):
                    self.usage = piece
                elif shown := self._show(self._markers.feed(piece)):
                    yield shown
        if rest := self._show(self._markers.finish()):
            yield rest
        if not (self.text + self._held).strip():
            raise EngineFailed("The language model gave an empty answer.")
        if self._held:
            raise _Uncited("The language model's answer cites none of the passages.")

    def citations(self) -> tuple[Citation, ...]:
        """What the markers in the text stand for, `[1]` first."""
        return tuple(citation(self._passages[number - 1]) for number in self._markers.cited)

    def _show(self, text: str) -> Piece | None:
        text, self._held = self._held + text, ""
        if self._cites_first and not self._markers.cited:
            self._held = text
            return None
        if not text:
            return None
        self._clock.mark("first_piece_ms")
        self._shown.append(text)
        return Piece(text)


def citation(passage: Passage) -> Citation:
    """The citation of a whole passage."""
    return Citation(
        document=passage.document,
        document_id=passage.document_id,
        locator=passage.locator,
        quote=passage.text,
        score=passage.score,
        start=passage.start,
        end=passage.end,
    )
