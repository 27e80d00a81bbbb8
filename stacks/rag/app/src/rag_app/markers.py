"""Citation markers in streamed text: `[2]`, `[1, 3]`.

A language model numbers the passages it was given. Readers get numbers that count the citations
shown with the answer, in the order in which they are first mentioned; a number that belongs to
no passage is removed together with the space before it.
"""

from __future__ import annotations

import re

_MARKER = re.compile(r"[ \t]*\[([ \t]*\d{1,3}(?:[ \t]*[,;][ \t]*\d{1,3})*[ \t]*)\]")
# What may still become a marker with the next piece; bounded, so that `[` cannot hold text back.
_UNFINISHED = re.compile(r"[ \t]{0,8}(?:\[[\d,; \t]{0,24})?\Z")
_NUMBER = re.compile(r"\d+")


class MarkerFilter:
    """Feed it pieces in order; what it gives back never ends inside a marker."""

    def __init__(self, passages: int) -> None:
        self._passages = passages
        self._held = ""
        self._shown: dict[int, int] = {}

    @property
    def cited(self) -> tuple[int, ...]:
        """Numbers of the cited passages (from 1); position `i` is shown as `[i + 1]`."""
        return tuple(self._shown)

    def feed(self, piece: str) -> str:
        """The text that is safe to show now."""
        text = self._held + piece
        unfinished = _UNFINISHED.search(text)
        cut = unfinished.start() if unfinished else len(text)
        self._held = text[cut:]
        return _MARKER.sub(self._renumbered, text[:cut])

    def finish(self) -> str:
        """What was held back, once no more text comes."""
        held, self._held = self._held, ""
        return held.rstrip()

    def _renumbered(self, marker: re.Match[str]) -> str:
        numbers = [int(number) for number in _NUMBER.findall(marker.group(1))]
        known = [number for number in numbers if 1 <= number <= self._passages]
        shown = [self._shown.setdefault(number, len(self._shown) + 1) for number in known]
        if not shown:
            return ""
        space = marker.group(0)[: marker.group(0).index("[")]
        return space + "".join(f"[{number}]" for number in shown)
