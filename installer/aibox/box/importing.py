"""Taking in many blobs in one pass: checked for room together, in parallel, settled together.

What is missing is known, and its room found, before the first byte is written. Small blobs are
taken in by several threads, so that the disk makes many of them durable at one stroke. Large
ones keep the processors busy by themselves: one is read while the end of another is proven, and
a medium that turns is never sent to and fro. Names become durable at the end, a folder at a
time, before anything can rest on them.
"""

from __future__ import annotations

import io
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import BinaryIO, cast

from aibox.box.blobs import BlobStore
from aibox.box.filesystem import DiskTrouble
from aibox.box.intake import DIRECT_BYTES, LARGE_BYTES, Tally, ignore, read_into
from aibox.box.layout import checked
from aibox.box.worker_threads import Item, WorkerThreads
from aibox.errors import Fault, VerificationRefused

SETTLE_S = 30.0
"""How much work on proofs a kill may cost: what was settled is not hashed again in this boot."""

FOLDERS = 256
"""Folders that blobs lie in: all of them may have to be made."""

Count = Callable[[int], None]

MANY = 256
"""From this number of tiny blobs on they are made durable together, not each for itself."""

_TOGETHER = 1024
"""How many at the most, so that one bad blob costs little."""

_HASHED_AT_ONCE = (2, 16)
_SMALL_AT_ONCE = (4, 8)
_LARGE_AT_ONCE = (2, 2)
"""At least and at most, whatever the number of processors: a disk wants company, memory an end."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A blob to be taken in: digest, size in bytes, and how to open it at its beginning.

    `open` may be called again, from any thread; what it returns is closed. A stream with
    `readinto` is read without a copy.
    """

    sha256: str
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken in, what was there already (and hashed), what was named more than once."""

    new: int
    new_bytes: int
    present: int
    present_bytes: int
    repeated: int


def import_all(
    store: BlobStore,
    objects: Sequence[Incoming],
    on_bytes: Callable[[int], None] = ignore,
    *,
    workers: int | None = None,
) -> Imported:
    """Bring every object into the store; on return all are durable, proven and named.

    `on_bytes` is called on the calling thread; its counts sum up to the sizes of `objects`.
    The first error stops the other threads, and is raised when they have ended; what they have
    taken in by then stays, and the next call goes on from there.

    Args:
        workers: threads that take in blobs; None: by the number of processors.

    Raises:
        PreflightVeto: `no-room`, before anything is written.
        VerificationRefused, DiskTrouble, Failed: those of `BlobStore.import_stream`.
    """
    batch = _Batch(store, on_bytes, workers)
    wanted, names = _distinct(objects), store.names()
    there = [one for one in wanted if one.sha256 in names and store.has(one.sha256, one.size)]
    absent = _without(wanted, there)
    require_room(store, absent)
    damaged = batch.look(there)
    if damaged:
        require_room(store, [*absent, *damaged])
    batch.take(absent, damaged)
    there = _without(there, damaged)
    batch.settle(there)
    on_bytes(sum(one.size for one in objects) - sum(one.size for one in wanted))
    new = (*absent, *damaged)
    return Imported(
        new=len(new),
        new_bytes=sum(one.size for one in new),
        present=len(there),
        present_bytes=sum(one.size for one in there),
        repeated=len(objects) - len(wanted),
    )


def require_room(store: BlobStore, objects: Iterable[Incoming]) -> None:
    """Refuse what the disk cannot take in all; what earlier tries have claimed counts as had.

    Raises:
        PreflightVeto: `no-room`.
    """
    block, claimed = os.statvfs(store.layout.root).f_frsize, store.claimed()
    size = files = 0
    for one in objects:
        files += 1
        size += max(0, -(-one.size // block) * block - claimed.get(one.sha256, 0))
    if files:
        store.require_room(size, files + FOLDERS)


def _without(objects: Iterable[Incoming], others: Iterable[Incoming]) -> list[Incoming]:
    left_out = {one.sha256 for one in others}
    return [one for one in objects if one.sha256 not in left_out]


def _distinct(objects: Iterable[Incoming]) -> list[Incoming]:
    """Each digest once, in order; refuses what is no digest, and one that is given two sizes."""
    known: dict[str, Incoming] = {}
    for one in objects:
        first = known.setdefault(checked(one.sha256), one)
        if first.size != one.size:
            raise VerificationRefused(
                "contradicting-sizes",
                "a blob is given two sizes",
                context=f"sha256:{one.sha256}: {first.size} and {one.size} bytes",
                hint="the release is damaged or forged; compare it with its lock:"
                " ./aibox lock --check",
                fault=Fault.UPSTREAM,
            )
    return list(known.values())


class _Batch:
    """One call of `import_all`: its threads, what they took in, what of it is not settled yet."""

    def __init__(
        self, store: BlobStore, on_bytes: Callable[[int], None], workers: int | None
    ) -> None:
        self._store, self._on_bytes, self._workers = store, on_bytes, workers
        self._taken = deque[str]()
        self._settled = time.monotonic()

    def look(self, there: Sequence[Incoming]) -> list[Incoming]:
        """Hash what has the right name and size; returns what is damaged."""
        damaged: list[Incoming] = []

        def hash_one(one: Incoming, add: Count) -> None:
            tally = Tally(one.size, add)
            if self._store.verify(one.sha256, tally.add):
                damaged.append(one)
            tally.add(one.size)

        self._work(there, hash_one, _HASHED_AT_ONCE)
        return damaged

    def take(self, absent: Sequence[Incoming], damaged: Sequence[Incoming]) -> None:
        """Take in what is missing. After an error of the disk nothing more is asked of it."""
        coming, begun = (*absent, *damaged), self._store.claimed()
        for digest in self._store.names() & {one.sha256 for one in coming}:
            self._store.quarantine(digest)
        self._store.make_folders(one.sha256 for one in coming)
        tiny = [one for one in absent if one.size < DIRECT_BYTES and one.sha256 not in begun]
        tiny = tiny if len(tiny) >= MANY else []
        others = _without(coming, tiny)
        try:
            self._work(list(_cut(tiny, self._threads(_SMALL_AT_ONCE))), self._group, _SMALL_AT_ONCE)
            one_by_one = self._one_by_one(damaged)
            self._work([one for one in others if not _large(one)], one_by_one, _SMALL_AT_ONCE)
            self._work([one for one in others if _large(one)], one_by_one, _LARGE_AT_ONCE)
        except DiskTrouble:
            raise
        except BaseException:
            with suppress(DiskTrouble):
                self.settle()
            raise

    def _group(self, group: Sequence[Incoming], add: Count) -> None:
        blobs = [(one.open, one.sha256, one.size) for one in group]
        self._store.take_in_together(blobs, add)
        self._taken.extend(one.sha256 for one in group)

    def _one_by_one(self, damaged: Iterable[Incoming]) -> Callable[[Incoming, Count], None]:
        counted, turn = {one.sha256 for one in damaged}, Lock()

        def take_one(one: Incoming, add: Count) -> None:
            # Bytes of a damaged blob were counted when it was hashed.
            count = Tally(0, add).add if one.sha256 in counted else add
            source = partial(_open_in_turn, one, turn) if _large(one) else one.open
            self._store.take_in(source, one.sha256, one.size, count)
            self._taken.append(one.sha256)

        return take_one

    def settle(self, there: Iterable[Incoming] = ()) -> None:
        """Make names durable, also of what was `there`, and keep what was proven so far."""
        taken = [self._taken.popleft() for _ in range(len(self._taken))]
        self._store.settle(taken, (one.sha256 for one in there))
        self._store.verified.save()
        self._settled = time.monotonic()

    def _work(
        self, items: Sequence[Item], step: Callable[[Item, Count], None], at_once: tuple[int, int]
    ) -> None:
        WorkerThreads(items, step).run(min(self._threads(at_once), len(items)), self._tick)

    def _threads(self, at_once: tuple[int, int]) -> int:
        least, most = at_once
        return min(most, self._workers or max(least, (os.cpu_count() or 1) // 2))

    def _tick(self, count: int) -> None:
        self._on_bytes(count)
        if self._taken and time.monotonic() - self._settled >= SETTLE_S:
            self.settle()


def _cut(objects: Sequence[Incoming], threads: int) -> Iterator[Sequence[Incoming]]:
    """Groups of blobs that are made durable together: enough of them for all threads."""
    length = min(_TOGETHER, -(-len(objects) // threads)) or 1
    for start in range(0, len(objects), length):
        yield objects[start : start + length]


def _large(one: Incoming) -> bool:
    return one.size >= LARGE_BYTES


def _open_in_turn(one: Incoming, turn: Lock) -> BinaryIO:
    return cast(BinaryIO, _InTurn(one.open(), turn))


class _InTurn(io.RawIOBase):
    """A stream that is read to its end before the next one that shares its `turn`."""

    def __init__(self, stream: BinaryIO, turn: Lock) -> None:
        super().__init__()
        self._stream, self._turn, self._mine = stream, turn, False

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._mine:
            self._mine = self._turn.acquire()
        count = read_into(self._stream, buffer)
        if not count:
            self._pass_on()
        return count

    def seekable(self) -> bool:
        return self._stream.seekable()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def close(self) -> None:
        self._pass_on()
        self._stream.close()
        super().close()

    def _pass_on(self) -> None:
        if self._mine:
            self._mine = False
            self._turn.release()
