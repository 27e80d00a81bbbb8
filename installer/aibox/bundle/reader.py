"""The bytes of an object that lies in chunks, as one stream."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from aibox.bundle.finding import COMMAND, unreadable
from aibox.errors import Fault, VerificationRefused

if TYPE_CHECKING:
    from aibox.pins import Blob


@dataclass(frozen=True, slots=True)
class OpenChunk:
    """An open regular file: its size in bytes when it was opened, and what to call it."""

    descriptor: int
    size: int
    where: str


class ObjectReader(io.RawIOBase):
    """Reads chunks in turn, one open at a time; seekable. Of one thread, as every stream."""

    def __init__(self, chunks: Sequence[Blob], open_chunk: Callable[[str], OpenChunk]) -> None:
        """`open_chunk` opens a blob by its digest or raises an `AiboxError`."""
        super().__init__()
        self._chunks, self._open_chunk = chunks, open_chunk
        self._ends = tuple(accumulate(chunk.size for chunk in chunks))
        self._position = 0
        self._number = -1
        self._open: OpenChunk | None = None

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return self._ends[-1] if self._ends else 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError("before the start of the object")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` from one chunk; 0 at the end of the object.

        Raises:
            VerificationRefused: `bundle-blob-missing`, `bundle-blob-damaged`.
            Failed: `source-unreadable`.
        """
        if self._position >= self.size:
            return 0
        number = bisect_right(self._ends, self._position)
        chunk = self._at(number)
        end = self._ends[number]
        start = end - self._chunks[number].size
        view = memoryview(buffer).cast("B")[: end - self._position]
        try:
            count = os.preadv(chunk.descriptor, [view], self._position - start)
        except OSError as error:
            raise unreadable(chunk.where, error) from error
        if not count and view:
            raise unreadable(chunk.where, "it became shorter while it was read")
        self._position += count
        return count

    def close(self) -> None:
        self._let_go()
        super().close()

    def _at(self, number: int) -> OpenChunk:
        if self._open is None or self._number != number:
            self._let_go()
            wanted = self._chunks[number]
            self._open, self._number = self._open_chunk(wanted.sha256), number
            if self._open.size != wanted.size:
                raise _other_size(self._open, wanted)
            os.posix_fadvise(self._open.descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return self._open

    def _let_go(self) -> None:
        """Close the chunk, and do not let it push out what the host has in its page cache."""
        if self._open is not None:
            os.posix_fadvise(self._open.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(self._open.descriptor)
            self._open = None


def _other_size(chunk: OpenChunk, wanted: Blob) -> VerificationRefused:
    return VerificationRefused(
        "bundle-blob-damaged",
        f"{chunk.where} is not what the bundle says it is",
        context=f"it has {chunk.size} bytes instead of {wanted.size}",
        hint=f"copy it again from where the bundle was written, then: {COMMAND}",
        fault=Fault.HOST,
    )
