"""The spans of a passage that can be quoted so that a reader understands them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_app.text.sentences import Kind, Sentence, ends_like_sentence, joined_prose, split

# A quote is read on a screen, next to others; a longer list or listing is cut at a line.
LONGEST = 600
_COLONS = ":："


@dataclass(frozen=True, slots=True)
class Quotable:
    """`text[start:end]` of the passage; `first`: it opens what stands below its heading.

    `complete` is false for what looks like the rest of a sentence.
    """

    start: int
    end: int
    heading: str = ""
    first: bool = False
    complete: bool = True
    has_code: bool = False
    ends_in_code: bool = False


def quotables(text: str) -> Iterator[Quotable]:
    """Sentences; and lists, code and table rows, each with the line that introduces it."""
    units = list(joined_prose(text, split(text)))
    heading, first = "", False
    position = 0
    while position < len(units):
        unit = units[position]
        if unit.kind is Kind.HEADING:
            heading, first = text[unit.start : unit.end].lstrip("# "), True
            position += 1
            continue
        last = _run_end(units, position)
        if not _introduces(text, units, position):
            yield from _quote(text, units, position, last, heading, first)
            first = False
        position = last


def _run_end(units: Sequence[Sentence], position: int) -> int:
    """End of the code or the list that begins here; a sentence or a row of a table stands alone."""
    kind = units[position].kind
    last = position + 1
    if kind in (Kind.CODE, Kind.ITEM):
        while last < len(units) and units[last].kind is kind:
            last += 1
    return last


def _quote(
    text: str, units: Sequence[Sentence], position: int, last: int, heading: str, first: bool
) -> Iterator[Quotable]:
    unit = units[position]
    if unit.kind is Kind.PROSE:
        whole = text[unit.start : unit.end]
        complete = ends_like_sentence(whole) and not whole[0].islower()
        yield Quotable(unit.start, unit.end, heading, first, complete)
        return
    code = unit.kind is Kind.CODE
    lead, introduced = _lead(text, units, position)
    complete = introduced or not code
    if units[last - 1].end - lead <= LONGEST:
        yield Quotable(lead, units[last - 1].end, heading, first, complete, code, code)
        return
    for part in units[position:last]:
        start = lead if part.end - lead <= LONGEST else part.start
        yield Quotable(start, part.end, heading, False, complete, code, code)


def _introduces(text: str, units: Sequence[Sentence], position: int) -> bool:
    """Whether the unit only opens the list or the code after it, and says nothing alone."""
    unit = units[position]
    follows = units[position + 1].kind if position + 1 < len(units) else Kind.PROSE
    opens = unit.kind is Kind.PROSE and text[unit.end - 1] in _COLONS
    return opens and follows in (Kind.CODE, Kind.ITEM)


def _lead(text: str, units: Sequence[Sentence], position: int) -> tuple[int, bool]:
    """Where the introducing line begins, and whether it really introduces what follows."""
    before = units[position - 1] if position else None
    if before is None or before.kind is not Kind.PROSE or units[position].kind is Kind.ROW:
        return units[position].start, False
    return before.start, text[before.end - 1] in _COLONS
