"""Which of two language models answers a question: simple ones are for the small one.

Pure and deterministic: the same question, passages and locked values give the same route, and no
model has a say in it. Every rule speaks for the large model; the small one gets what none of them
takes away from it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rag_app.config import Tuning
from rag_app.model import Passage

_QUESTION_MARKS = "?？"
# Of the letters of its own alphabet only: particles follow English words in Korean text.
_LATIN = "a-z0-9"


class Model(StrEnum):
    """Who answers."""

    LARGE = "large"
    SMALL = "small"


class Reason(StrEnum):
    """Why. Those of `SMALL_…` say why the large model answered in the place of the small one."""

    SIMPLE = "simple"
    CONVERSATION = "conversation"
    LONG_QUESTION = "long-question"
    SEVERAL_QUESTIONS = "several-questions"
    LARGE_WORDS = "large-words"
    WEAK_EVIDENCE = "weak-evidence"
    SEVERAL_DOCUMENTS = "several-documents"
    SMALL_BUSY = "small-busy"
    SMALL_FAILED = "small-failed"
    SMALL_UNCITED = "small-uncited"


@dataclass(frozen=True, slots=True)
class Route:
    """Who answers a question, and why."""

    model: Model
    reason: Reason


@dataclass(frozen=True, slots=True)
class Limits:
    """The locked values, up to which (for `min_evidence`: from which on) a question is simple.

    Evidence counts from `evidence` on when documents are counted.
    """

    max_characters: int
    max_turns: int
    max_documents: int
    min_evidence: float
    evidence: float


def limits_of(tuning: Tuning) -> Limits:
    """The limits in a tuning that has them all, as `Config` sees to where there is a small model.

    One that is missing leaves nothing to the small model.
    """
    return Limits(
        max_characters=tuning.router_max_characters or 0,
        max_turns=tuning.router_max_turns or 0,
        max_documents=tuning.router_max_documents or 0,
        min_evidence=2.0 if tuning.router_min_evidence is None else tuning.router_min_evidence,
        evidence=tuning.evidence_threshold,
    )


class Router:
    """Routes questions by `limits` and by `words`: English whole, Korean also as parts of words."""

    def __init__(self, limits: Limits, words: Iterable[str]) -> None:
        self._limits = limits
        self._words = _pattern(words)

    def route(self, question: str, turns: int, passages: Sequence[Passage]) -> Route:
        """The route of a question with so many earlier messages; `passages` may not be empty."""
        reason = self._against(question, turns) or self._unclear(passages)
        return Route(Model.LARGE, reason) if reason else Route(Model.SMALL, Reason.SIMPLE)

    def _against(self, question: str, turns: int) -> Reason | None:
        """What of the question itself speaks against the small model."""
        if turns > self._limits.max_turns:
            return Reason.CONVERSATION
        if len(question.strip()) > self._limits.max_characters:
            return Reason.LONG_QUESTION
        if sum(question.count(mark) for mark in _QUESTION_MARKS) > 1:
            return Reason.SEVERAL_QUESTIONS
        if self._words is not None and self._words.search(_folded(question)):
            return Reason.LARGE_WORDS
        return None

    def _unclear(self, passages: Sequence[Passage]) -> Reason | None:
        """What of the passages speaks against it: a small model is to report, not to piece."""
        if max(passage.evidence for passage in passages) < self._limits.min_evidence:
            return Reason.WEAK_EVIDENCE
        telling = {one.document_id for one in passages if one.evidence >= self._limits.evidence}
        return Reason.SEVERAL_DOCUMENTS if len(telling) > self._limits.max_documents else None


def _pattern(words: Iterable[str]) -> re.Pattern[str] | None:
    parts = [_part(_folded(word)) for word in words]
    return re.compile("|".join(parts)) if parts else None


def _part(word: str) -> str:
    escaped = re.escape(word)
    return rf"(?<![{_LATIN}]){escaped}(?![{_LATIN}])" if word.isascii() else escaped


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())
