"""From a file to a parsed document: size, format, reader. Runs inside the jail."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import BinaryIO

from rag_app.model import ParsedDocument
from rag_app.parsing.docx import parse_docx
from rag_app.parsing.html import parse_html
from rag_app.parsing.limits import Limits
from rag_app.parsing.markdown import parse_markdown
from rag_app.parsing.pdf import parse_pdf
from rag_app.parsing.plain import parse_plain
from rag_app.parsing.refusals import megabytes, refused
from rag_app.parsing.sniffing import Format, sniff

Reader = Callable[[BinaryIO, Limits], ParsedDocument]

READERS: Mapping[Format, Reader] = {
    Format.PLAIN: parse_plain,
    Format.MARKDOWN: parse_markdown,
    Format.HTML: parse_html,
    Format.PDF: parse_pdf,
    Format.DOCX: parse_docx,
}
_READ_WHOLE = frozenset({Format.PLAIN, Format.MARKDOWN, Format.HTML})


def parse(file: BinaryIO, extension: str, limits: Limits) -> ParsedDocument:
    """Read `file` (a real file, at its start); `extension` is like `.md` and only a hint.

    Raises `DocumentRefused` with a reference of `refusals.SENTENCES`.
    """
    size = os.fstat(file.fileno()).st_size
    check_size(size, limits.file_bytes)
    kind = sniff(file, extension.lower())
    if kind in _READ_WHOLE:
        check_size(size, limits.text_file_bytes)
    parsed = READERS[kind](file, limits)
    if not parsed.text:
        raise refused("no-text")
    return parsed


def check_size(size: int, limit: int) -> None:
    """Refuse a file by its size in bytes, before anything of it is read."""
    if size > limit:
        raise refused("too-large", size=megabytes(size), limit=megabytes(limit))
