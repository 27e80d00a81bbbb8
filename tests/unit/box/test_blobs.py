"""Import: what is taken in, what is refused, what is believed, what goes on after a break."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

from aibox.box import intake
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, OpenFile, Operation
from aibox.box.store import Store
from aibox.errors import Failed, PreflightVeto, VerificationRefused
from boxes import sha256
from faults import FailAt, Recorder

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DATA = bytes(range(256)) * 40
DIGEST = sha256(DATA)
LARGE = os.urandom(1 << 10) * 5120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return a_store(tmp_path)


def a_store(tmp_path: Path, filesystem: Filesystem | None = None, boot: str = "boot-1") -> Store:
    store = Store(tmp_path / "box", filesystem, boot=boot)
    (tmp_path / "box").mkdir(exist_ok=True)
    Store(tmp_path / "box", boot=boot).initialise()
    return store


def take(store: Store, data: bytes = DATA, digest: str = DIGEST, size: int = len(DATA)) -> bool:
    return store.import_stream(io.BytesIO(data), digest, size)


class Unseekable(io.BytesIO):
    """A stream like a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_arguments: int) -> int:
        raise io.UnsupportedOperation


class Yanked(io.BytesIO):
    """A medium that is pulled out after the first chunk."""

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.tell():
            raise OSError(errno.EIO, "Input/output error")
        return super().readinto(memoryview(buffer)[:100])


def test_a_blob_is_stored_under_its_digest_and_cannot_be_written(store: Store) -> None:
    assert take(store)
    blob = store.layout.blob(DIGEST)
    assert blob.read_bytes() == DATA
    assert blob.stat().st_mode & 0o777 == 0o444
    assert list(store.layout.parts.iterdir()) == []


def test_a_blob_that_is_there_is_not_copied_again(store: Store) -> None:
    take(store)
    inode = store.layout.blob(DIGEST).stat().st_ino
    assert not take(store)
    assert store.layout.blob(DIGEST).stat().st_ino == inode


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    assert take(store, b"", sha256(b""), 0)
    assert store.verify(sha256(b"")) is None


def damage(path: Path, how: str) -> None:
    path.chmod(0o644)
    match how:
        case "missing":
            path.unlink()
        case "emptied":
            os.truncate(path, 0)
        case "truncated":
            os.truncate(path, 100)
        case "longer":
            path.write_bytes(DATA + b"x")
        case "bit flipped":
            path.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:])
        case "a link":
            path.unlink()
            path.symlink_to("/etc/hostname")


HARM = ["missing", "emptied", "truncated", "longer", "bit flipped", "a link"]


@pytest.mark.parametrize("how", HARM)
def test_a_damaged_blob_is_noticed(store: Store, how: str) -> None:
    take(store)
    damage(store.layout.blob(DIGEST), how)
    assert store.verify(DIGEST) is not None


@pytest.mark.parametrize("boot", ["boot-1", "boot-2"])
@pytest.mark.parametrize("how", HARM)
def test_a_damaged_blob_is_healed_by_importing_it_again(
    store: Store, tmp_path: Path, how: str, boot: str
) -> None:
    take(store)
    store.verified.save()
    damage(store.layout.blob(DIGEST), how)
    again = a_store(tmp_path, boot=boot)
    assert take(again), "the name was believed"
    assert again.layout.blob(DIGEST).read_bytes() == DATA
    assert again.verify(DIGEST) is None


def test_damaged_bytes_are_kept_aside(store: Store) -> None:
    take(store)
    damage(store.layout.blob(DIGEST), "truncated")
    take(store)
    assert store.layout.quarantined(DIGEST).read_bytes() == DATA[:100]


@pytest.mark.parametrize(
    ("data", "size", "reference"),
    [
        (DATA + b"x", len(DATA), "blob-refused"),
        (DATA[:-1], len(DATA), "blob-too-short"),
        (b"y" * len(DATA), len(DATA), "blob-refused"),
    ],
)
def test_other_bytes_than_promised_are_refused(
    store: Store, data: bytes, size: int, reference: str
) -> None:
    with pytest.raises(VerificationRefused) as refusal:
        take(store, data, DIGEST, size)
    assert refusal.value.reference == reference
    assert not store.layout.blob(DIGEST).exists()


