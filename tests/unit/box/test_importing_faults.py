"""An import that breaks: no damage has a name, nobody is left behind, the next one goes on."""

from __future__ import annotations

import _thread
import errno
import io
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from aibox.box import blobs, importing
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, OpenFile, Operation
from aibox.box.importing import Incoming, import_all
from aibox.box.store import Store
from aibox.errors import Failed, VerificationRefused
from boxes import incoming, sha256
from faults import FailAt, KillAt, Recorder, in_a_process
from import_cases import (
    BLOBS,
    BYTES,
    CHUNK,
    DIRECT,
    LARGE,
    SEGMENT,
    a_store,
    damaged_names,
    lacking,
    threads_at_work,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

pytestmark = pytest.mark.usefixtures("small_steps")
# At every change of a sweep; with several workers it takes as long again.
WORKERS = [1, pytest.param(3, marks=pytest.mark.e2e)]


@pytest.fixture
def store(place: Path) -> Store:
    return a_store(place)


class Pulled(io.BytesIO):
    """A medium that is pulled out after so many bytes; counts what was read of it."""

    def __init__(self, data: bytes, after: int, read: list[int]) -> None:
        super().__init__(data)
        self._after, self._read = after, read

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.tell() >= self._after:
            raise OSError(errno.EIO, "Input/output error")
        count = super().readinto(memoryview(buffer)[: self._after - self.tell()])
        self._read.append(count)
        return count


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("size", [DIRECT - 1, LARGE - 1, 3 * SEGMENT])
def test_after_a_pulled_medium_every_byte_is_still_read_once(
    place: Path, store: Store, workers: int, size: int
) -> None:
    data, read = BYTES[:size], list[int]()
    others = incoming(*(one for one in BLOBS if len(one) != size))
    pulled = Incoming(sha256(data), size, lambda: Pulled(data, size - 7, read))
    with pytest.raises(Failed) as error:
        import_all(store, [*others, pulled], workers=workers)
    assert error.value.reference == "source-unreadable"
    assert threads_at_work() == []
    back = replace(pulled, open=lambda: Pulled(data, size + 1, read))
    counts: list[int] = []
    import_all(a_store(place), [*others, back], counts.append, workers=workers)
    assert lacking(place, [data, *(one for one in BLOBS if len(one) != size)]) == []
    assert sum(counts) == sum(one.size for one in (*others, back))
    again = (size - 7) % 4096 if size > DIRECT else 0  # The block that was not full.
    assert sum(read) == size + again


def test_what_was_taken_in_before_an_error_is_not_hashed_again(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Incoming("f" * 64, LARGE, lambda: io.BytesIO(bytes(LARGE)))
    with pytest.raises(VerificationRefused):
        import_all(store, [*incoming(*BLOBS[:4]), broken], workers=1)
    monkeypatch.setattr(blobs, "read_back", pytest.fail)
    assert import_all(a_store(place), incoming(*BLOBS)).present == 4


class LyingDisk(Filesystem):
    """Says that it wrote everything and does not."""

    def write(self, file: OpenFile, data: bytes | memoryview) -> None:
        super().write(file, bytes(len(data)))


def test_what_the_disk_lost_is_missed(place: Path, many: str) -> None:
    a_store(place)
    store = Store(place / "box", LyingDisk())
    with pytest.raises(VerificationRefused) as refusal:
        import_all(store, incoming(*BLOBS[1:4]))
    assert "the disk gives back other bytes" in refusal.value.context
    assert store.names() == set()


def test_a_part_of_other_bytes_is_found_out_and_every_byte_told_once(
    place: Path, store: Store
) -> None:
    for data in BLOBS:
        store.layout.part(sha256(data)).write_bytes(b"not ours" * 1000)
    counts: list[int] = []
    assert import_all(store, incoming(*BLOBS), counts.append).new == len(BLOBS)
    assert lacking(place, BLOBS) == []
    assert sum(counts) == sum(map(len, BLOBS))


@pytest.mark.parametrize("workers", [1, 5])
@pytest.mark.parametrize("bad", [0, 4, len(BLOBS) - 1])
def test_one_bad_blob_stops_all_and_leaves_nobody_behind(
    place: Path, workers: int, bad: int
) -> None:
    recorder = Recorder()
    store = a_store(place, recorder)
    objects = incoming(*BLOBS)
    good = objects[bad]
    objects[bad] = replace(good, sha256="a" * 64)
    with pytest.raises(VerificationRefused) as refusal:
        import_all(store, objects, workers=workers)
    assert "a" * 64 in refusal.value.context
    assert threads_at_work() == []
    assert damaged_names(place) == []
    assert not store.layout.part("a" * 64).exists() or not good.size
    import_all(store, incoming(*BLOBS), workers=workers)
    assert lacking(place, BLOBS) == []


def test_a_source_that_cannot_be_opened_is_a_plain_error(store: Store, place: Path) -> None:
    missing = Incoming("a" * 64, 5, lambda: (place / "nothing").open("rb", buffering=0))
    with pytest.raises(Failed) as error:
        import_all(store, [missing, replace(missing, sha256="b" * 64, size=LARGE)])
    assert error.value.reference == "source-unreadable"


def test_the_first_error_is_the_one_that_is_raised(store: Store) -> None:
    """A thread that is stopped by it has its own to tell, which nobody wants to hear."""
    failed = threading.Event()

    class First(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            failed.set()
            raise OSError(errno.EIO, "the first")

    class Second(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            assert failed.wait(5)
            deadline = time.monotonic() + 5
            while len(threads_at_work()) > 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            raise OSError(errno.EIO, "the second")

    objects = [Incoming("a" * 64, 10, Second), Incoming("b" * 64, 10, First)]
    with pytest.raises(Failed, match="cannot be read") as error:
        import_all(store, objects, workers=2)
    assert "the first" in error.value.context


def test_an_error_stops_the_others_in_the_middle_of_a_blob(store: Store) -> None:
    reads: list[bool] = []
    began = threading.Event()

    def wrong_bytes() -> BinaryIO:
        began.set()
        return io.BytesIO(bytes(DIRECT))

    class Long(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            assert began.wait(5)
            deadline = time.monotonic() + 5
            while len(threads_at_work()) > 1 and time.monotonic() < deadline:
                time.sleep(0.001)
            reads.append(True)
            return super().readinto(buffer)

    data = BYTES[: 7 * CHUNK // 2]
    wrong = Incoming("b" * 64, DIRECT, wrong_bytes)
    objects = [Incoming(sha256(data), len(data), lambda: Long(data)), wrong]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(VerificationRefused):
        patch.setattr(importing, "LARGE_BYTES", 1 << 20)
        import_all(store, objects, workers=2)
    assert len(reads) == 1
    assert store.layout.part(sha256(data)).stat().st_size == CHUNK, "what came is kept"


def test_ctrl_c_ends_the_threads_before_it_ends_the_command(place: Path) -> None:
    """Pressed twice: the second time while the command waits for a thread that still writes."""
    recorder = Recorder()
    store = a_store(place, recorder)
    pressing: list[threading.Thread] = []

    class Pressing(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            if self.tell():
                pressing.append(threading.current_thread())
                deadline = time.monotonic() + 10
                _thread.interrupt_main()
                while signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                    assert time.monotonic() < deadline
                    time.sleep(0.001)
                os.kill(os.getpid(), signal.SIGINT)
            return super().readinto(buffer)

    objects = [Incoming(sha256(BYTES), len(BYTES), lambda: Pressing(BYTES))]
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            import_all(store, [*objects, *incoming(*BLOBS)])
        assert [one.is_alive() for one in pressing] == [False]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    before = len(recorder.operations)
    import_all(store, incoming(BYTES, *BLOBS))
    assert len(recorder.operations) > before
    assert lacking(place, [BYTES, *BLOBS]) == []


def test_a_progress_that_cannot_be_shown_stops_the_import(place: Path, store: Store) -> None:
    def broken_pipe(_count: int) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        import_all(store, incoming(*BLOBS), broken_pipe)
    assert threads_at_work() == []
    assert damaged_names(place) == []


# -- the disk -----------------------------------------------------------------------------------

WRITING = (Kind.MAKE_DIRECTORY, Kind.OPEN, Kind.WRITE, Kind.ALLOCATE, Kind.RENAME)
SYNCS = (Kind.SYNC_FILE, Kind.SYNC_DIRECTORY, Kind.SYNC_FILESYSTEM)


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize(
    ("number", "kinds", "lasts"),
    [
        (errno.ENOSPC, WRITING, False),
        (errno.ENOSPC, WRITING, True),
        (errno.EIO, SYNCS, False),
        (errno.EIO, SYNCS, True),
        (errno.EROFS, tuple(Kind), True),
    ],
)
def test_an_error_of_the_disk_at_every_change(
    place: Path,
    workers: int,
    number: int,
    kinds: tuple[Kind, ...],
    lasts: bool,
    many: str,
    figure: Callable[[str], None],
) -> None:
    for boundary in range(10_000):
        here = place / str(boundary)
        here.mkdir()
        failing = FailAt(boundary, number, kinds, lasts)
        store = a_store(here, failing)
        try:
            import_all(store, incoming(*BLOBS), workers=workers)
        except DiskTrouble as trouble:
            assert trouble.number == number
        else:  # Only what says which blobs were hashed in this boot may be lost.
            assert lacking(here, BLOBS) == [], "a success that is none"
        assert threads_at_work() == []
        assert damaged_names(here) == [], f"{number} at {boundary}"
        import_all(a_store(here), incoming(*BLOBS), workers=workers)
        assert lacking(here, BLOBS) == [], f"{number} at {boundary}, run again"
        if not failing.fired:
            break
    lasting = " from there on" if lasts else ""
    figure(
        f"{errno.errorcode[number]}{lasting} in an import by {workers}, {many}: "
        f"{boundary} boundaries, 0 failures"
    )


@pytest.mark.parametrize("kind", [Kind.SYNC_FILE, Kind.SYNC_DIRECTORY, Kind.SYNC_FILESYSTEM])
def test_after_an_fsync_that_failed_no_name_is_given_or_settled(
    place: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MANY", 1 if kind is Kind.SYNC_FILESYSTEM else 1000)
    recorder, failing = Recorder(), FailAt(0, errno.EIO, (kind,))

    def watch(operation: Operation) -> None:
        if failing.fired:
            recorder(operation)
        failing(operation)

    store = a_store(place)
    store.make_folders(sha256(data) for data in BLOBS)
    with pytest.raises(DiskTrouble):
        import_all(a_store(place, watch), incoming(*BLOBS), workers=1)
    after = {operation.kind for operation in recorder.operations}
    assert after <= {Kind.UNLINK}
    assert not store.layout.verified.exists()


@pytest.mark.parametrize("workers", WORKERS)
def test_a_kill_at_every_change_leaves_sound_blobs_and_work_that_goes_on(
    place: Path, workers: int, many: str, figure: Callable[[str], None]
) -> None:
    recorder = Recorder()
    (place / "counted").mkdir()
    import_all(a_store(place / "counted", recorder), incoming(*BLOBS), workers=workers)
    for boundary in range(len(recorder.operations)):
        here = place / str(boundary)
        here.mkdir()
        store = a_store(here, KillAt(boundary))
        ended = in_a_process(lambda: import_all(store, incoming(*BLOBS), workers=workers))  # noqa: B023
        assert ended == -9
        assert damaged_names(here) == [], f"boundary {boundary}"
        counts: list[int] = []
        import_all(a_store(here), incoming(*BLOBS), counts.append, workers=workers)
        assert lacking(here, BLOBS) == [], f"boundary {boundary}, run again"
        assert sum(counts) == sum(map(len, BLOBS))
    count = len(recorder.operations)
    figure(f"kill -9 in an import by {workers}, {many}: {count} boundaries, 0 failures")
