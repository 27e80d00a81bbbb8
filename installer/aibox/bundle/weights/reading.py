"""Reading a header forward, in bounded memory, and telling formats by their first bytes."""

from __future__ import annotations

import re
from typing import BinaryIO

from aibox.bundle.weights.problem import Unsound

_CHUNK_BYTES = 1 << 18
HEAD_BYTES = 512

# First bytes of what must not hide under the name of a text, a configuration or a vocabulary.
_MAGIC = (
    (re.compile(rb"\x80[\x02-\x05]|\((dp|lp)\d*\n|c(__builtin__|builtins|os|posix)\n"), "a pickle"),
    (re.compile(rb"PK(\x03\x04|\x05\x06)"), "a zip archive"),
    (re.compile(rb".{257}ustar", re.DOTALL), "a tar archive"),
    (re.compile(rb"\x1f\x8b|BZh\d|\xfd7zXZ|\x28\xb5\x2f\xfd"), "a compressed stream"),
    (re.compile(rb"\x89HDF|\x93NUMPY"), "a file of arrays"),
    (re.compile(rb"\x7fELF|MZ[^\n]*\x00|#!"), "a program"),
)


def disguise(head: bytes) -> str:
    """What the first bytes of a file say it is, if that is something refused; else empty."""
    return next((what for magic, what in _MAGIC if magic.match(head)), "")


class Reader:
    """Takes bytes from the front of a stream of `size` bytes, and of those at most `limit`.

    More than there is, or more than `limit`, is `Unsound`.
    """

    def __init__(self, stream: BinaryIO, size: int, limit: int) -> None:
        self._stream, self.size, self._limit = stream, size, limit
        self._buffer, self._start = b"", 0
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes between here and the end of the file."""
        return self.size - self.position

    def take(self, count: int) -> bytes:
        """The next `count` bytes; the caller has capped `count`."""
        self._require(count)
        while len(self._buffer) - self._start < count:
            more = self._stream.read(max(_CHUNK_BYTES, count))
            if not more:
                raise Unsound("the file ends early")
            self._buffer, self._start = self._buffer[self._start :] + more, 0
        taken = self._buffer[self._start : self._start + count]
        self._start += count
        self.position += count
        return taken

    def skip(self, count: int) -> None:
        """Pass over `count` bytes, a chunk at a time."""
        self._require(count)
        while count:
            step = min(count, _CHUNK_BYTES)
            self.take(step)
            count -= step

    def _require(self, count: int) -> None:
        if count > self.left:
            raise Unsound("a length in the header leads beyond the end of the file")
        if self.position + count > self._limit:
            raise Unsound(f"its header is longer than {self._limit} bytes")
