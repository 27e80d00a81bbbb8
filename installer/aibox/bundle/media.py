"""A bundle on one medium or on several: what is there, what is missing, and its bytes.

Only the head is read when media are opened, under caps and never through a link; nothing in it is
believed here (`trust` judges it), and blobs are whatever lies under their name until somebody
hashes them. Volumes may come in any order, from folders of any name, read-only.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from aibox import digest
from aibox.bundle import discovery
from aibox.bundle.discovery import Volume
from aibox.bundle.finding import COMMAND, unreadable
from aibox.bundle.label import Label
from aibox.bundle.layout import BLOBS
from aibox.bundle.reader import ObjectReader, OpenChunk
from aibox.digest import is_digest
from aibox.errors import Failed, Fault, VerificationRefused

if TYPE_CHECKING:
    from aibox.bundle.manifest import Carried
    from aibox.pins import Blob

_BUFFER_BYTES = 256 << 10
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Media:
    """The volumes of one bundle that are at hand; a context manager. For many threads at once."""

    def __init__(self, found: Sequence[Volume], closing: ExitStack) -> None:
        """Take over volumes of one bundle, which `discovery` has compared."""
        self.volumes = tuple(found)
        self._closing = closing
        self.head = found[0].head
        """Path in the bundle -> bytes: manifest, signature, roots, revocations. Not yet judged."""

    @classmethod
    def open(cls, paths: Sequence[Path]) -> Media:
        """Find the bundle in `paths`: each a bundle, a volume, or a folder that holds volumes.

        Volumes may be missing (see `missing_volumes`): what is at hand can be read all the same.

        Raises:
            BadUsage: `bundle-not-found`; `bundles-several`, when they are more than one.
            VerificationRefused: `bundle-head-refused` (too large), `volume-label-invalid`,
                `volume-of-another-bundle`, `volume-head-differs`, `volume-twice`.
            Failed: `source-unreadable`.
        """
        with ExitStack() as closing:
            found = discovery.find(paths, closing)
            return cls(found, closing.pop_all())

    def __enter__(self) -> Media:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the media go."""
        self._closing.close()

    @property
    def bundle(self) -> str:
        """The digest of bundle.json."""
        return self.volumes[0].bundle

    @cached_property
    def missing_volumes(self) -> tuple[Label, ...]:
        """Volumes of which at least one blob is nowhere; `Label.missing` words them.

        A volume whose blobs were all copied to another one is not missed.
        """
        label = self.volumes[0].label
        if label is None:
            return ()
        here = {volume.number for volume in self.volumes}
        absent = (label.other(n) for n in range(1, label.of + 1) if n not in here)
        return tuple(other for other in absent if not all(map(self.volume_of, other.share.blobs)))

    def volume_of(self, sha256: str) -> Volume | None:
        """The volume at hand that has a file of this name, the one that should have it first."""
        likely = self._numbers.get(sha256)
        name = _path(sha256)
        for volume in sorted(self.volumes, key=lambda item: item.number != likely):
            try:
                if volume.folder.look(name) is not None:
                    return volume
            except OSError as error:
                raise unreadable(volume.name, error) from error
        return None

    def place_of(self, sha256: str) -> str:
        """Where a blob lies or should lie, for messages: the name of a volume."""
        number = self._numbers.get(sha256)
        label = self.volumes[0].label
        for volume in self.volumes:
            if number is None or volume.number == number:
                return volume.name
        assert label is not None and number is not None
        return f"{label.other(number).missing()}, which is not there,"

    def open_blob(self, sha256: str) -> io.BufferedReader:
        """The file under the name of a blob; its bytes are not yet compared with the name.

        Raises:
            VerificationRefused: `bundle-blob-missing`, naming the volume it should be on.
            Failed: `source-unreadable`.
        """
        chunk = self._open_chunk(sha256)
        return io.BufferedReader(io.FileIO(chunk.descriptor), _BUFFER_BYTES)

    def read_blob(self, blob: Blob, limit: int) -> bytes:
        """The bytes of a blob, compared with its digest; at most `limit` of them.

        Raises:
            VerificationRefused: `bundle-blob-missing`, `bundle-blob-damaged`.
            Failed: `source-unreadable`.
        """
        return _read(self._open_chunk(blob.sha256), blob, limit)

    def read_open_file(self, path: str, blob: Blob, limit: int) -> bytes:
        """Like `read_blob`, for a file of the first steps under its own name."""
        volume = self.volumes[0]
        where = f"{volume.name}: {path}"
        try:
            return _read(OpenChunk(*volume.folder.open(path), where), blob, limit)
        except OSError as error:
            if error.errno in _NO_FILE and volume.there:
                raise _damaged(where, "it is not there, or not a regular file") from error
            raise unreadable(where, error) from error

    def open_object(self, carried: Carried) -> io.BufferedReader:
        """All bytes of an object, seekable, whatever volumes its chunks lie on.

        Bytes are not compared with digests: whoever takes them in does that, and asks
        `checking.locate_damage` when they differ. Memory is bounded, one file is open at a time.

        Raises (also while reading):
            VerificationRefused: `bundle-blob-missing`; `bundle-blob-damaged`, when a chunk has
                another size than it should.
            Failed: `source-unreadable`: the medium fails, is gone, or changed while it was read.
        """
        return io.BufferedReader(ObjectReader(carried.chunks, self._open_chunk), _BUFFER_BYTES)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        label = self.volumes[0].label
        return label.number_of() if label else {}

    def _open_chunk(self, sha256: str) -> OpenChunk:
        name = _path(sha256)
        volume = self.volume_of(sha256)
        if volume is None:
            raise self._missing(sha256)
        where = f"{volume.name}: {name}"
        try:
            descriptor, size = volume.folder.open(name)
        except OSError as error:
            if error.errno in _NO_FILE and volume.there:
                raise _damaged(where, "it is not a regular file") from error
            raise unreadable(where, error) from error
        return OpenChunk(descriptor, size, where)

    def _missing(self, sha256: str) -> VerificationRefused | Failed:
        for volume in self.volumes:
            if not volume.there:
                return unreadable(volume.name, "the medium was taken out")
        return VerificationRefused(
            "bundle-blob-missing",
            f"{self.place_of(sha256)} should hold a blob that is not there",
            context=_path(sha256),
            hint="give all volumes, or copy this one again from where it was written, then:"
            f" {COMMAND}",
            fault=Fault.YOU,
        )


def _read(chunk: OpenChunk, blob: Blob, limit: int) -> bytes:
    try:
        with os.fdopen(chunk.descriptor, "rb") as file:
            data = file.read(min(blob.size, limit) + 1)
    except OSError as error:
        raise unreadable(chunk.where, error) from error
    if len(data) != blob.size or digest.of_bytes(data) != blob.sha256:
        raise _damaged(chunk.where, f"it should hold {blob.size} bytes of sha256:{blob.sha256}")
    return data


def _path(sha256: str) -> str:
    if not is_digest(sha256):
        raise _damaged("the index", f"names a blob {sha256[:80]!r}")
    return f"{BLOBS}/{sha256}"


def _damaged(where: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        "bundle-blob-damaged",
        f"{where} is not what the bundle says it is",
        context=facts,
        hint=f"copy it again from where the bundle was written, then: {COMMAND}",
        fault=Fault.HOST,
    )
