"""Blobs: files named by the SHA-256 of their bytes, written once, believed never.

A new blob is copied and hashed in one pass, made durable, dropped from the page cache and read
back from the disk, and only then gets its name. A blob that is there already is hashed again
before it is believed, unless this boot has done so: a power cut leaves empty files under right
names, and a store that trusts them stays broken through every re-install.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition
from typing import BinaryIO

from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, Operation
from aibox.box.intake import Intake, Tally, ignore, read_back, unreadable
from aibox.box.layout import Layout
from aibox.box.verified import Verified
from aibox.errors import Fault, PreflightVeto, VerificationRefused

Source = BinaryIO | Path | Callable[[], BinaryIO]
"""Where a blob comes from. A stream is read once and left open; the others may be opened again."""

HEADROOM_BYTES = 16 << 20
HEADROOM_FILES = 64
HEADROOM_SHARE = 0.03
"""Room left beside new blobs for logs and the file system itself (share of what is written)."""


@dataclass(frozen=True)
class Damage:
    """What is wrong with one blob or one file; `digest` is what it should have."""

    path: str
    digest: str
    reason: str


class BlobStore:
    """The blobs below one box root. Imports of different blobs may run in parallel."""

    def __init__(self, layout: Layout, filesystem: Filesystem, boot: str) -> None:
        self.layout = layout
        self.filesystem = filesystem
        self.verified = Verified(layout.verified, filesystem, boot)
        self._turn = Condition()
        self._busy: set[str] = set()

    def has(self, digest: str, size: int) -> bool:
        """Whether a regular file of this name and size is there: a look, not a proof."""
        found = _status(self.layout.blob(digest))
        return found is not None and found.st_size == size

    def names(self) -> set[str]:
        """Everything that lies where blobs lie, sound or not."""
        return {blob.name for folder in _entries(self.layout.blobs) for blob in _entries(folder)}

    def claimed(self) -> dict[str, int]:
        """Digest -> bytes of room that half-imported blobs take."""
        return {
            part.name.removesuffix(".part"): _room_of(Path(part.path))
            for part in _entries(self.layout.parts)
        }

    def import_stream(
        self,
        source: Source,
        digest: str,
        size: int,
        on_bytes: Callable[[int], None] = ignore,
    ) -> bool:
        """Take in one blob of known digest and size (bytes); True if it was not there before.

        A source that stops early leaves its part behind, and the next import of the same digest
        goes on from there after hashing what it has. `on_bytes` gets byte counts that sum up to
        `size`. A blob already present is hashed again instead of copied; a damaged one is
        quarantined and replaced.

        Raises:
            VerificationRefused: more or fewer bytes than `size`, or other bytes than `digest`.
            PreflightVeto: `no-room`, before anything is written.
            DiskTrouble: the disk refused or failed; the part is given up.
        """
        with self._claimed(digest):
            if self._present(digest, size):
                on_bytes(size)
                return False
            self.require_room(max(0, size - _room_of(self.layout.part(digest))), files=1)
            self.make_folders([digest])
            self.take_in(source, digest, size, on_bytes)
            self.settle([digest])
            return True

    def make_folders(self, digests: Iterable[str]) -> None:
        """Make the folders that blobs of these digests will lie in."""
        self.filesystem.make_directories(self._folders(digests))

    def take_in(
        self, source: Source, digest: str, size: int, on_bytes: Callable[[int], None] = ignore
    ) -> None:
        """Copy a missing blob in and prove it. It has its name, which `settle` makes durable.

        Counts and errors are those of `import_stream`; nothing is asked about room.
        """
        part = self.layout.part(digest)
        resumed = part.exists()
        tally = Tally(size, on_bytes)
        intake = Intake(self.filesystem, part, digest, size, tally.add)
        try:
            self._take(source, intake)
        except VerificationRefused:
            if not (resumed and _opens_again(source)):
                raise
            # The fault may lie in what an earlier import left behind; it is gone now.
            tally.restart()
            self._take(source, intake)
        self.filesystem.rename(part, self.layout.blob(digest))

    def take_in_together(
        self, blobs: Sequence[tuple[Source, str, int]], on_bytes: Callable[[int], None] = ignore
    ) -> None:
        """`take_in` for many small blobs (source, digest, size) of which no part was left behind.

        They are made durable at one stroke, before any of them gets its name.
        """
        parts = [self.layout.part(digest) for _, digest, _ in blobs]
        with self._giving_up(parts), self.filesystem.watch(self.layout.parts) as folder:
            intakes = [
                Intake(self.filesystem, part, digest, size, on_bytes)
                for part, (_, digest, size) in zip(parts, blobs, strict=True)
            ]
            for intake, (source, _, _) in zip(intakes, blobs, strict=True):
                with _opened(source) as stream:
                    intake.fill(stream)
            self.filesystem.sync_filesystem(folder)
            for intake in intakes:
                intake.prove()
                self.filesystem.rename(intake.part, self.layout.blob(intake.digest))

    def settle(self, taken: Iterable[str], found: Iterable[str] = ()) -> None:
        """Make the names of blobs durable, and believe those `taken` in for the rest of this boot.

        Names of blobs that were `found` may come from a command that was killed before it could
        make them durable.
        """
        taken = tuple(taken)
        for folder in self._folders((*taken, *found)):
            self.filesystem.sync_directory(folder)
        self.filesystem.sync_directory(self.layout.parts)
        for digest in taken:
            self.verified.note(digest, self.layout.blob(digest).stat())

    def verify(self, digest: str, on_bytes: Callable[[int], None] = ignore) -> Damage | None:
        """Hash the blob, unless this boot has; None if it is sound. Changes nothing.

        `on_bytes` gets the number of bytes hashed, as they are.
        """
        path = self.layout.blob(digest)
        found = _status(path)
        if found is None:
            return Damage(str(path), digest, "missing")
        if self.verified.knows(digest, found):
            return None
        try:
            actual = read_back(path, on_bytes)
        except OSError as error:
            return Damage(str(path), digest, f"unreadable: {error.strerror}")
        if actual != digest:
            return Damage(str(path), digest, "emptied" if not found.st_size else "other bytes")
        self.verified.note(digest, found)
        return None

    def quarantine(self, digest: str) -> None:
        """Take a damaged blob out of use, and keep its bytes for whoever asks why."""
        self.verified.forget(digest)
        blob = self.layout.blob(digest)
        if os.path.lexists(blob):
            self.filesystem.move(blob, self.layout.quarantined(digest))

    def require_room(self, size: int, files: int) -> None:
        """Refuse before the first byte what the disk, or one of the disks, cannot take.

        Args:
            size: bytes about to be written.
            files: files about to be made.

        Raises:
            PreflightVeto: `no-room`.
        """
        folders = (self.layout.root, self.layout.blobs, self.layout.parts)
        disks = {folder.stat().st_dev: folder for folder in reversed(folders) if folder.exists()}
        for folder in disks.values():
            _require_room(folder, size, files)

    def _folders(self, digests: Iterable[str]) -> list[Path]:
        one_of_each = {digest[:2]: digest for digest in digests}
        return sorted(self.layout.blob(digest).parent for digest in one_of_each.values())

    def _present(self, digest: str, size: int) -> bool:
        if _status(self.layout.blob(digest)) is None:
            return False
        if self.has(digest, size) and self.verify(digest) is None:
            return True
        self.quarantine(digest)
        return False

    def _take(self, source: Source, intake: Intake) -> None:
        with _opened(source) as stream, self._giving_up([intake.part]):
            intake.take(stream)

    @contextmanager
    def _claimed(self, digest: str) -> Iterator[None]:
        """One import of a digest at a time: a release may name a blob twice."""
        with self._turn:
            self._turn.wait_for(lambda: digest not in self._busy)
            self._busy.add(digest)
        try:
            yield
        finally:
            with self._turn:
                self._busy.remove(digest)
                self._turn.notify_all()

    @contextmanager
    def _giving_up(self, parts: Sequence[Path]) -> Iterator[None]:
        """When the disk fails, free the room: bytes of these parts cannot be believed any more."""
        first = parts[0]
        try:
            yield
        except (DiskTrouble, OSError) as error:
            with suppress(DiskTrouble):
                for part in parts:
                    self.filesystem.unlink(part)
            if isinstance(error, DiskTrouble):
                raise
            raise DiskTrouble(Operation(Kind.READ_BACK, first), error) from error


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    """A stream at its beginning; what was opened here is closed here."""
    if not isinstance(source, Path) and not callable(source):
        yield source
        return
    try:
        stream = source.open("rb", buffering=0) if isinstance(source, Path) else source()
    except OSError as error:
        raise unreadable(str(error)) from error
    with stream:
        yield stream


def _opens_again(source: Source) -> bool:
    return callable(source) or isinstance(source, Path)


def _entries(folder: str | Path | os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError:
        return


def _room_of(path: Path) -> int:
    """Bytes that a file takes on its disk; 0 if it is not there."""
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _status(path: Path) -> os.stat_result | None:
    """The status of a regular file; None for anything else, links included."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _require_room(folder: Path, size: int, files: int) -> None:
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    needed = size + int(size * HEADROOM_SHARE) + HEADROOM_BYTES
    if free < needed:
        raise _no_room(f"{folder}: needed: {needed} bytes; free: {free} bytes")
    # Some file systems count no inodes at all and report zero of them.
    if room.f_files and room.f_favail < files + HEADROOM_FILES:
        needed = files + HEADROOM_FILES
        raise _no_room(f"{folder}: needed: {needed} inodes; free: {room.f_favail}")


def _no_room(facts: str) -> PreflightVeto:
    return PreflightVeto(
        "no-room",
        "the disk of the box has no room for this release",
        context=facts,
        hint="free some room, or remove old generations: ./aibox gc",
        fault=Fault.HOST,
    )


def damaged(damages: tuple[Damage, ...]) -> VerificationRefused:
    """The refusal that names what is wrong."""
    first = damages[0]
    more = f" and {len(damages) - 1} more" if len(damages) > 1 else ""
    return VerificationRefused(
        "damaged",
        "files of this generation are not what they should be",
        context=f"{first.path}: {first.reason}{more}",
        hint="bring the bytes back: ./aibox install --profile local",
        fault=Fault.HOST,
    )
