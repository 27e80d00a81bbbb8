"""Splits text into sentences and keeps together what can only be read together.

Every unit is a span (code points, half-open) of the text that was given. Works on prose in
English and Korean and on the plain text of manuals: list items, code lines, headings, rows of a
table, with or without Markdown marks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a unit is to a reader."""

    PROSE = "prose"
    ITEM = "item"
    CODE = "code"
    HEADING = "heading"
    ROW = "row"


@dataclass(frozen=True, slots=True)
class Sentence:
    """One unit: `text[start:end]` without white space around it but the indentation of code."""

    start: int
    end: int
    kind: Kind


_LINE = re.compile(r"[^\n]+")
_FENCE = re.compile(r"\s*(`{3,}|~{3,})")
_HEADING = re.compile(r"\s*#{1,6}\s")
_ITEM = re.compile(
    r"\s*(?:[-*+•·‣▪○●]|\(?\d{1,3}[.)]|[가나다라마바사아자차카타파하][.)]|[①-⑳])\s+\S"
)
_ROW = re.compile(r"\s*\|.*\|\s*$|[^\t]+\t[^\t]+")
_INDENTED = re.compile(r"(?: {4}|\t)\s*\S")
_COMMAND = re.compile(
    r"\s*(?:[$>]\s+\S|\./\S|(?:sudo|aibox|docker|curl|systemctl|loginctl|pip|python3?|git|cd|export)\s"
    r"|[A-Z_]{3,}=\S)"
)
# A full stop ends a sentence only before white space and something that can begin one.
_BREAK = re.compile(
    r"[.!?。！？…]+[\"'”’)\]`]*(?=\s+[\"'“‘(\[`]*[A-Z0-9가-힣])"
    # A Korean sentence may go on with a command or a name in small letters.
    r"|(?<=[가-힣])[.!?…]+[\"'”’)\]`]*(?=\s+\S)"
    r"|[。！？](?=\S)"
)
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|no|nr|fig|dr|mr|mrs|ms|prof|inc|ltd|st|sec|ch|vol)"
    r"|(?:^|[\s(])[A-Z]|^\d{1,3})\.$",
    re.IGNORECASE,
)
_LONGEST_ABBREVIATION = 10
_FULL_STOP = re.compile(r"[.!?。！？…:][\"'”’)\]`*]*$")
_PROSE_LENGTH = 60


def split(text: str) -> list[Sentence]:
    """The units of `text` in order; together they hold every character that is not white space."""
    units: list[Sentence] = []
    fence = ""
    listing, before = False, -2
    for line in _LINE.finditer(text):
        mark = _FENCE.match(line[0])
        # Where an empty line was before; an indented line may else go on with an item of a list.
        listing = bool(_INDENTED.match(line[0])) and (listing or line.start() - before > 1)
        if mark or fence:
            fence = _fence_after(fence, mark)
            units.extend(_trimmed(text, line.start(), line.end(), Kind.CODE))
        elif listing:
            units.append(Sentence(line.start(), line.start() + len(line[0].rstrip()), Kind.CODE))
        else:
            units.extend(_line_units(text, line.start(), line.end()))
        before = line.end()
    return units


def joined_prose(text: str, units: Iterable[Sentence]) -> Iterator[Sentence]:
    """Units with prose that was wrapped over lines put together again.

    A line that does not end like a sentence goes on in the next one, if that is the very next
    line and begins like a continuation.
    """
    held: Sentence | None = None
    for unit in units:
        if held and _continues(text, held, unit):
            held = Sentence(held.start, unit.end, held.kind)
            continue
        if held:
            yield held
        held = unit
    if held:
        yield held


def ends_like_sentence(quote: str) -> bool:
    """Whether a reader would take the text as complete."""
    return _FULL_STOP.search(quote) is not None


def _fence_after(fence: str, mark: re.Match[str] | None) -> str:
    if not fence:
        return mark[1] if mark else ""
    return "" if mark and mark[1].startswith(fence) else fence


def _line_units(text: str, start: int, end: int) -> Iterator[Sentence]:
    line = text[start:end]
    kind = _kind(line)
    if kind in (Kind.PROSE, Kind.ITEM):
        yield from _prose(text, start, end, kind)
    else:
        yield from _trimmed(text, start, end, kind)


def _kind(line: str) -> Kind:
    if _HEADING.match(line):
        return Kind.HEADING
    if _ITEM.match(line):
        return Kind.ITEM
    if _ROW.match(line):
        return Kind.ROW
    if _INDENTED.match(line) or _is_command(line):
        return Kind.CODE
    short = len(line) <= _PROSE_LENGTH
    return Kind.HEADING if short and not ends_like_sentence(line.strip()) else Kind.PROSE


def _is_command(line: str) -> bool:
    return bool(_COMMAND.match(line)) and not ends_like_sentence(line.strip())


def _prose(text: str, start: int, end: int, kind: Kind) -> Iterator[Sentence]:
    first = start
    for found in _BREAK.finditer(text, start, end):
        if found.end() > first and not _abbreviation(text, first, found.end()):
            yield from _trimmed(text, first, found.end(), kind)
            first, kind = found.end(), Kind.PROSE
    yield from _trimmed(text, first, end, kind)


def _abbreviation(text: str, first: int, end: int) -> bool:
    return _ABBREVIATION.search(text[max(first, end - _LONGEST_ABBREVIATION) : end]) is not None


def _trimmed(text: str, start: int, end: int, kind: Kind) -> Iterator[Sentence]:
    piece = text[start:end]
    lead = len(piece) - len(piece.lstrip())
    if stripped := piece.strip():
        yield Sentence(start + lead, start + lead + len(stripped), kind)


def _continues(text: str, before: Sentence, unit: Sentence) -> bool:
    if unit.kind not in (Kind.PROSE, Kind.HEADING) or before.kind is Kind.CODE:
        return False
    between = text[before.end : unit.start]
    if "\n" not in between or between.count("\n") > 1 or before.kind is Kind.ROW:
        return False
    if ends_like_sentence(text[before.start : before.end]):
        return False
    long_line = before.end - before.start > _PROSE_LENGTH // 2
    return long_line and (before.kind is not Kind.HEADING or text[unit.start].islower())
