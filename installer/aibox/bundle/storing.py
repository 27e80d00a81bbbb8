"""Writing the blobs of a bundle that is being made: each hashed while it is copied, then named.

A blob gets its name only when it is whole, so a name that a killed build left behind says what
should be there; it is hashed before it is believed.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from threading import Event, Lock
from typing import BinaryIO

from aibox.bundle.finding import unreadable
from aibox.bundle.layout import BundleLayout
from aibox.errors import Failed, Fault, VerificationRefused
from aibox.pins import Blob

BLOCK_BYTES = 1 << 20
FILE_MODE, PROGRAM_MODE, DIRECTORY_MODE = 0o644, 0o755, 0o755

_SYNC_BYTES = 8 << 20
"""Greater blobs are made durable at once, so that unwritten data stays bounded."""


def ignore(_count: int) -> None:
    """For callers that show no progress."""


class Stopped(Exception):
    """Another thread failed; what this one does is of no use any more."""


class BlobWriter:
    """The blobs below `layout`, whose parts lie in `parts` on the same file system.

    For many threads at once: two that write the same blob write the same bytes.
    """

    def __init__(
        self,
        layout: BundleLayout,
        parts: Path,
        *,
        modified: int,
        on_bytes: Callable[[int], None],
    ) -> None:
        """`on_bytes` gets the bytes of sources that were read, never from two threads at once."""
        self.layout = layout
        self.right: dict[str, int] = {}
        """Digest -> size of the blobs that this process wrote or hashed."""
        self._parts, self._modified = parts, modified
        self._on_bytes, self._telling = on_bytes, Lock()
        self._numbers = count()
        self._stopped = Event()
        self._left = {path.name for path in layout.blobs.iterdir()}

    def stop(self) -> None:
        """Make every copy under way end soon, with `Stopped`."""
        self._stopped.set()

    @property
    def resumed(self) -> bool:
        """Whether an earlier build left blobs behind."""
        return bool(self._left)

    def have(self, blob: Blob) -> bool:
        """Whether the blob is there, by its bytes; one of a killed build is hashed once."""
        if blob.sha256 in self.right:
            return True
        if blob.sha256 not in self._left:
            return False
        path = self.layout.blob(blob.sha256)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            state = hashlib.sha256()
            size = sum(len(block) for block in self._blocks(file, None, str(path), (state,)))
            if size != blob.size or state.hexdigest() != blob.sha256:
                return False
            self._settle(file.fileno(), size)
        self.right[blob.sha256] = size
        return True

    def digest(
        self, source: BinaryIO, length: int, where: str, whole: hashlib._Hash | None
    ) -> Blob:
        """The next `length` bytes of `source` as a blob, nothing written."""
        state = hashlib.sha256()
        states = (state,) if whole is None else (state, whole)
        for _ in self._blocks(source, length, where, states):
            pass
        return Blob(sha256=state.hexdigest(), size=length)

    def store(self, source: BinaryIO, length: int, where: str, whole: hashlib._Hash | None) -> Blob:
        """Write the next `length` bytes of `source` as one blob; `whole` takes them in too.

        Raises:
            VerificationRefused: `source-differs`: the source ends early.
            Failed: `source-unreadable`, `bundle-not-written`.
        """
        part = self._parts / str(next(self._numbers))
        state = hashlib.sha256()
        states = (state,) if whole is None else (state, whole)
        try:
            with part.open("xb", buffering=0) as file:
                for block in self._blocks(source, length, where, states):
                    write_all(file.fileno(), block)
                blob = Blob(sha256=state.hexdigest(), size=length)
                self._keep(file.fileno(), part, blob)
        except OSError as error:
            raise not_written(part, error) from error
        finally:
            part.unlink(missing_ok=True)
        return blob

    def put(self, data: bytes) -> Blob:
        """Write a blob from memory; `on_bytes` is not told. Raises `bundle-not-written`."""
        part = self._parts / str(next(self._numbers))
        blob = Blob(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        try:
            with part.open("xb", buffering=0) as file:
                write_all(file.fileno(), data)
                self._keep(file.fileno(), part, blob)
        except OSError as error:
            raise not_written(part, error) from error
        finally:
            part.unlink(missing_ok=True)
        return blob

    def copy(self, blob: Blob, target: BundleLayout) -> None:
        """A second file of a blob that is here, in another folder of the same bundle.

        Raises:
            VerificationRefused: `source-differs`: the disk gives back other bytes.
            Failed: `bundle-not-written`.
        """
        path = self.layout.blob(blob.sha256)
        state = hashlib.sha256()
        try:
            with path.open("rb", buffering=0) as source, target.blob(blob.sha256).open("xb") as to:
                for block in self._blocks(source, None, str(path), (state,)):
                    write_all(to.fileno(), block)
                settle(to.fileno(), FILE_MODE, self._modified)
        except OSError as error:
            raise not_written(path, error) from error
        if state.hexdigest() != blob.sha256:
            raise differs(str(path), f"bytes hash to {state.hexdigest()}")

    def told(self, size: int) -> None:
        """Count bytes that need not be read."""
        with self._telling:
            self._on_bytes(size)

    def _keep(self, descriptor: int, part: Path, blob: Blob) -> None:
        if blob.sha256 not in self.right:
            self._settle(descriptor, blob.size)
            part.rename(self.layout.blob(blob.sha256))
            self.right[blob.sha256] = blob.size

    def _settle(self, descriptor: int, size: int) -> None:
        settle(descriptor, FILE_MODE, self._modified)
        if size >= _SYNC_BYTES:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _blocks(
        self, source: BinaryIO, length: int | None, where: str, states: tuple[hashlib._Hash, ...]
    ) -> Iterator[memoryview]:
        """The next `length` bytes (or all) of `source`, taken in by `states`; one buffer."""
        left = length
        buffer = memoryview(bytearray(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)))
        while left is None or left:
            block = buffer[: self._read(source, buffer[:left], where)]
            if not block and left is None:
                return
            if not block:
                raise differs(where, f"it ends {left} bytes early")
            for state in states:
                state.update(block)
            yield block
            if left is not None:
                left -= len(block)
                self.told(len(block))

    def _read(self, source: BinaryIO, buffer: memoryview, where: str) -> int:
        if self._stopped.is_set():
            raise Stopped
        try:
            return source.readinto(buffer)  # type: ignore[attr-defined, no-any-return]
        except OSError as error:
            raise unreadable(where, error) from error


def settle(descriptor: int, mode: int, modified: int) -> None:
    """Fix what would tell two builds of the same content apart: mode and time (epoch seconds).

    FAT refuses modes that it cannot keep, and a bundle written straight to it is as good.
    """
    with suppress(PermissionError):
        os.fchmod(descriptor, mode)
    os.utime(descriptor, (modified, modified))


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of it, however little the system takes at once."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def differs(where: str, facts: str) -> VerificationRefused:
    """A source is not what its digest says."""
    return VerificationRefused(
        "source-differs",
        f"{where} does not hold the bytes that it should",
        context=facts,
        hint="it was damaged or changed after it was locked; fetch it again with:"
        " ./aibox bundle build",
        fault=Fault.HOST,
    )


def not_written(path: Path, error: OSError) -> Failed:
    """The disk does not take the bundle; what is written stays and is used again."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return Failed(
        "bundle-not-written",
        "the disk is full" if full else "the bundle could not be written",
        context=f"{path}: {error.strerror or error}",
        hint="free some room or choose another --output, then give the same command again, it"
        " goes on with what is there: ./aibox bundle build",
        fault=Fault.HOST,
    )
