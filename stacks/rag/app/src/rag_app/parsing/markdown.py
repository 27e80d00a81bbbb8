"""Markdown: headings become paths, code and lists and tables stay text, markup goes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from rag_app.model import ParsedDocument
from rag_app.parsing.builder import TextBuilder
from rag_app.parsing.encoding import decode
from rag_app.parsing.limits import Limits
from rag_app.parsing.markdown_inline import plain, split_cells, without_hidden

_FRONT_MATTER = re.compile(
    r"\A\ufeff?(---|\+\+\+)[ \t]*\r?\n(.*?\n)?(\1|\.\.\.)[ \t]*(\r?\n|\Z)", re.S
)
_FRONT_TITLE = re.compile(r"^title\s*[:=]\s*['\"]?(.*?)['\"]?\s*$", re.M | re.I)
_FENCE = re.compile(r"[ \t]*(`{3,}(?![^\n]*`)|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
_SETEXT = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}([-*_])([ \t]*\1){2,}[ \t]*$")
_QUOTE = re.compile(r"^ {0,3}(?:>[ \t]?)+", re.M)
_DELIMITERS = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$")
_REFERENCE = re.compile(r" {0,3}\[(?!\^)[^\]]+\]:[ \t]+\S+.*$")
# What begins a line of its own instead of going on with the line before.
_OWN_LINE = re.compile(r"[ \t]*([-*+•][ \t]|\d{1,9}[.)][ \t]|\[\^|<|\||:[ \t])")


def parse_markdown(file: BinaryIO, limits: Limits) -> ParsedDocument:
    """The text of `file` without markup, one segment for each heading."""
    text = decode(file.read()).replace("\r\n", "\n")
    builder = TextBuilder(limits)
    title, body = _front_matter(text)
    for is_code, stretch in _by_fences(body):
        if is_code:
            builder.code(stretch)
        else:
            _prose(without_hidden(stretch), builder)
    return builder.finish(title)


def _front_matter(text: str) -> tuple[str, str]:
    """The title of the front matter (or nothing) and the text after it."""
    found = _FRONT_MATTER.match(text)
    if not found:
        return "", text
    title = _FRONT_TITLE.search(found[2] or "")
    return title[1] if title else "", text[found.end() :]


def _by_fences(text: str) -> Iterator[tuple[bool, str]]:
    """The text cut into the code between fences (True) and what lies outside (False).

    A fence ends at one of the same mark that is at least as long; an open one at the end.
    """
    lines: list[str] = []
    fence = ""
    quoted = False
    for line in text.split("\n"):
        bare = _QUOTE.sub("", line)
        mark = _FENCE.match(bare)
        if mark and not fence:
            yield False, "\n".join(lines)
            fence, quoted, lines = mark[1], bare != line, []
        elif fence and mark and mark[1].startswith(fence):
            yield True, "\n".join(lines)
            fence, quoted, lines = "", False, []
        else:
            lines.append(bare if quoted else line)
    yield bool(fence), "\n".join(lines)


def _prose(text: str, builder: TextBuilder) -> None:
    """Headings, tables and paragraphs of a stretch without fences."""
    lines = _QUOTE.sub("", text).split("\n")
    paragraph: list[str] = []
    position = 0
    while position < len(lines):
        line = lines[position]
        position += 1
        if paragraph and _begins_table(paragraph[-1], line):
            last = _table_end(lines, position)
            rows = [paragraph.pop(), *lines[position:last]]
            _paragraph(paragraph, builder)
            builder.table([split_cells(row) for row in rows])
            position = last
        elif not _heading(line, paragraph, builder):
            _take(line, paragraph, builder)
    _paragraph(paragraph, builder)


def _heading(line: str, paragraph: list[str], builder: TextBuilder) -> bool:
    """Add the heading that `line` is, or makes of the line before; False if it is none."""
    level, text = 0, ""
    if found := _ATX.match(line):
        level, text = len(found[1]), found[2] or ""
    elif paragraph and _SETEXT.match(line) and not _OWN_LINE.match(paragraph[-1]):
        level, text = (1 if "=" in line else 2), paragraph.pop()
    if level:
        _paragraph(paragraph, builder)
        builder.heading(level, plain(text))
    return level > 0


def _take(line: str, paragraph: list[str], builder: TextBuilder) -> None:
    if not line.strip() or _RULE.match(line):
        _paragraph(paragraph, builder)
    elif not _REFERENCE.match(line):
        paragraph.append(line)


def _begins_table(before: str, line: str) -> bool:
    return "|" in before and "-" in line and bool(_DELIMITERS.match(line))


def _table_end(lines: list[str], position: int) -> int:
    """The first line from `position` on that is no row."""
    while position < len(lines) and "|" in lines[position]:
        position += 1
    return position


def _paragraph(lines: list[str], builder: TextBuilder) -> None:
    """Add the lines so far and empty `lines`; softly wrapped lines become one."""
    joined: list[str] = []
    for line in lines:
        goes_on = joined and not _OWN_LINE.match(line) and not joined[-1].endswith(("  ", "\\"))
        if goes_on:
            joined[-1] = joined[-1].rstrip() + " " + line.strip()
        else:
            joined.append(line)
    lines.clear()
    tight = bool(joined) and bool(_OWN_LINE.match(joined[0]))
    builder.block(plain("\n".join(joined)), tight)