def test_an_endless_stream_is_cut_off_at_the_promised_size(store: Store) -> None:
    class Endless(io.RawIOBase):
        def readinto(self, buffer: WriteableBuffer) -> int:
            return len(memoryview(buffer))

    endless: BinaryIO = Endless()  # type: ignore[assignment]
    with pytest.raises(VerificationRefused):
        store.import_stream(endless, DIGEST, 5 << 20)
    assert list(store.layout.parts.iterdir()) == []


def test_an_absurd_size_is_refused_before_any_change(tmp_path: Path) -> None:
    recorder = Recorder()
    store = a_store(tmp_path, Filesystem(recorder))
    with pytest.raises(PreflightVeto) as veto:
        take(store, DATA, DIGEST, 999 << 40)
    assert veto.value.reference == "no-room"
    assert recorder.operations == []


@pytest.mark.parametrize("stream", [io.BytesIO, Unseekable])
def test_a_broken_import_goes_on_where_it_stopped(store: Store, stream: type[io.BytesIO]) -> None:
    with pytest.raises(Failed, match="cannot be read"):
        store.import_stream(Yanked(DATA), DIGEST, len(DATA))
    assert store.layout.part(DIGEST).read_bytes() == DATA[:100]
    counts: list[int] = []
    assert store.import_stream(stream(DATA), DIGEST, len(DATA), counts.append)
    assert counts[0] == 100
    assert sum(counts) == len(DATA)
    assert store.layout.blob(DIGEST).read_bytes() == DATA


def test_a_part_of_other_bytes_is_found_out_and_a_path_read_again(
    store: Store, tmp_path: Path
) -> None:
    for rest in (b"not ours", DATA + b"and more"):
        store.layout.part(DIGEST).write_bytes(rest)
        (tmp_path / "source").write_bytes(DATA)
        assert store.import_stream(tmp_path / "source", DIGEST, len(DATA))
        store.filesystem.unlink(store.layout.blob(DIGEST))


def test_a_source_that_is_not_there_is_a_plain_error(store: Store, tmp_path: Path) -> None:
    with pytest.raises(Failed) as error:
        store.import_stream(tmp_path / "nothing", DIGEST, len(DATA))
    assert error.value.reference == "source-unreadable"


@pytest.mark.parametrize("kind", [Kind.ALLOCATE, Kind.WRITE, Kind.SYNC_FILE, Kind.RENAME])
def test_a_full_disk_frees_what_was_begun(tmp_path: Path, kind: Kind) -> None:
    store = a_store(tmp_path, Filesystem(FailAt(0, errno.ENOSPC, (kind,))))
    with pytest.raises(DiskTrouble) as trouble:
        take(store, LARGE, sha256(LARGE), len(LARGE))
    assert trouble.value.full
    assert not store.layout.blob(sha256(LARGE)).exists()
    assert take(a_store(tmp_path), LARGE, sha256(LARGE), len(LARGE))


