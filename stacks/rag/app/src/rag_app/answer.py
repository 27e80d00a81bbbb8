"""From a question to an answer with citations, as a stream of events.

Order of the events: `Found`, then `Piece`s, at most one `Degraded` (everything shown before it
is void; the pieces after it replace it), and always one `Finished` at the end. The answer in
`Finished` is the truth; the pieces are the same text on its way.

- Below the locked evidence threshold no engine is asked: the release's sentence is the answer.
- A language model's answer counts as grounded only if it cites a passage that it was given.
- When the model fails, before or in the middle of an answer, the extractor answers instead.
"""

from __future__ import annotations

import asyncio
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
from rag_app.text.language import detect

EXTRACTIVE = "extractive"


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
class Degraded:
    """Why a simpler engine answers; the pieces so far are void."""

    reason: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer; `usage` only if the engine counted tokens."""

    answer: Answer
    usage: Usage | None = None


Event = Found | Piece | Degraded | Finished


class _Clock:
    """Milliseconds since the question, by name of what was done then."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self.marks: dict[str, float] = {}

    def mark(self, name: str) -> None:
        self.marks.setdefault(name, round((time.perf_counter() - self._start) * 1000, 2))


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
    ) -> None:
        self._ranking = ranking
        self._extractor = extractor
        self._model = model
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
        passages = ranked.passages
        clock.mark("search_ms")
        if not self._evident(passages):
            yield Found(())
            for event in self._not_in_documents(language, self.engine, clock, ranked.degraded):
                yield event
            return
        yield Found(passages)
        reason = ranked.degraded
        if self._model:
            writing = _Writing(self._model, question, passages, language)
            try:
                async with aclosing(writing.pieces()) as pieces:
                    async for piece in pieces:
                        clock.mark("first_piece_ms")
                        yield piece
                yield self._written(writing, language, clock, ranked.degraded)
                return
            except EngineBusy:
                raise  # A little later there is an answer, which is better than quotes now.
            except EngineFailed as error:
                yield Degraded(str(error))
                reason = f"{error} {ranked.degraded}".rstrip()
        for event in await self._extracted(asked, passages, language, reason, clock):
            yield event

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

    def _written(self, writing: _Writing, language: str, clock: _Clock, degraded: str) -> Finished:
        return self._finished(
            writing.text,
            writing.citations(),
            self.engine,
            language,
            clock,
            degraded=degraded,
            usage=writing.usage,
        )

    async def _extracted(
        self,
        asked: str,
        passages: Sequence[Passage],
        language: str,
        reason: str,
        clock: _Clock,
    ) -> list[Event]:
        # It counts words in the library, which may have to wait for the disk.
        extract = await asyncio.to_thread(self._extractor.extract, asked, passages, language)
        if not extract.citations:
            return self._not_in_documents(language, EXTRACTIVE, clock, degraded=reason)
        clock.mark("first_piece_ms")
        lines = extract.answer.splitlines(keepends=True)
        finished = self._finished(
            extract.answer, extract.citations, EXTRACTIVE, language, clock, degraded=reason
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
            timings=clock.marks,
        )
        return Finished(answer, usage)


class _Writing:
    """One answer of a language model while it is being written."""

    def __init__(
        self,
        model: LanguageModel,
        question: Question,
        passages: tuple[Passage, ...],
        language: str,
    ) -> None:
        self._stream = model.stream(question.text, passages, language, question.history)
        self._passages = passages
        self._markers = MarkerFilter(len(passages))
        self._shown: list[str] = []
        self.usage: Usage | None = None

    @property
    def text(self) -> str:
        """Everything shown so far."""
        return "".join(self._shown)

    async def pieces(self) -> AsyncGenerator[Piece, None]:
        """The pieces with their markers mapped; raises `EngineFailed` also for an empty answer."""
        async with aclosing(self._stream) as stream:
            async for piece in stream:
                if isinstance(piece, Usage):
                    self.usage = piece
                elif shown := self._show(self._markers.feed(piece)):
                    yield shown
        if rest := self._show(self._markers.finish()):
            yield rest
        if not self.text.strip():
            raise EngineFailed("The language model gave an empty answer.")

    def citations(self) -> tuple[Citation, ...]:
        """What the markers in the text stand for, `[1]` first."""
        return tuple(citation(self._passages[number - 1]) for number in self._markers.cited)

    def _show(self, text: str) -> Piece | None:
        if not text:
            return None
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
