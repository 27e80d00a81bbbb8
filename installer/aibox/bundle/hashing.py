"""Hashing many files of media at the speed of the media or of the processors, in bounded memory.

Files of one device are taken in the order in which they lie on it. Where heads must move for every
other place, one thread reads at a time, a large window at once, while the others hash.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

from aibox.bundle.discovery import Volume
from aibox.bundle.finding import Status
from aibox.pins import Blob
from aibox.progress import Meter, Report

SMALL_BYTES = 1 << 20
"""Files up to this size are read at once, and may stay in the page cache."""

WINDOW_BYTES = 8 << 20
MOST_WORKERS = 6
"""Buffers take 48 MiB at the most."""

TICK_S = 1.0
_OPTICAL_MAJOR = 11


@dataclass(frozen=True, slots=True)
class Task:
    """A file that should hold a blob, and where it lies: device, inode number."""

    volume: Volume
    path: str
    blob: Blob
    device: int
    inode: int


@dataclass
class Hashed:
    """Files and bytes that were read, and what is wrong: (task, status, detail).

    The detail of `digest-differs` is the digest that was found.
    """

    files: int = 0
    size: int = 0
    wrong: list[tuple[Task, Status, str]] = field(default_factory=list)


class _Stopped(Exception):
    """The check is over before this file is."""


class _Device:
    """The files of one device in order, for the threads that work on them."""

    def __init__(self, number: int, tasks: Iterable[Task], workers: int) -> None:
        self.tasks = deque(sorted(tasks, key=lambda task: task.inode))
        self.threads, alone = _streams(number, workers)
        self.reading: AbstractContextManager[object] = Lock() if alone else nullcontext()


class _Crew:
    """What one thread does with the files of one device, and what it found."""

    def __init__(self, device: _Device, stopped: Event) -> None:
        self._device, self._stopped = device, stopped
        self.found = Hashed()

    def work(self) -> None:
        window = memoryview(bytearray(WINDOW_BYTES))
        while not self._stopped.is_set():
            try:
                task = self._device.tasks.popleft()
                status, detail = _hash(task, window, self._device.reading, self._tell)
            except (IndexError, _Stopped):
                return
            self.found.files += 1
            if status is not Status.OK:
                self.found.wrong.append((task, status, detail))

    def _tell(self, count: int) -> None:
        self.found.size += count
        if self._stopped.is_set():
            raise _Stopped


def hash_files(tasks: Sequence[Task], *, report: Report, workers: int) -> Hashed:
    """Hash every file and compare; reports bytes, rate and time left about once a second."""
    meter = Meter("verify", "checked", sum(task.blob.size for task in tasks), report)
    stopped = Event()
    crews = _crews(tasks, min(workers, MOST_WORKERS), stopped)
    told = 0
    with ThreadPoolExecutor(max(1, min(len(crews), MOST_WORKERS))) as threads:
        futures = [threads.submit(crew.work) for crew in crews]
        try:
            while wait(futures, TICK_S).not_done:
                done = sum(crew.found.size for crew in crews)
                meter.add(done - told)
                told = done
        finally:
            stopped.set()
    for future in futures:
        future.result()
    return _together([crew.found for crew in crews])


def hash_file(task: Task) -> tuple[Status, str]:
    """How one file compares, and the detail as in `Hashed`."""
    return _hash(task, memoryview(bytearray(SMALL_BYTES)), nullcontext(), lambda _count: None)


def _crews(tasks: Iterable[Task], workers: int, stopped: Event) -> list[_Crew]:
    """One for every thread; first one of each device, so that all devices are busy at once."""
    by_device: dict[int, list[Task]] = {}
    for task in tasks:
        by_device.setdefault(task.device, []).append(task)
    devices = [_Device(number, found, workers) for number, found in sorted(by_device.items())]
    return [
        _Crew(device, stopped)
        for slot in range(workers)
        for device in devices
        if slot < device.threads
    ]


def _together(parts: Sequence[Hashed]) -> Hashed:
    wrong = [item for part in parts for item in part.wrong]
    return Hashed(
        sum(part.files for part in parts),
        sum(part.size for part in parts),
        sorted(wrong, key=lambda item: (item[0].volume.number, item[0].path)),
    )


def _streams(device: int, workers: int) -> tuple[int, bool]:
    """How many threads may work on a device, and whether only one may read at a time.

    An optical drive takes a tenth of a second to go elsewhere; a disk, some milliseconds.
    """
    if os.major(device) == _OPTICAL_MAJOR:
        return 1, True
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    for queue in (block / "queue", block / "../queue"):  # A partition's lies with its disk.
        try:
            return workers, (queue / "rotational").read_text().strip() == "1"
        except OSError:
            continue
    return workers, False


def _hash(
    task: Task,
    window: memoryview,
    reading: AbstractContextManager[object],
    tell: Callable[[int], None],
) -> tuple[Status, str]:
    try:
        descriptor, size = task.volume.folder.open(task.path)
    except OSError as error:
        return Status.UNREADABLE, error.strerror or str(error)
    try:
        if size != task.blob.size:
            return Status.SIZE_DIFFERS, f"has {size} bytes, not {task.blob.size}"
        found, count = _digest(descriptor, size, window, reading, tell)
    except OSError as error:
        return Status.UNREADABLE, error.strerror or str(error)
    finally:
        os.close(descriptor)
    if count != size:
        return Status.SIZE_DIFFERS, f"became shorter while it was read: {count} of {size} bytes"
    if found != task.blob.sha256:
        return Status.DIGEST_DIFFERS, found
    return Status.OK, ""


def _digest(
    descriptor: int,
    size: int,
    window: memoryview,
    reading: AbstractContextManager[object],
    tell: Callable[[int], None],
) -> tuple[str, int]:
    """The digest of at most `size` bytes, and how many there were."""
    if size <= SMALL_BYTES:
        data = os.read(descriptor, size)
        tell(len(data))
        return hashlib.sha256(data).hexdigest(), len(data)
    state, done = hashlib.sha256(), 0
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    while done < size:
        with reading:
            count = os.readv(descriptor, [window[: size - done]])
        if not count:
            break
        state.update(window[:count])
        os.posix_fadvise(descriptor, done, count, os.POSIX_FADV_DONTNEED)
        done += count
        tell(count)
    return state.hexdigest(), done
