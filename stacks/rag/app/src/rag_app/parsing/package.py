"""Office packages (zip archives of XML), vetted before anything else reads them.

The declared sizes are judged before a byte is unpacked; while unpacking, the real sizes are held
against the declared ones. Every XML part is scanned for a document type, the door to entity
bombs and to files of the host.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import BinaryIO
from xml.parsers import expat

from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import megabytes, refused

_XML = (".xml", ".rels")
_READ_BYTES = 256 * 1024
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)


def vetted(file: BinaryIO, limits: Limits) -> io.BytesIO:
    """A copy of the package with its XML parts only; other parts (pictures) are there but empty.

    Raises `DocumentRefused`: zip-bomb, unsafe-xml, broken-docx.
    """
    copy = io.BytesIO()
    try:
        with zipfile.ZipFile(file) as source, zipfile.ZipFile(copy, "w") as target:
            check_declared(source.infolist(), limits)
            for entry in source.infolist():
                wanted = entry.filename.lower().endswith(_XML)
                target.writestr(entry.filename, _unpack(source, entry) if wanted else b"")
    except (*_DAMAGE, expat.ExpatError):
        raise refused("broken-docx") from None
    copy.seek(0)
    return copy


def check_declared(entries: list[zipfile.ZipInfo], limits: Limits) -> None:
    """Refuse an archive by what its directory says, before anything is unpacked."""
    if len(entries) > limits.archive_entries:
        raise _bomb(f"{len(entries):,} entries of at most {limits.archive_entries:,}")
    total = sum(entry.file_size for entry in entries)
    if total > limits.archive_bytes:
        raise _bomb(f"{megabytes(total)} of at most {megabytes(limits.archive_bytes)}")
    for entry in entries:
        if entry.file_size > limits.archive_entry_bytes:
            limit = megabytes(limits.archive_entry_bytes)
            raise _bomb(f"an entry of {megabytes(entry.file_size)} of at most {limit}")
        packed = max(entry.compress_size, 1)
        if (
            entry.file_size > limits.compression_floor_bytes
            and entry.file_size > packed * limits.compression_ratio
        ):
            ratio = entry.file_size // packed
            raise _bomb(f"{ratio:,}:1, at most {limits.compression_ratio}:1")
    if len({entry.filename for entry in entries}) != len(entries):
        raise refused("broken-docx")


def _bomb(detail: str) -> Exception:
    return refused("zip-bomb", detail=detail)


def _unpack(source: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """One XML part, scanned while it is unpacked; never more than its declared size."""
    scanner = expat.ParserCreate()
    scanner.StartDoctypeDeclHandler = _refuse_document_type
    pieces: list[bytes] = []
    unpacked = 0
    with source.open(entry) as stream:
        while piece := stream.read(_READ_BYTES):
            unpacked += len(piece)
            if unpacked > entry.file_size:
                raise _bomb("more than it declares")
            scanner.Parse(piece, False)
            pieces.append(piece)
    scanner.Parse(b"", True)
    return b"".join(pieces)


def _refuse_document_type(*_: object) -> None:
    raise refused("unsafe-xml")
