"""PDF with a text layer, by PDFium: one segment for each page, so that citations name the page."""

from __future__ import annotations

import ctypes
import mmap
import re
from typing import BinaryIO

import pypdfium2  # type: ignore[import-untyped]
import pypdfium2.raw as pdfium  # type: ignore[import-untyped]

from rag_app.model import ParsedDocument
from rag_app.parsing.builder import TextBuilder
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import refused

# PDFium marks a hyphen that ends a line as U+FFFE or U+0002.
_BROKEN_WORD = re.compile("(?<=[a-zà-ÿ])(?:[\ufffe\x02\xad]|-(?=\r?\n))\r?\n?(?=[a-zà-ÿ])")
_MARKED_HYPHEN = re.compile("[\ufffe\x02]")
_ENDS_SENTENCE = re.compile(r"[.!?:;。！？…][\"'”’)\]]*$")
_BEGINS_ITEM = re.compile(r"([-*+•●○■□▪◦·※▶❍]|\(?\d{1,3}[.)]|[가-하][.)]|제\d+[조장절]|[①-⑳])")
# A line shorter than this share of the longest one on its page ended because it was finished.
_FULL_LINE_SHARE = 0.7


def parse_pdf(file: BinaryIO, limits: Limits) -> ParsedDocument:
    """The text of `file` (a real file) in PDFium's line order.

    Raises `DocumentRefused`: encrypted-pdf, damaged-pdf, too-many-pages, no-text-layer.
    """
    document = _open(file)
    pages = len(document)
    if pages > limits.pages:
        raise refused("too-many-pages", pages=pages, limit=limits.pages)
    builder = TextBuilder(limits)
    for index in range(pages):
        builder.page(index + 1)
        builder.block(reflow(_page_text(document, index)))
    title = document.get_metadata_value("Title")
    parsed = builder.finish(title, pages)
    if not parsed.text:
        raise refused("no-text-layer")
    return parsed


def _open(file: BinaryIO) -> pypdfium2.PdfDocument:
    # A private mapping gives PDFium the bytes without a copy: only pages it touches are read.
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    content = (ctypes.c_ubyte * len(mapped)).from_buffer(mapped)
    try:
        return pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise refused("encrypted-pdf") from None
        raise refused("damaged-pdf") from None


def _page_text(document: pypdfium2.PdfDocument, index: int) -> str:
    try:
        page = document[index]
        text_page = page.get_textpage()
        text: str = text_page.get_text_bounded()
        text_page.close()
        page.close()
    except pypdfium2.PdfiumError:
        raise refused("damaged-pdf") from None
    return text


def reflow(text: str) -> str:
    """`text` of a page with words broken by a hyphen made whole and wrapped lines joined.

    Both only where it is plain: a hyphen between small letters; a line that is about as long as
    the longest, does not end a sentence, and is not followed by the beginning of an item.
    """
    text = _MARKED_HYPHEN.sub("-", _BROKEN_WORD.sub("", text))
    lines = [line.strip() for line in text.splitlines()]
    full = max(map(len, lines), default=0) * _FULL_LINE_SHARE
    joined: list[str] = []
    wrapped = False
    for line in lines:
        if wrapped and line and not _BEGINS_ITEM.match(line):
            joined[-1] += line if joined[-1].endswith("-") else " " + line
        else:
            joined.append(line)
        wrapped = len(line) >= full and line != "" and not _ENDS_SENTENCE.search(line)
    return "\n".join(joined)
