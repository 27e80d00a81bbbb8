"""Builds a document's text and segments, the same way for every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from textwrap import dedent, indent

from rag_app.model import ParsedDocument, Segment
from rag_app.parsing.hygiene import clean, one_line
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import refused

# A long table is cut into blocks of about this many characters, each with the header on top, as
# a printed table repeats it on every page: rows stay understandable wherever a chunk is cut.
TABLE_BLOCK_CHARACTERS = 400
_HEADER_CHARACTERS = TABLE_BLOCK_CHARACTERS // 2
# The longest title, and the longest part of a heading path.
LINE_CHARACTERS = 200
CODE_INDENTATION = " " * 4
_SECTION_SEPARATOR = "\n\n"


class TextBuilder:
    """Takes headings, pages and blocks in reading order; `finish` gives the document.

    Raises `DocumentRefused` ("too-long") as soon as the text exceeds the limit.
    """

    def __init__(self, limits: Limits) -> None:
        self._limit = limits.characters
        self._pieces: list[str] = []
        self._length = 0
        self._segments: list[Segment] = []
        self._segment_start = 0
        self._page: int | None = None
        self._path: list[tuple[int, str]] = []
        self._first_heading = ""
        self._tight = False

    def heading(self, level: int, text: str) -> None:
        """Begin a section: the heading's line, and a heading path of those above `level` and it."""
        text = one_line(text)
        if not text:
            return
        self._close_segment()
        short = text[:LINE_CHARACTERS].strip()
        self._path = [outer for outer in self._path if outer[0] < level] + [(level, short)]
        self._first_heading = self._first_heading or short
        self._write(text)

    def page(self, number: int) -> None:
        """Begin page `number` (from 1)."""
        self._close_segment()
        self._page = number

    def block(self, text: str, tight: bool = False) -> None:
        """Add a paragraph, cleaned; an empty line parts paragraphs, but not two tight ones."""
        text = clean(text).strip("\n")
        if text.strip():
            self._separate("\n" if tight and self._tight else "\n\n")
            self._tight = tight
            self._write(text)

    def code(self, text: str) -> None:
        """Add preformatted text, indented: that is how all that reads the text knows code."""
        self.block(indent(dedent(clean(text)), CODE_INDENTATION))

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Add a table row by row, as `| a | b |`; the first row is its header."""
        lines = [_row_line([one_line(cell) for cell in row]) for row in rows if any(row)]
        for block in _table_blocks([line for line in lines if line.strip("| ")]):
            self.block("\n".join(block))

    def finish(self, title: str = "", pages: int | None = None) -> ParsedDocument:
        """The document; its title is `title`, else its first heading."""
        self._close_segment()
        if self._segments:
            self._drop_last_separator()
        title = (one_line(title) or self._first_heading)[:LINE_CHARACTERS].strip()
        return ParsedDocument("".join(self._pieces), tuple(self._segments), title, pages)

    def _separate(self, separator: str) -> None:
        if self._length > self._segment_start:
            self._write(separator)

    def _write(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limit:
            raise refused("too-long", limit=self._limit)
        self._pieces.append(text)

    def _close_segment(self) -> None:
        """End the running segment; the empty line after it is still its own."""
        if self._length > self._segment_start:
            self._write(_SECTION_SEPARATOR)
            path = tuple(text for _, text in self._path)
            self._segments.append(Segment(self._segment_start, self._length, self._page, path))
            self._segment_start = self._length
        self._tight = False

    def _drop_last_separator(self) -> None:
        self._pieces.pop()
        last = self._segments[-1]
        self._segments[-1] = replace(last, end=last.end - len(_SECTION_SEPARATOR))


def _row_line(cells: Sequence[str]) -> str:
    """A row with outer bars, by which it is known as a row; one cell alone is just its text."""
    return f"| {' | '.join(cells)} |" if len(cells) > 1 else cells[0]


def _table_blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    header = lines[0] if lines and lines[0].startswith("| ") else ""
    repeated = [header] if header and len(header) <= _HEADER_CHARACTERS else []
    block: list[str] = []
    size = 0
    for line in lines:
        if size + len(line) > TABLE_BLOCK_CHARACTERS and len(block) > len(repeated):
            yield block
            block, size = list(repeated), sum(map(len, repeated))
        block.append(line)
        size += len(line) + 1
    if block:
        yield block
