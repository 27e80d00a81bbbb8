"""Plain text: the lines as they are."""

from __future__ import annotations

from typing import BinaryIO

from rag_app.model import ParsedDocument
from rag_app.parsing.builder import TextBuilder
from rag_app.parsing.encoding import decode
from rag_app.parsing.limits import Limits


def parse_plain(file: BinaryIO, limits: Limits) -> ParsedDocument:
    """The text of `file` in one segment without a heading path."""
    builder = TextBuilder(limits)
    builder.block(decode(file.read()))
    return builder.finish()
