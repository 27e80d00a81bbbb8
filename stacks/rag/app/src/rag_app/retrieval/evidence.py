"""How much of a question a text covers.

Every content word of the question counts by how rare it is in the library (its IDF) and by
`rag_app.text.stopwords`; a text covers a word when it holds its stem, and partly when it holds
only parts of it. A word that no document holds counts most: it is what the question is about,
and nothing here says anything about it.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rag_app.text.tokens import Word, words

# A word that is only covered by its parts is not surely the same word.
_PARTS_SHARE = 0.9
_ALTERNATIVE_SHARE = 0.95
# Korean inflects at the end: each pair of syllables says less about the stem than the one before.
_PART_DECAY = 0.8
# Common words must count for something, or a question of common words has no evidence at all;
# rare ones not for everything, or one unusual verb decides.
_LEAST_WEIGHT = 0.35
_PREDICATE_WEIGHT = 0.6
# A noun that stands nowhere is most likely what the question is about.
_UNKNOWN_NOUN_WEIGHT = 1.4
# About 3 MB.
_REMEMBERED_HEADINGS = 4000


@dataclass(frozen=True, slots=True)
class Weighted:
    """A word of the question and its share of the question's content."""

    word: Word
    share: float


def weigh(
    distinct: Sequence[Word], frequencies: Mapping[int, int], chunks: int
) -> tuple[Weighted, ...]:
    """The distinct content words with shares that sum to 1, to less if all of them are filler."""
    weights = [_importance(word, frequencies, chunks) for word in distinct]
    # A question of filler words alone asks for nothing that a text could be about.
    total = sum(weights) / max((word.weight for word in distinct), default=1.0)
    return tuple(
        Weighted(word, weight / total) for word, weight in zip(distinct, weights, strict=True)
    )


def distinct_words(question: str) -> list[Word]:
    """The content words of a question, each once."""
    return list({word.stem: word for word in words(question)}.values())


def evidence(question: Sequence[Weighted], terms: Container[int]) -> float:
    """Share of the question that a text with these terms covers, in 0..1."""
    return sum(item.share * coverage(item.word, terms) for item in question)


class Focus:
    """How exactly headings name what is asked, for one question."""

    def __init__(self, question: Sequence[Weighted]) -> None:
        self._question = question
        self._wanted = frozenset(terms_asked(item.word for item in question))
        self._known: dict[str, float] = {}

    def of(self, heading: str) -> float:
        """In 0..1: 1 where the heading names all that is asked and nothing else."""
        if heading not in self._known:
            self._known[heading] = self._measure(heading_terms(heading))
        return self._known[heading]

    def _measure(self, named: Sequence[tuple[int, ...]]) -> float:
        fitting = sum(1 for terms in named if not self._wanted.isdisjoint(terms))
        if not fitting:
            return 0.0
        every = frozenset(term for terms in named for term in terms)
        return evidence(self._question, every) * fitting / len(named)


@lru_cache(maxsize=_REMEMBERED_HEADINGS)
def heading_terms(heading: str) -> tuple[tuple[int, ...], ...]:
    """The terms of each word of a heading: few headings stand above many chunks."""
    return tuple(word.terms for word in words(heading))


def terms_asked(question: Iterable[Word]) -> list[int]:
    """All terms that these words of a question may be found by in a text."""
    return [term for word in question for term in (*word.terms, *word.alternatives)]


def coverage(word: Word, terms: Container[int]) -> float:
    """How surely a text with these terms holds the word, in 0..1."""
    if word.stem in terms:
        return 1.0
    if any(other in terms for other in (*word.forms, *word.alternatives)):
        return _ALTERNATIVE_SHARE
    parts = [part for part in word.parts if part != word.stem]
    if not parts:
        return 0.0
    weights = [_PART_DECAY**position for position in range(len(parts))]
    held = sum(weight for weight, part in zip(weights, parts, strict=True) if part in terms)
    return _PARTS_SHARE * held / sum(weights)


def _importance(word: Word, frequencies: Mapping[int, int], chunks: int) -> float:
    kind = _PREDICATE_WEIGHT if word.predicate else 1.0
    return word.weight * kind * _rarity(word, frequencies, chunks)


def _rarity(word: Word, frequencies: Mapping[int, int], chunks: int) -> float:
    """Normalised IDF in `_LEAST_WEIGHT`..1; of the rarest known part where the stem is unknown."""
    known = frequencies.get(word.stem, 0)
    if not known:
        others = (*word.alternatives, *word.forms, *word.parts)
        known = min((frequencies[other] for other in others if frequencies.get(other)), default=0)
    if not known and not word.predicate and word.weight == 1:
        return _UNKNOWN_NOUN_WEIGHT
    idf = math.log(1 + (chunks - known + 0.5) / (known + 0.5))
    highest = math.log(1 + (chunks + 0.5) / 0.5)
    return _LEAST_WEIGHT + (1 - _LEAST_WEIGHT) * idf / highest
