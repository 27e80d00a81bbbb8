"""What kind of file this is: by its content first, by its extension only among kinds of text."""

from __future__ import annotations

import re
import zipfile
from enum import Enum
from typing import BinaryIO

from rag_app.parsing.encoding import utf16_flavour
from rag_app.parsing.refusals import refused


class Format(Enum):
    """The formats that have a reader."""

    PLAIN = "plain"
    MARKDOWN = "markdown"
    HTML = "html"
    PDF = "pdf"
    DOCX = "docx"


_HEAD_BYTES = 4096
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_SAMPLE_BYTES = 1024 * 1024
_TEXT_EXTENSIONS = {
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".html": Format.HTML,
    ".htm": Format.HTML,
    ".xhtml": Format.HTML,
}
_MAGIC = (
    (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"Rar!", "rar archive"),
    (b"\x89PNG", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"{\\rtf", "RTF"),
    (b"\x7fELF", "program"),
    (b"HWP Document File", "HWP"),
)
_ZIP_KINDS = (
    ("xl/", "XLSX spreadsheet"),
    ("ppt/", "PPTX presentation"),
    ("Contents/section0.xml", "HWPX"),
    ("content.xml", "OpenDocument"),
    ("META-INF/container.xml", "EPUB"),
)
_HTML_HEAD = re.compile(
    rb"\s*(<!--.*?-->\s*)*(<\?xml[^>]*>\s*)?<(!doctype\s+html|html)\b", re.I | re.S
)


def sniff(file: BinaryIO, extension: str) -> Format:
    """The format of `file` (seekable; left at its start). `extension` is like `.md`, or empty.

    Raises `DocumentRefused` when no reader fits.
    """
    head = file.read(_HEAD_BYTES)
    file.seek(0)
    if not head:
        raise refused("empty-file")
    # Junk before the mark is common in PDFs; in other files the mark may be what they write about.
    if head.lstrip().startswith(b"%PDF-") or (extension == ".pdf" and b"%PDF-" in head[:1024]):
        return Format.PDF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _sniff_zip(file, extension)
    if head.startswith(_OLE):
        _refuse_ole(file)
    return _sniff_text(head, extension)


def _sniff_zip(file: BinaryIO, extension: str) -> Format:
    try:
        names = set(zipfile.ZipFile(file).namelist())
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, NotImplementedError):
        if extension == ".docx":
            raise refused("broken-docx") from None
        raise refused("unknown-format", kind="zip archive, damaged") from None
    finally:
        file.seek(0)
    if "word/document.xml" in names or extension == ".docx":
        return Format.DOCX
    for mark, kind in _ZIP_KINDS:
        if any(name.startswith(mark) for name in names):
            raise refused("unknown-format", kind=kind)
    raise refused("unknown-format", kind="zip archive")


def _refuse_ole(file: BinaryIO) -> None:
    """OLE containers are old Office files, HWP 5, or new Office files under a password."""
    sample = file.read(_OLE_SAMPLE_BYTES)
    if "EncryptedPackage".encode("utf-16-le") in sample:
        raise refused("encrypted-office")
    kind = "HWP" if b"HWP Document File" in sample else "old Office file"
    raise refused("unknown-format", kind=kind)


def _sniff_text(head: bytes, extension: str) -> Format:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            raise refused("unknown-format", kind=kind)
    if extension == ".pdf":
        raise refused("damaged-pdf")
    if extension == ".docx":
        raise refused("broken-docx")
    if _binary(head):
        raise refused("unknown-format", kind="binary data")
    if _HTML_HEAD.match(head) and extension not in {".md", ".markdown"}:
        return Format.HTML
    return _TEXT_EXTENSIONS.get(extension, Format.PLAIN)


def _binary(head: bytes) -> bool:
    """Whether it holds more controls than any text; UTF-16 may look so, and decoding decides."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or utf16_flavour(head[: len(head) & ~1]):
        return False
    controls = sum(1 for byte in head if byte < 32 and byte not in b"\t\n\r\x0b\x0c\x1b")
    return controls * 50 > len(head) or 0 in head
