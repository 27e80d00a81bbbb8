"""Writing past the page cache, from memory that is used again and again.

A gigabyte that goes through the page cache costs a copy and a quarter of a million pages that
the kernel must find, and pushes out the model the box is serving from. `O_DIRECT` costs neither,
and what it reads comes from the disk, which is what a proof wants. It takes whole blocks in
aligned memory only; a file system that has no such thing is written to as usual.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os

from aibox.box.filesystem import DiskTrouble, Filesystem, OpenFile

BLOCK_BYTES = 4 << 10
"""Direct reads and writes start and end at multiples of this: no disk has larger sectors."""


def aligned(length: int) -> memoryview:
    """New memory that begins where a page begins."""
    return memoryview(mmap.mmap(-1, length))


def go_direct(descriptor: int, wanted: bool) -> bool:
    """Pass the page cache by from now on, or no more; returns whether it is passed by."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    try:
        fcntl.fcntl(
            descriptor, fcntl.F_SETFL, flags | os.O_DIRECT if wanted else flags & ~os.O_DIRECT
        )
    except OSError:
        return False
    return wanted


class DirectFile:
    """A file that is written from front to back in aligned chunks.

    Every chunk but the last is a multiple of `BLOCK_BYTES` long and begins at one; what is left
    over at the end goes through the page cache.
    """

    def __init__(self, filesystem: Filesystem, file: OpenFile, *, direct: bool) -> None:
        self._filesystem, self._file = filesystem, file
        self._direct = direct and go_direct(file.descriptor, True)

    def write(self, chunk: memoryview) -> None:
        """Write all of `chunk` at the file's position."""
        whole = len(chunk) - len(chunk) % BLOCK_BYTES if self._direct else 0
        if whole:
            whole = self._write_blocks(chunk[:whole])
        if whole < len(chunk):
            self._direct = go_direct(self._file.descriptor, False)
            self._filesystem.write(self._file, chunk[whole:])

    def _write_blocks(self, blocks: memoryview) -> int:
        """How much was written: nothing if the file system wants none of it after all."""
        start = os.lseek(self._file.descriptor, 0, os.SEEK_CUR)
        try:
            self._filesystem.write(self._file, blocks)
        except DiskTrouble as trouble:
            if trouble.number != errno.EINVAL:
                raise
            os.lseek(self._file.descriptor, start, os.SEEK_SET)
            return 0
        return len(blocks)


class DiskReader:
    """Reads back what the disk holds under the descriptor's name, never following a link."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._direct = go_direct(descriptor, True)

    def read(self, start: int, end: int, into: memoryview) -> int:
        """Bytes read to the front of `into` from `start` on, a multiple of `BLOCK_BYTES`.

        Nothing from `end` on is read; 0 there, or where the file ends.
        """
        if start >= end:
            return 0
        # Whole blocks, but no more of them: the kernel fills with zeros what lies after the end.
        into = into[: -(-(end - start) // BLOCK_BYTES) * BLOCK_BYTES]
        return min(self._read(start, into), end - start)

    def _read(self, start: int, into: memoryview) -> int:
        if self._direct:
            try:
                return os.preadv(self._descriptor, [into], start)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            self._direct = go_direct(self._descriptor, False)
        drop_from_cache(self._descriptor, start, len(into))
        return os.preadv(self._descriptor, [into], start)


def drop_from_cache(descriptor: int, start: int = 0, length: int = 0) -> None:
    """Forget cached pages (all after `start` if `length` is 0), so that reads ask the disk."""
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)
