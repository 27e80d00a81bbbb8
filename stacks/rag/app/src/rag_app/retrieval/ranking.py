"""Search, then the order that a reranking model gives the passages found, where there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from rag_app.errors import RerankFailed
from rag_app.interfaces import Searcher
from rag_app.model import Passage
from rag_app.retrieval.searcher import OTHER_LANGUAGE_FACTOR
from rag_app.text.language import detect


class Reranker(Protocol):
    """Says how well texts answer a question."""

    @property
    def candidates(self) -> int:
        """How many texts to give it for one question."""

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """A number in 0..1 for each text, in their order; raises `RerankFailed`."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Passages, best first; `degraded` says why they are in the order of the search alone."""

    passages: tuple[Passage, ...]
    degraded: str = ""


class Ranking:
    """A searcher and the reranker behind it; holds no state between questions."""

    def __init__(self, searcher: Searcher, reranker: Reranker | None = None) -> None:
        self._searcher = searcher
        self._reranker = reranker

    async def search(self, question: str, limit: int, language: str | None = None) -> Ranked:
        """The best `limit` passages; raises `VectorsUnavailable` as the searcher does.

        When the reranker fails, the order of the search stays.
        """
        if self._reranker is None:
            return Ranked(tuple(await self._searcher.search(question, limit, language)))
        most = max(limit, self._reranker.candidates)
        found = await self._searcher.search(question, most, language)
        if len(found) < 2:
            return Ranked(tuple(found[:limit]))
        try:
            scores = await self._reranker.scores(question, [_text(passage) for passage in found])
        except RerankFailed as error:
            return Ranked(tuple(found[:limit]), f"{error} Passages are in the order of the search.")
        wished = language or detect(question)
        rescored = [
            replace(passage, score=score * _preference(passage, wished))
            for passage, score in zip(found, scores, strict=True)
        ]
        # Sorting is stable: of equal ones the first of the search comes first.
        return Ranked(tuple(sorted(rescored, key=lambda passage: -passage.score)[:limit]))


def _text(passage: Passage) -> str:
    """The passage below its headings, as it is searched."""
    return "\n".join((*passage.heading_path, passage.text))


def _preference(passage: Passage, language: str) -> float:
    return 1.0 if passage.language in ("", language) else OTHER_LANGUAGE_FACTOR
