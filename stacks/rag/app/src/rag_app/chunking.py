"""Cuts a document into chunks: units of retrieval that are also units of citation.

All sizes count characters (Unicode code points). A chunk is always a plain slice of the
document's text, so whatever is quoted from it can be opened in the document. Nothing is
repeated *into* a chunk for that reason: a long table repeats its header in the text itself
(`rag_app.parsing.builder`), which is why a table needs no special care here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from rag_app.model import Chunk, ParsedDocument, Segment

# Part of the index signature: raise it with any change that cuts differently.
CHUNKING_VERSION = 2

# A section is small, and may share a chunk with its siblings, up to this share of the chunk size.
_SMALL_SHARE = 3

# White space at the beginning of a line stays with the line: it may be the indentation of code.
_SENTENCE_END = re.compile(r"(?<=[.!?。！？…])[\"'”’)\]]*(?:[^\S\n]*\n+|[^\S\n]+)|\n+")
_WORD_END = re.compile(r"\s+")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_INDENTATION = re.compile(r"(?: {4}|\t)\s*")
_NOT_INDENTED = re.compile(r"^(?! {4}|\t)[^\n]", re.M)

_Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Section:
    """Neighbouring segments cut together; `lead` is where the headings at its start end."""

    start: int
    end: int
    lead: int
    page: int | None
    path: tuple[str, ...]
    small: bool

    @property
    def only_headings(self) -> bool:
        return self.lead >= self.end


def chunk_document(document: ParsedDocument, size: int, overlap: int) -> list[Chunk]:
    """Cut `document` into chunks of at most `size` characters, in the order of its text.

    Every character that is not white space is in at least one chunk. Chunks of one section
    repeat up to `overlap` characters of their predecessor (at most half of `size`), in whole
    sentences. No chunk crosses a page or a top-level heading; small sections with the same
    parent share a chunk; a heading is kept with the text below it. Cuts fall between paragraphs,
    else between lines or sentences, else between words; a code block (indented or between fences)
    stays whole when it fits. Linear in the length of the text.
    """
    overlap = min(overlap, size // 2)
    chunks: list[Chunk] = []
    for section in _sections(document, size):
        for start, end in _pieces(document.text, section, size, overlap):
            text = document.text[start:end]
            chunks.append(Chunk(len(chunks), start, end, text, section.page, section.path))
    return chunks


def _sections(document: ParsedDocument, size: int) -> Iterator[_Section]:
    """Segments with text in them, joined where they belong in one chunk."""
    current: _Section | None = None
    for segment in document.segments:
        section = _section(document.text, segment, size)
        if section is None:
            continue
        joined = _join(current, section, size) if current else None
        if current and not joined:
            yield current
        current = joined or section
    if current:
        yield current


def _section(text: str, segment: Segment, size: int) -> _Section | None:
    start, end = _trim(text, (segment.start, segment.end))
    if start == end:
        return None
    heading = segment.heading_path[-1] if segment.heading_path else ""
    line_end = start + len(heading)
    headed = heading and text.startswith(heading, start) and text[line_end : line_end + 1] in "\n"
    lead = line_end if headed else start
    small = end - start <= size // _SMALL_SHARE
    return _Section(start, end, lead, segment.page, segment.heading_path, small)


def _join(before: _Section, section: _Section, size: int) -> _Section | None:
    """Both as one section, or None when they must stay apart."""
    if before.page != section.page or before.path[:1] != section.path[:1]:
        return None
    if before.only_headings and section.path[: len(before.path)] == before.path:
        return replace(section, start=before.start)
    siblings = before.path[:-1] == section.path[:-1]
    related = siblings or before.path in (section.path[:-1], section.path)
    fits = before.small and section.small and section.end - before.start <= size
    # A heading without text of its own belongs to what follows, never to what comes before.
    if not (related and fits) or (section.only_headings and not before.only_headings):
        return None
    return replace(before, end=section.end, path=_common(before.path, section.path))


def _common(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    length = 0
    while first[length : length + 1] == second[length : length + 1] != ():
        length += 1
    return first[:length]


def _pieces(text: str, section: _Section, size: int, overlap: int) -> Iterator[_Span]:
    if section.end - section.start <= size:
        yield section.start, section.end
        return
    before: _Span | None = None
    for piece in _pack(_atoms_of_section(text, section, size), size, overlap):
        yield _reach_back(text, before, piece, size, overlap) if before else piece
        before = piece


def _pack(atoms: Iterable[_Span], size: int, overlap: int) -> Iterator[_Span]:
    """Join neighbouring atoms while they fit; all but the first piece leave room to overlap."""
    current: _Span | None = None
    room = size
    for start, end in atoms:
        if current and end - current[0] <= room:
            current = (current[0], end)
            continue
        if current:
            yield current
            room = size - overlap
        current = (start, end)
    if current:
        yield current


def _reach_back(text: str, before: _Span, piece: _Span, size: int, overlap: int) -> _Span:
    """`piece`, begun earlier by up to `overlap` characters, at the start of a sentence.

    Half a sentence would be quoted as if it were one, so a word will do only where the cut
    itself fell inside a sentence.
    """
    start, end = piece
    earliest = max(before[0] + 1, start - min(overlap, size - (end - start)))
    inside_sentence = _SENTENCE_END.search(text, before[1], start) is None
    for boundary in (_SENTENCE_END, _WORD_END) if inside_sentence else (_SENTENCE_END,):
        found = boundary.search(text, earliest, start)
        if found and found.end() < start:
            return _trim(text, (found.end(), end))
    return piece


def _atoms_of_section(text: str, section: _Section, size: int) -> Iterator[_Span]:
    """Atoms of a section; its headings are tied to its first block unless that would cut code."""
    for number, (start, end) in enumerate(_blocks(text, (section.lead, section.end))):
        whole = (section.start, end) if number == 0 else (start, end)
        too_long = whole[1] - whole[0] > size
        if number == 0 and too_long and _begins_code(text, start) and end - start <= size:
            yield _trim(text, (section.start, section.lead))
            whole = (start, end)
        yield from _atoms(text, whole, size, _CUTS)


def _atoms(text: str, span: _Span, size: int, cuts: tuple[_Cut, ...]) -> Iterator[_Span]:
    """Trimmed spans of at most `size` characters that cover `span`, cut as gently as possible."""
    start, end = _trim(text, span)
    if start == end:
        return
    if end - start <= size:
        yield start, end
    elif cuts:
        for part in cuts[0](text, (start, end)):
            yield from _atoms(text, part, size, cuts[1:])
    else:
        for first in range(start, end, size):
            yield from _atoms(text, (first, min(first + size, end)), size, cuts)


def _sentences(text: str, span: _Span) -> Iterator[_Span]:
    return _between(_SENTENCE_END, text, span)


def _words(text: str, span: _Span) -> Iterator[_Span]:
    return _between(_WORD_END, text, span)


def _between(boundary: re.Pattern[str], text: str, span: _Span) -> Iterator[_Span]:
    start, end = span
    for found in boundary.finditer(text, start, end):
        yield start, found.end()
        start = found.end()
    yield start, end


def _begins_code(text: str, start: int) -> bool:
    return bool(_FENCE.match(text, start) or _INDENTATION.match(text, start))


def _blocks(text: str, span: _Span) -> Iterator[_Span]:
    """Paragraphs, and code blocks as one: empty lines inside are theirs."""
    code: _Span | None = None
    for start, end in _paragraphs(text, span):
        indented = _NOT_INDENTED.search(text, start, end) is None
        if code and not indented:
            yield code
        if indented:
            code = (code[0] if code else start, end)
        else:
            code = None
            yield start, end
    if code:
        yield code


def _paragraphs(text: str, span: _Span) -> Iterator[_Span]:
    """Blocks parted by empty lines, and code between fences (empty lines inside are its own)."""
    start: int | None = None
    fence = ""
    for first, last in _lines(text, span):
        mark = _FENCE.match(text, first, last)
        closes = bool(fence and mark and mark[1].startswith(fence))
        opens = bool(mark and not fence)
        empty = not fence and not text[first:last].strip()
        if start is not None and (opens or empty):
            yield start, first
            start = None
        if start is None and not empty:
            start = first
        if opens and mark:
            fence = mark[1]
        elif closes and start is not None:
            yield start, last
            start, fence = None, ""
    if start is not None:
        yield start, span[1]


_Cut = Callable[[str, _Span], Iterator[_Span]]
_CUTS: tuple[_Cut, ...] = (_paragraphs, _sentences, _words)


def _lines(text: str, span: _Span) -> Iterator[_Span]:
    start, end = span
    while start < end:
        found = text.find("\n", start, end)
        last = end if found < 0 else found + 1
        yield start, last
        start = last


def _trim(text: str, span: _Span) -> _Span:
    """`span` without white space at its ends, but with the indentation of code it begins with."""
    start, end = span
    while end > start and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    line = max(span[0], text.rfind("\n", span[0], start) + 1)
    begins_line = line == 0 or text[line - 1] == "\n"
    if begins_line and _INDENTATION.match(text, line, start):
        start = line
    return start, end
