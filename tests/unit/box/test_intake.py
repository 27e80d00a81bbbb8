"""One blob on its way in: every size and every break ends in the same bytes, or in none."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.box import direct, intake
from aibox.box.direct import BLOCK_BYTES, DiskReader, aligned, go_direct
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, OpenFile
from aibox.box.intake import Intake, Tally
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused
from boxes import sha256
from faults import Recorder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK, SEGMENT, LARGE, DIRECT = (BLOCK_BYTES * number for number in (4, 8, 6, 2))
BYTES = random.Random(1).randbytes(SEGMENT * 5)


@pytest.fixture(autouse=True, scope="module")
def small_steps() -> Iterator[None]:
    """Chunks and segments of kilobytes, so that small blobs meet all their edges."""
    steps = {
        "CHUNK_BYTES": CHUNK,
        "SEGMENT_BYTES": SEGMENT,
        "LARGE_BYTES": LARGE,
        "DIRECT_BYTES": DIRECT,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in steps.items():
            patch.setattr(intake, name, value)
        yield


class Dribbling(io.BytesIO):
    """Gives as much as it likes, as a pipe does."""

    def readinto(self, buffer: WriteableBuffer) -> int:
        return super().readinto(memoryview(buffer)[: 1 + self.tell() % 5000])


class ReadOnly:
    """A stream that has `read` and nothing else."""

    def __init__(self, data: bytes) -> None:
        self._stream = io.BytesIO(data)
        self.read = self._stream.read

    def seekable(self) -> bool:
        return False


class Breaking(io.BytesIO):
    """Fails for good when it has given so many bytes."""

    def __init__(self, data: bytes, after: int, error: Exception) -> None:
        super().__init__(data)
        self._after, self._error = after, error

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self._after - self.tell()
        if not left:
            raise self._error
        return super().readinto(memoryview(buffer)[:left])


def an_intake(
    part: Path, data: bytes, counts: list[int] | None = None, filesystem: Filesystem | None = None
) -> Intake:
    counts = [] if counts is None else counts
    return Intake(filesystem or Filesystem(), part, sha256(data), len(data), counts.append)


edges = st.sampled_from([0, 1, BLOCK_BYTES, DIRECT, CHUNK, LARGE, SEGMENT, 2 * SEGMENT, 4 * CHUNK])
sizes = st.one_of(
    st.builds(lambda edge, off: max(0, edge + off), edges, st.integers(-2, 2)),
    st.integers(0, len(BYTES) - 1),
)
streams = st.sampled_from([io.BytesIO, Dribbling, ReadOnly])


@settings(max_examples=120, deadline=None)
@given(size=sizes, held=sizes, sound=st.booleans(), stream=streams, memory=st.booleans())
def test_whatever_was_there_before_the_part_ends_as_the_blob(
    size: int, held: int, sound: bool, stream: Callable[[bytes], BinaryIO], memory: bool
) -> None:
    data = BYTES[:size]
    with TemporaryDirectory(dir="/dev/shm" if memory else None) as folder:
        part = Path(folder) / "part"
        if held:
            part.write_bytes((BYTES if sound else BYTES[1:])[:held])
            part.chmod(0o444)
        counts: list[int] = []
        try:
            an_intake(part, data, counts).take(stream(data))
        except VerificationRefused:
            assert held, "sound bytes into nothing were refused"
            assert not sound
            assert not part.exists()
            return
        assert part.read_bytes() == data
        assert part.stat().st_mode & 0o777 == 0o444
        assert sum(counts) == size


@pytest.mark.parametrize("size", [DIRECT - 1, LARGE - 1, SEGMENT * 3 + 5])
def test_other_bytes_are_refused_in_every_lane(tmp_path: Path, size: int) -> None:
    data = BYTES[:size]
    wrong = data[:-1] + bytes([data[-1] ^ 1])
    for stream in (wrong, data + b"x"):
        with pytest.raises(VerificationRefused, match="not what the release says"):
            an_intake(tmp_path / "part", data).take(io.BytesIO(stream))
        assert not (tmp_path / "part").exists()


@pytest.mark.parametrize("size", [DIRECT - 1, LARGE - 1, SEGMENT * 3 + 5])
@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        Failed("source-unreadable", "the disc is gone", hint="./aibox", fault=Fault.HOST),
        None,
    ],
)
def test_everything_that_came_before_a_break_is_kept(
    tmp_path: Path, size: int, error: Exception | None
) -> None:
    data, part, came = BYTES[:size], tmp_path / "part", size - 3
    broken = Breaking(data, came, error) if error else io.BytesIO(data[:came])
    with pytest.raises(AiboxError) as raised:
        an_intake(part, data).take(broken)
    assert raised.value.reference == ("source-unreadable" if error else "blob-too-short")
    assert part.read_bytes() == data[:came]
    rest = io.BytesIO(data)
    an_intake(part, data).take(rest)
    assert part.read_bytes() == data


def test_a_part_that_is_too_long_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(BYTES)
    an_intake(tmp_path / "part", b"short").take(io.BytesIO(b"short"))
    assert (tmp_path / "part").read_bytes() == b"short"


class WithoutDirect(Filesystem):
    """Lets itself be told to pass the page cache by, and then refuses to write more that way."""

    def write(self, file: OpenFile, data: bytes | memoryview) -> None:
        if fcntl.fcntl(file.descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            super().write(file, data[:BLOCK_BYTES])
            with self._doing(Kind.WRITE, file.path):
                raise OSError(errno.EINVAL, "Invalid argument")
        super().write(file, data)


@pytest.mark.parametrize("size", [LARGE - 1, SEGMENT * 3 + 5])
def test_a_disk_that_wants_no_direct_writes_gets_others(tmp_path: Path, size: int) -> None:
    part, data = tmp_path / "part", BYTES[:size]
    an_intake(part, data, filesystem=WithoutDirect()).take(io.BytesIO(data))
    assert part.read_bytes() == data


@pytest.mark.parametrize("size", [DIRECT - 1, LARGE - 1, SEGMENT * 3 + 5])
def test_a_file_system_without_direct_access_is_asked_as_usual(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[int] = []
    real = direct.drop_from_cache

    def drop(descriptor: int, start: int = 0, length: int = 0) -> None:
        dropped.append(length)
        real(descriptor, start, length)

    monkeypatch.setattr(direct, "go_direct", lambda _descriptor, _wanted: False)
    monkeypatch.setattr(direct, "drop_from_cache", drop)
    part, data = tmp_path / "part", BYTES[:size]
    an_intake(part, data).take(io.BytesIO(data))
    assert part.read_bytes() == data
    assert sum(dropped) >= size, "the proof came from the page cache"


def test_a_disk_that_wants_no_direct_reads_is_read_through_an_emptied_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(BYTES)
    real = os.preadv

    def preadv(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(descriptor, buffers, offset)

    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    try:
        if not go_direct(descriptor, True):
            pytest.skip("this file system has no direct access: run the tests on ext4")
        monkeypatch.setattr(os, "preadv", preadv)
        memory = aligned(CHUNK)
        assert DiskReader(descriptor).read(BLOCK_BYTES, len(BYTES), memory) == CHUNK
        assert memory == BYTES[BLOCK_BYTES:][:CHUNK]
    finally:
        os.close(descriptor)


def test_a_disk_that_fails_at_the_proof_is_not_asked_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", failing)
    for size in (DIRECT - 1, SEGMENT * 3):
        with pytest.raises(OSError, match="Input/output error"):
            an_intake(tmp_path / str(size), BYTES[:size]).take(io.BytesIO(BYTES[:size]))


class LyingDisk(Filesystem):
    """Says that it wrote the last chunk and does not."""

    def __init__(self, chunks: int) -> None:
        super().__init__()
        self._left = chunks

    def write(self, file: OpenFile, data: bytes | memoryview) -> None:
        self._left -= 1
        super().write(file, data if self._left else aligned(len(data)))


@pytest.mark.parametrize("size", [CHUNK, SEGMENT * 2, SEGMENT * 3 + CHUNK])
def test_what_the_disk_lost_is_missed(tmp_path: Path, size: int) -> None:
    data = BYTES[:size]
    with pytest.raises(VerificationRefused) as refusal:
        an_intake(tmp_path / "part", data, filesystem=LyingDisk(size // CHUNK)).take(
            io.BytesIO(data)
        )
    assert "the disk gives back other bytes" in refusal.value.context


@pytest.mark.parametrize("size", [DIRECT - 1, LARGE - 1, SEGMENT * 3 + 5])
def test_what_is_read_back_was_made_durable_before(
    tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    real = DiskReader.read
    durable = [0]

    class Counting(Filesystem):
        written = 0

        def write(self, file: OpenFile, data: bytes | memoryview) -> None:
            super().write(file, data)
            self.written += len(data)

        def sync_file(self, file: OpenFile) -> None:
            super().sync_file(file)
            durable[0] = self.written

    def read(self: DiskReader, start: int, end: int, into: memoryview) -> int:
        assert end <= durable[0]
        return real(self, start, end, into)

    monkeypatch.setattr(DiskReader, "read", read)
    data = BYTES[:size]
    an_intake(tmp_path / "part", data, filesystem=Counting(recorder)).take(io.BytesIO(data))
    kinds = [operation.kind for operation in recorder.operations]
    assert kinds[-1] is Kind.SYNC_FILE
    assert kinds.count(Kind.SYNC_FILE) == 1 + size // SEGMENT
    assert (Kind.ALLOCATE in kinds) == (size >= DIRECT)


def test_an_error_of_the_disk_is_noticed_while_the_source_still_gives(tmp_path: Path) -> None:
    """An import of a day does not read on for hours after its disk has failed."""

    class Failing(Filesystem):
        def sync_file(self, file: OpenFile) -> None:
            with self._doing(Kind.SYNC_FILE, file.path):
                raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DiskTrouble):
        read_on_to(tmp_path / "part", Failing())


def test_an_error_of_the_proof_is_noticed_while_the_source_still_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(DiskReader, "read", failing)
    with pytest.raises(OSError, match="Input/output error"):
        read_on_to(tmp_path / "part", Filesystem())


def read_on_to(part: Path, filesystem: Filesystem) -> None:
    """Take in what comes slowly enough for every error to be noticed before its end."""

    class Endless(io.RawIOBase):
        left = 1000

        def readinto(self, buffer: WriteableBuffer) -> int:
            self.left -= 1
            assert self.left, "read to its end"
            time.sleep(0.001)
            return len(memoryview(buffer))

    stream = cast(BinaryIO, Endless())
    Intake(filesystem, part, "0" * 64, 1000 * CHUNK, intake.ignore).take(stream)


def test_direct_memory_begins_at_a_page() -> None:
    memory = aligned(CHUNK)
    assert ctypes.addressof(ctypes.c_char.from_buffer(memory)) % BLOCK_BYTES == 0


@given(st.lists(st.one_of(st.integers(0, 50), st.none())), st.integers(0, 100))
def test_a_tally_tells_every_byte_once(steps: list[int | None], size: int) -> None:
    told: list[int] = []
    tally, furthest, counted = Tally(size, told.append), 0, 0
    for step in steps:
        if step is None:
            tally.restart()
            counted = 0
        else:
            tally.add(step)
            counted += step
            furthest = max(furthest, counted)
        assert sum(told) == min(furthest, size)
