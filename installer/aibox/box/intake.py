"""Taking in one blob: copy, hash, make durable, read back; in bounded memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aibox.box.filesystem import Filesystem, OpenFile
from aibox.errors import Fault, VerificationRefused

CHUNK_BYTES = 1 << 20


def ignore(_count: int) -> None:
    """For callers that show no progress."""


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
        with self.filesystem.open(self.part, fresh=False) as file:
            self.filesystem.allocate(file, self.size, keep_size=True)
            state, held = self._resume(file, stream)
            held = self._copy(file, stream, state, held)
            if held < self.size:
                raise _refused("blob-too-short", self.digest, f"{held} of {self.size} bytes came")
            if state.hexdigest() != self.digest:
                self._refuse(f"bytes hash to {state.hexdigest()}")
            self.filesystem.set_mode(file, 0o444)
            self.filesystem.sync_file(file)
            drop_from_cache(file.descriptor)
        if read_back(self.part) != self.digest:
            self._refuse("the disk gives back other bytes than were written")

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

    def _copy(self, file: OpenFile, stream: BinaryIO, state: hashlib._Hash, held: int) -> int:
        while chunk := stream.read(CHUNK_BYTES):
            held += len(chunk)
            if held > self.size:
                self._refuse(f"more than {self.size} bytes came")
            state.update(chunk)
            self.filesystem.write(file, chunk)
            self.on_bytes(len(chunk))
        return held

    def _refuse(self, facts: str) -> None:
        self.filesystem.unlink(self.part)
        raise _refused("blob-refused", self.digest, facts)


def read_back(path: Path) -> str:
    """The digest of what the disk holds under `path`, never following a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def drop_from_cache(descriptor: int) -> None:
    """Forget cached pages, so that the next read asks the disk."""
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


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
        hint="nothing was taken in; check the medium: aibox bundle verify BUNDLE",
        fault=Fault.UPSTREAM,
    )
