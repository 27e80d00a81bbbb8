"""Multipart uploads, written to disk and hashed while they arrive; memory stays constant."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rag_app.web.refusal import Refusal

FIELD = "file"
MAX_FILES = 50
MAX_NAME_CHARACTERS = 200
# Left free for the library and the index, which the upload will need next.
DISK_RESERVE_BYTES = 64 * 1024 * 1024
PART_SUFFIX = ".part"


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that arrived whole, under a name that nothing else uses."""

    name: str
    path: Path
    sha256: str
    size: int


class _Receiving:
    """One file on its way."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.path = folder / f"{secrets.token_hex(16)}{PART_SUFFIX}"
        self.digest = hashlib.sha256()
        self.size = 0
        self.file: BinaryIO = self.path.open("xb")

    def write(self, data: memoryview) -> None:
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)

    def close(self) -> Upload:
        with self.file:
            self.file.flush()
            os.fsync(self.file.fileno())
        return Upload(self.name, self.path, self.digest.hexdigest(), self.size)

    def discard(self) -> None:
        self.file.close()
        self.path.unlink(missing_ok=True)


class MultipartToDisk:
    """Feed it the body in order, then `finish`; or `discard`, which leaves nothing behind.

    `limit` bounds the bytes of all files together. Raises `Refusal` and `OSError`.
    """

    def __init__(self, content_type: str, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit
        self._received = 0
        self._uploads: list[Upload] = []
        self._current: _Receiving | None = None
        self._header = bytearray()
        self._value = bytearray()
        self._disposition = b""
        self._ended = False
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
        )

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _not_a_form() from error

    def finish(self) -> list[Upload]:
        """The files, durable on disk; refuses a body that broke off or held no file."""
        if not self._ended:
            raise _not_a_form()
        if not self._uploads:
            raise Refusal(
                422,
                "no-file",
                f"The request holds no file in the field `{FIELD}`.",
                hint=f"Type: curl -F {FIELD}=@manual.pdf URL/api/documents",
            )
        return list(self._uploads)

    def discard(self) -> None:
        """Remove everything that was written."""
        if self._current:
            self._current.discard()
        for upload in self._uploads:
            upload.path.unlink(missing_ok=True)

    def _on_part_begin(self) -> None:
        self._disposition = b""
        self._header.clear()
        self._value.clear()

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != FIELD.encode() or b"filename" not in options:
            raise Refusal(
                422,
                "unknown-field",
                f"An upload has files in the field `{FIELD}` and nothing else.",
                hint=f"Type: curl -F {FIELD}=@manual.pdf URL/api/documents",
            )
        if len(self._uploads) >= MAX_FILES:
            raise Refusal(
                413,
                "too-many-files",
                f"One request may carry {MAX_FILES} files.",
                hint="Send the others in another request.",
            )
        self._current = _Receiving(clean_name(options[b"filename"]), self._folder)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current is None:
            return
        self._received += end - start
        if self._received > self._limit:
            raise upload_too_large(self._limit)
        self._current.write(memoryview(data)[start:end])

    def _on_part_end(self) -> None:
        current = self._current
        if current is None:
            return
        if current.size == 0:
            raise Refusal(
                422, "empty-file", f"{current.name} is empty.", hint="Choose a file with content."
            )
        self._uploads.append(current.close())
        self._current = None

    def _on_end(self) -> None:
        self._ended = True


def clean_name(raw: bytes) -> str:
    """The last component of a file name as people read it; refuses one that has nothing readable.

    Composed Unicode (macOS sends Korean decomposed), no control or direction characters.
    """
    text = raw.decode("utf-8", errors="replace").replace("%22", '"')
    last = unicodedata.normalize("NFC", text).replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(c for c in last if unicodedata.category(c)[0] != "C").strip()
    if name.strip(". ") == "":
        raise Refusal(
            422, "bad-name", "The file has no usable name.", hint="Rename the file and try again."
        )
    return _shortened(name)


def _shortened(name: str) -> str:
    if len(name) <= MAX_NAME_CHARACTERS:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 10:
        return name[:MAX_NAME_CHARACTERS]
    return stem[: MAX_NAME_CHARACTERS - len(extension) - 1] + dot + extension


def check_room(folder: Path, size: int) -> None:
    """Raise `OSError(ENOSPC)` now rather than after `size` bytes have been received in vain."""
    if shutil.disk_usage(folder).free < size + DISK_RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def remove_unfinished(folder: Path) -> None:
    """Remove what an interrupted process left; for the start."""
    for path in folder.glob(f"*{PART_SUFFIX}"):
        path.unlink(missing_ok=True)


def upload_too_large(limit: int) -> Refusal:
    """Files over `limit` bytes."""
    return Refusal(
        413,
        "too-large",
        f"One upload may hold {limit // (1024 * 1024):,} MiB ({limit:,} bytes).",
        hint="Split the document, or raise `max_upload_bytes` of the site.",
    )


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not boundary or len(boundary) > 200:
        raise _not_a_form()
    return boundary


def _not_a_form() -> Refusal:
    return Refusal(
        422,
        "not-a-form",
        "The body is not a complete multipart/form-data upload.",
        hint=f"Type: curl -F {FIELD}=@manual.pdf URL/api/documents",
    )
