"""The engine without a language model: it quotes the sentences that answer best, word for word.

Pure and deterministic. Each quote is one span of its document, so that a citation opens at
exactly the words that are shown; a command, a list or code is quoted together with the line that
introduces it, because neither can be understood alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rag_app.interfaces import Extract
from rag_app.model import Citation, Passage
from rag_app.retrieval.evidence import (
    Focus,
    Weighted,
    coverage,
    distinct_words,
    evidence,
    heading_terms,
    terms_asked,
    weigh,
)
from rag_app.text.language import detect
from rag_app.text.quotable import Quotable, quotables
from rag_app.text.tokens import count_terms

# How often each term occurs in the library, and the number of chunks there.
Frequencies = Callable[[Sequence[int]], tuple[Mapping[int, int], int]]

# What a heading says holds for the sentences below it, but they do not say it themselves.
_HEADING_SHARE = 0.6
_FIRST_BONUS = 0.15
_FOCUS_BONUS = 0.3
_COMMAND_BONUS = 0.15
_OTHER_LANGUAGE_FACTOR = 0.6
_FRAGMENT_FACTOR = 0.7
# "This page explains …" promises an answer and gives none.
_ANNOUNCEMENT_FACTOR = 0.7
# How much the rank of its passage counts against the words of a sentence.
_PASSAGE_SHARE = 0.4
# A further quote must be nearly as good as the best one, more so from another section, and say
# something else.
_FURTHER_SHARE = 0.7
_ELSEWHERE_SHARE = 0.85
_MOST_SIMILAR = 0.6

_ASKS_HOW = re.compile(
    r"\bhow (?:do|can|could|should|would|to)\b|\bwhat (?:can|should|must) (?:i|we)\b|\bcommand\b"
    r"|어떻게|방법|명령|하려면|으려면|려면|해야|되돌리|하고 싶",
    re.IGNORECASE,
)
_TELLS_HOW = re.compile(
    r"\b(?:run|type|use|open|set|choose|edit|press|copy|add|enter)\b[^.]{0,30}[`~/$A-Za-z0-9_-]{2,}"
    r"|(?:실행|입력|지정|선택|편집|추가|사용)(?:하|합|한)",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(
    r"(?:this|the following) (?:page|document|chapter|section|manual|guide) \w+s\b"
    r"|이 (?:문서|장|페이지|절|설명서|안내서)[은는]",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A span that could be quoted, with its score and what it is about."""

    passage: Passage
    span: Quotable
    score: float
    covered: float
    terms: frozenset[int]

    @property
    def place(self) -> tuple[str, int, int]:
        return (
            self.passage.document_id,
            self.passage.start + self.span.start,
            self.passage.start + self.span.end,
        )

    @property
    def section(self) -> tuple[str, str]:
        return self.passage.document_id, self.heading

    @property
    def heading(self) -> str:
        return self.span.heading or " ".join(self.passage.heading_path[-1:])

    @property
    def quote(self) -> str:
        return self.passage.text[self.span.start : self.span.end]


class ExtractiveEngine:
    """`rag_app.interfaces.Extractor`; needs no other service."""

    def __init__(self, max_quotes: int, frequencies: Frequencies) -> None:
        self._max_quotes = max_quotes
        self._frequencies = frequencies

    def extract(self, question: str, passages: Sequence[Passage], language: str) -> Extract:
        """See `rag_app.interfaces.Extractor.extract`."""
        asked = self._weigh(question)
        candidates = list(_candidates(asked, question, passages, language))
        chosen = _choose(candidates, self._max_quotes) or _by_meaning(candidates)
        return _written(chosen)

    def _weigh(self, question: str) -> tuple[Weighted, ...]:
        words = distinct_words(question)
        frequencies, chunks = self._frequencies(terms_asked(words))
        return weigh(words, frequencies, chunks)


def _candidates(
    asked: Sequence[Weighted], question: str, passages: Sequence[Passage], language: str
) -> Iterator[_Candidate]:
    best = max((passage.score for passage in passages), default=1.0) or 1.0
    how = bool(_ASKS_HOW.search(question))
    focus = Focus(asked)
    for passage in passages:
        rank = 1 - _PASSAGE_SHARE * (1 - passage.score / best)
        for span in quotables(passage.text):
            candidate = _candidate(asked, passage, span)
            factor = rank * _fitness(candidate, language)
            bonus = _bonus(candidate, focus, how) if candidate.covered else 0.0
            yield replace(candidate, score=(candidate.score + bonus) * factor)