class LyingDisk(Filesystem):
    """Says that it wrote everything and drops half of it."""

    def write(self, file: OpenFile, data: bytes | memoryview) -> None:
        super().write(file, memoryview(data)[: len(data) // 2])


@pytest.mark.parametrize("segment", [1 << 30, 1 << 10])
def test_a_disk_that_lies_is_found_out_before_the_blob_has_a_name(
    tmp_path: Path, segment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LARGE_BYTES", segment)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", segment)
    store = a_store(tmp_path, LyingDisk())
    with pytest.raises(VerificationRefused, match="not what the release says"):
        take(store)
    assert not store.layout.blob(DIGEST).exists()


@pytest.mark.parametrize("size", [len(LARGE), len(LARGE) - 1, 2 << 20, (2 << 20) + 1])
def test_a_large_blob_takes_the_overlapped_way_to_the_same_bytes(
    store: Store, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 1 << 20)
    data, counts = LARGE[:size], list[int]()
    assert store.import_stream(io.BytesIO(data), sha256(data), size, counts.append)
    assert store.layout.blob(sha256(data)).read_bytes() == data
    assert sum(counts) == size


def test_a_slow_disk_holds_the_reader_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CHUNK_BYTES", 64 << 10)
    monkeypatch.setattr(intake, "LARGE_BYTES", 64 << 10)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 64 << 10)
    moved = threading.Condition()
    ahead = [0]

    class Counted(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            with moved:
                ahead[0] += 1
                moved.notify()
            return super().readinto(buffer)

    class Slow(Filesystem):
        """Gives the reader time to run too far ahead, and notices when it does."""

        def write(self, file: OpenFile, data: bytes | memoryview) -> None:
            super().write(file, data)
            with moved:
                assert not moved.wait_for(lambda: ahead[0] > 10, timeout=0.02)
                ahead[0] -= 1

    store = a_store(tmp_path, Slow())
    assert store.import_stream(Counted(LARGE), sha256(LARGE), len(LARGE))


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.SYNC_FILE])
@pytest.mark.parametrize("boundary", [0, 1, 3])
def test_an_error_in_the_overlapped_way_gives_the_part_up(
    tmp_path: Path, kind: Kind, boundary: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK_BYTES", 1 << 20)
    monkeypatch.setattr(intake, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 1 << 20)
    store = a_store(tmp_path, Filesystem(FailAt(boundary, errno.EIO, (kind,))))
    with pytest.raises(DiskTrouble):
        take(store, LARGE, sha256(LARGE), len(LARGE))
    assert list(store.layout.parts.iterdir()) == []
    assert not store.layout.blob(sha256(LARGE)).exists()


def test_nothing_is_synced_twice_after_a_sync_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "LARGE_BYTES", 1 << 20)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 1 << 20)
    recorder, failing = Recorder(), FailAt(1, errno.EIO, (Kind.SYNC_FILE,))

    def watch(operation: Operation) -> None:
        if failing.fired:
            recorder(operation)
        failing(operation)

    with pytest.raises(DiskTrouble):
        take(a_store(tmp_path, Filesystem(watch)), LARGE, sha256(LARGE), len(LARGE))
    assert [operation.kind for operation in recorder.operations] == [Kind.UNLINK]


def test_many_imports_at_once_of_few_blobs(store: Store) -> None:
    blobs = [bytes([number]) * 5000 for number in range(4)] * 6
    with ThreadPoolExecutor(8) as threads:
        done = threads.map(lambda data: take(store, data, sha256(data), len(data)), blobs)
    assert sum(done) == 4
    assert all(store.layout.blob(sha256(data)).read_bytes() == data for data in blobs)


def count_hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    hashed: list[Path] = []
    real = intake.read_back

    def counting(path: Path, on_bytes: Callable[[int], None]) -> str:
        hashed.append(path)
        return real(path, on_bytes)

    monkeypatch.setattr("aibox.box.blobs.read_back", counting)
    return hashed


def test_a_blob_verified_in_this_boot_is_not_hashed_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(store)
    store.verified.save()
    hashed = count_hashed(monkeypatch)
    assert a_store(tmp_path).verify(DIGEST) is None
    assert hashed == []


def test_after_a_reboot_it_is_hashed_again(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(store)
    store.verified.save()
    hashed = count_hashed(monkeypatch)
    assert a_store(tmp_path, boot="boot-2").verify(DIGEST) is None
    assert len(hashed) == 1


def test_bytes_changed_behind_an_unchanged_size_and_time_are_noticed(store: Store) -> None:
    take(store)
    blob = store.layout.blob(DIGEST)
    times = blob.stat()
    blob.chmod(0o644)
    blob.write_bytes(b"y" * len(DATA))
    os.utime(blob, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.verify(DIGEST) is not None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot":"boot-1","blobs":3}', b"\xff"])
def test_a_damaged_cache_is_no_cache(store: Store, tmp_path: Path, content: bytes) -> None:
    take(store)
    store.layout.verified.write_bytes(content)
    assert a_store(tmp_path).verify(DIGEST) is None
