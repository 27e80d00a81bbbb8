"""Taking in one blob: copy, hash, make durable, read back; in bounded memory.

A small blob goes through these one after the other. A large one goes through them side by side,
a segment at a time: while one segment is read and hashed, the one before it is written and made
durable, and the one before that is dropped from the page cache and hashed again from the disk.
So dirty pages stay bounded, and the disk is never idle while the processor works.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from aibox.box.filesystem import Filesystem, OpenFile
from aibox.errors import Failed, Fault, VerificationRefused

CHUNK_BYTES = 1 << 20
SEGMENT_BYTES = 64 << 20
"""How much is written before it is made durable and read back; also the size that is "large"."""

_CHUNKS_AHEAD = 8
"""Chunks read but not yet written: the memory an import takes, beside one read-back buffer."""


def ignore(_count: int) -> None:
    """For callers that show no progress."""


class _Writer(Protocol):
    """Where chunks go. `finish` returns the digest of what the disk gives back."""

    def write(self, chunk: bytes) -> None: ...
    def finish(self) -> str: ...


@dataclass(frozen=True)
class Intake:
    """One import: where the part lies and what it must turn out to be."""

    filesystem: Filesystem
    part: Path
    digest: str
    size: int
    on_bytes: Callable[[int], None]

    def take(self, stream: BinaryIO) -> None:
        """Fill the part from `stream`; on return its bytes are on the disk and are the digest's.

        The part stays when the source fails or ends early, and goes when its bytes are wrong.
        """
        self.filesystem.unseal(self.part)
        with ExitStack() as closing:
            file = closing.enter_context(self.filesystem.open(self.part, fresh=False))
            self.filesystem.allocate(file, self.size, keep_size=True)
            state, held = self._resume(file, stream)
            writer = self._writer(file, held, closing)
            held = self._copy(stream, state, held, writer)
            if held < self.size:
                raise _refused("blob-too-short", self.digest, f"{held} of {self.size} bytes came")
            if state.hexdigest() != self.digest:
                self._refuse(f"bytes hash to {state.hexdigest()}")
            if writer.finish() != self.digest:
                self._refuse("the disk gives back other bytes than were written")

    def _writer(self, file: OpenFile, held: int, closing: ExitStack) -> _Writer:
        if self.size < SEGMENT_BYTES:
            return _Plain(self.filesystem, file)
        writer, prover = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        for thread in (prover, writer):  # After a failure nothing that waits may still be written.
            closing.callback(thread.shutdown, wait=True, cancel_futures=True)
        return _Overlapped(self.filesystem, file, held, writer, prover)

    def _resume(self, file: OpenFile, stream: BinaryIO) -> tuple[hashlib._Hash, int]:
        """Hash what the part holds and bring the stream to the same place."""
        state, held = hashlib.sha256(), 0
        while held < self.size and (chunk := os.read(file.descriptor, CHUNK_BYTES)):
            state.update(chunk)
            held += len(chunk)
        if held:
            self.on_bytes(held)
            _skip(stream, held)
        return state, held

    def _copy(self, stream: BinaryIO, state: hashlib._Hash, held: int, writer: _Writer) -> int:
        while chunk := self._read(stream):
            held += len(chunk)
            if held > self.size:
                self._refuse(f"more than {self.size} bytes came")
            writer.write(chunk)
            state.update(chunk)
            self.on_bytes(len(chunk))
        return held

    def _read(self, stream: BinaryIO) -> bytes:
        try:
            return stream.read(CHUNK_BYTES)
        except OSError as error:
            raise unreadable(str(error)) from error

    def _refuse(self, facts: str) -> None:
        self.filesystem.unlink(self.part)
        raise _refused("blob-refused", self.digest, facts)


@dataclass(frozen=True)
class _Plain:
    """One step after the other."""

    filesystem: Filesystem
    file: OpenFile

    def write(self, chunk: bytes) -> None:
        self.filesystem.write(self.file, chunk)

    def finish(self) -> str:
        _seal(self.filesystem, self.file)
        return read_back(self.file.path)


class _Overlapped:
    """Writing and reading back in a thread each, both in order."""

    def __init__(
        self,
        filesystem: Filesystem,
        file: OpenFile,
        held: int,
        writer: ThreadPoolExecutor,
        prover: ThreadPoolExecutor,
    ) -> None:
        self._filesystem, self._file = filesystem, file
        self._writer, self._prover = writer, prover
        self._ahead: deque[Future[None]] = deque()
        self._proofs: deque[Future[None]] = deque()
        self._written, self._synced = held, 0
        self._proof = hashlib.sha256()
        self._broken = False  # An fsync after one that failed would prove nothing.

    def write(self, chunk: bytes) -> None:
        while len(self._ahead) >= _CHUNKS_AHEAD:
            self._ahead.popleft().result()
        self._ahead.append(self._later(lambda: self._filesystem.write(self._file, chunk)))
        self._written += len(chunk)
        if self._written - self._synced >= SEGMENT_BYTES:
            self._prove(self._later(lambda: self._filesystem.sync_file(self._file)))

    def finish(self) -> str:
        self._prove(self._later(lambda: _seal(self._filesystem, self._file)))
        for future in (*self._ahead, *self._proofs):
            future.result()
        return self._proof.hexdigest()

    def _later(self, step: Callable[[], None]) -> Future[None]:
        """Take the step after those before it, unless one of them failed."""

        def take() -> None:
            if not self._broken:
                self._broken = True
                step()
                self._broken = False

        return self._writer.submit(take)

    def _prove(self, durable: Future[None]) -> None:
        start, self._synced = self._synced, self._written
        self._ahead.append(durable)
        self._proofs.append(self._prover.submit(self._reread, durable, start, self._written))

    def _reread(self, durable: Future[None], start: int, end: int) -> None:
        durable.result()
        drop_from_cache(self._file.descriptor, start, end - start)
        while start < end:
            chunk = os.pread(self._file.descriptor, min(CHUNK_BYTES, end - start), start)
            if not chunk:
                return  # A short file has another digest.
            self._proof.update(chunk)
            start += len(chunk)


def read_back(path: Path) -> str:
    """The digest of what the disk holds under `path`, never following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def drop_from_cache(descriptor: int, start: int = 0, length: int = 0) -> None:
    """Forget cached pages (all after `start` if `length` is 0), so that reads ask the disk."""
    os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def unreadable(facts: str) -> Failed:
    """The source cannot be read; what came so far is kept, so that the next try goes on."""
    return Failed(
        "source-unreadable",
        "the medium or folder that holds the release cannot be read",
        context=facts,
        hint="check it, then give the same command again, it goes on where it stopped:"
        " ./aibox install --profile local",
        fault=Fault.HOST,
    )


def _seal(filesystem: Filesystem, file: OpenFile) -> None:
    filesystem.set_mode(file, 0o444)
    filesystem.sync_file(file)
    drop_from_cache(file.descriptor)


def _skip(stream: BinaryIO, length: int) -> None:
    if stream.seekable():
        stream.seek(length, os.SEEK_CUR)
        return
    while length and (chunk := stream.read(min(length, CHUNK_BYTES))):
        length -= len(chunk)


def _refused(reference: str, digest: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        reference,
        "a blob is not what the release says it is",
        context=f"sha256:{digest}: {facts}",
        hint="check where the bytes come from, then: ./aibox install --profile local",
        fault=Fault.UPSTREAM,
    )