def _candidate(asked: Sequence[Weighted], passage: Passage, span: Quotable) -> _Candidate:
    own = frozenset(count_terms(passage.text[span.start : span.end]))
    candidate = _Candidate(passage, span, 0.0, evidence(asked, own), own)
    above = frozenset(chain.from_iterable(heading_terms(candidate.heading)))
    score = sum(
        item.share * max(coverage(item.word, own), _HEADING_SHARE * coverage(item.word, above))
        for item in asked
    )
    return replace(candidate, score=score)


def _fitness(candidate: _Candidate, language: str) -> float:
    factor = 1.0 if detect(candidate.quote) == language else _OTHER_LANGUAGE_FACTOR
    if _ANNOUNCES.match(candidate.quote):
        factor *= _ANNOUNCEMENT_FACTOR
    return factor * (1.0 if candidate.span.complete else _FRAGMENT_FACTOR)


def _bonus(candidate: _Candidate, focus: Focus, how: bool) -> float:
    focused = _FOCUS_BONUS * focus.of(candidate.heading)
    first = _FIRST_BONUS if candidate.span.first else 0.0
    tells = how and (candidate.span.has_code or _TELLS_HOW.search(candidate.quote))
    return focused + first + (_COMMAND_BONUS if tells else 0.0)


def _choose(candidates: Sequence[_Candidate], most: int) -> list[_Candidate]:
    """The best candidates that say different things, in the order of their scores."""
    ordered = sorted(candidates, key=lambda candidate: (-candidate.score, candidate.place))
    chosen: list[_Candidate] = []
    for candidate in ordered:
        if len(chosen) == most or candidate.score <= 0:
            break
        if not chosen or _adds(candidate, chosen):
            chosen.append(candidate)
    return _in_reading_order(chosen)


def _by_meaning(candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The first whole sentence of the passage that was found by meaning, not by words."""
    whole = [
        candidate
        for candidate in candidates
        if candidate.span.complete and candidate.passage.evidence > 0
    ]
    return [max(whole, key=lambda candidate: candidate.passage.evidence)] if whole else []


def _adds(candidate: _Candidate, chosen: Sequence[_Candidate]) -> bool:
    best = chosen[0]
    share = _FURTHER_SHARE if candidate.section == best.section else _ELSEWHERE_SHARE
    good = candidate.score >= share * best.score
    return good and not any(_repeats(candidate, other) for other in chosen)


def _repeats(candidate: _Candidate, other: _Candidate) -> bool:
    document, start, end = candidate.place
    other_document, other_start, other_end = other.place
    if document == other_document and start < other_end and other_start < end:
        return True
    common = len(candidate.terms & other.terms)
    return common > _MOST_SIMILAR * min(len(candidate.terms), len(other.terms))


def _in_reading_order(chosen: Iterable[_Candidate]) -> list[_Candidate]:
    """Sections in the order of their best quote; within one, as they stand there."""
    sections: dict[tuple[str, str], list[_Candidate]] = {}
    for candidate in chosen:
        sections.setdefault(candidate.section, []).append(candidate)
    return [
        candidate
        for quoted in sections.values()
        for candidate in sorted(quoted, key=lambda candidate: candidate.place)
    ]


def _written(chosen: Sequence[_Candidate]) -> Extract:
    lines = [_numbered(candidate, number) for number, candidate in enumerate(chosen, start=1)]
    return Extract("\n\n".join(lines), tuple(map(_citation, chosen)))


def _numbered(candidate: _Candidate, number: int) -> str:
    # A mark in the last line of a listing would look like a part of it.
    between = "\n" if candidate.span.ends_in_code else " "
    return f"{candidate.quote}{between}[{number}]"


def _citation(candidate: _Candidate) -> Citation:
    document_id, start, end = candidate.place
    passage = candidate.passage
    return Citation(
        document=passage.document,
        document_id=document_id,
        locator=passage.locator,
        quote=candidate.quote,
        score=round(min(1.0, candidate.score), 4),
        start=start,
        end=end,
    )
