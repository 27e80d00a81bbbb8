"""Many blobs at once: all or an error, nothing twice, nobody left behind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import aibox
from aibox.box import blobs, importing
from aibox.box.filesystem import Kind
from aibox.box.importing import Imported, Incoming, import_all
from aibox.box.store import Store
from aibox.errors import PreflightVeto, VerificationRefused
from boxes import incoming, sha256
from faults import Recorder
from import_cases import (
    BLOBS,
    BYTES,
    SEGMENT,
    a_store,
    lacking,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

pytestmark = pytest.mark.usefixtures("small_steps")


@pytest.fixture
def store(place: Path) -> Store:
    return a_store(place)


HARM: dict[str, Callable[[Path], object]] = {
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "other bytes": lambda path: path.write_bytes(b"y" * path.stat().st_size),
    "gone": Path.unlink,
    "a link": lambda path: path.symlink_to(path.rename(path.with_name("aside"))),
}


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.lists(st.integers(0, len(BLOBS) - 1), max_size=20),
    there=st.sets(st.integers(0, len(BLOBS) - 1)),
    harm=st.dictionaries(st.integers(0, len(BLOBS) - 1), st.sampled_from(sorted(HARM))),
    workers=st.sampled_from([None, 1, 2, 7]),
    together=st.booleans(),
)
def test_any_set_of_blobs_into_any_store(
    chosen: list[int], there: set[int], harm: dict[int, str], workers: int | None, together: bool
) -> None:
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with TemporaryDirectory(dir=memory) as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "MANY", 1 if together else 1000)
        place = Path(folder)
        import_all(a_store(place), incoming(*(BLOBS[number] for number in there)))
        hurt = {number: how for number, how in harm.items() if number in there and BLOBS[number]}
        for number, how in hurt.items():
            blob = Store(place / "box").layout.blob(sha256(BLOBS[number]))
            blob.chmod(0o644)
            HARM[how](blob)
        objects = incoming(*(BLOBS[number] for number in chosen))
        counts: list[int] = []
        store = a_store(place, boot="boot-2")
        imported = import_all(store, objects, counts.append, workers=workers)
        assert lacking(place, [BLOBS[number] for number in chosen]) == []
        assert sum(counts) == sum(one.size for one in objects)
        assert list(store.layout.parts.iterdir()) == []
        present = set(chosen) & there - set(hurt)
        new = set(chosen) - present
        assert imported == Imported(
            new=len(new),
            new_bytes=sum(len(BLOBS[number]) for number in new),
            present=len(present),
            present_bytes=sum(len(BLOBS[number]) for number in present),
            repeated=len(chosen) - len(set(chosen)),
        )


def test_bytes_of_damaged_blobs_are_kept_aside(place: Path, store: Store) -> None:
    import_all(store, incoming(*BLOBS))
    for data in BLOBS[2:5]:
        store.layout.blob(sha256(data)).chmod(0o644)
        os.truncate(store.layout.blob(sha256(data)), 100)
    assert import_all(a_store(place, boot="boot-2"), incoming(*BLOBS)).new == 3
    kept = {path.name for path in store.layout.quarantine.iterdir()}
    assert kept == {sha256(data) for data in BLOBS[2:5]}


def test_what_is_named_twice_is_opened_once(store: Store) -> None:
    opened: list[int] = []

    def opening() -> BinaryIO:
        opened.append(1)
        return io.BytesIO(b"twice")

    one = Incoming(sha256(b"twice"), 5, opening)
    assert import_all(store, [one, one, one]).repeated == 2
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("change", "reference"),
    [({"size": 3}, "contradicting-sizes"), ({"sha256": "../../etc"}, "not-a-digest")],
)
def test_a_list_that_cannot_be_is_refused_before_anything_is_opened(
    place: Path, change: dict[str, object], reference: str
) -> None:
    recorder = Recorder()
    objects = incoming(*BLOBS)
    objects.append(replace(objects[4], **change, open=pytest.fail))  # type: ignore[arg-type]
    with pytest.raises(VerificationRefused) as refusal:
        import_all(a_store(place, recorder), objects)
    assert refusal.value.reference == reference
    assert recorder.operations == []


# -- room ---------------------------------------------------------------------------------------


def refusal_of_room(place: Path, objects: Sequence[Incoming]) -> PreflightVeto:
    recorder = Recorder()
    store = a_store(place, recorder)
    with pytest.raises(PreflightVeto) as veto:
        import_all(store, objects)
    assert veto.value.reference == "no-room"
    assert recorder.operations == []
    return veto.value


def disk(monkeypatch: pytest.MonkeyPatch, free: int, inodes: int = 10**6, only: str = "") -> None:
    """Every file system (or one) has so many bytes and inodes left."""
    real = os.statvfs

    def statvfs(path: Path) -> object:
        found = real(path)
        if only and Path(path).name != only:
            return found
        names = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree")
        values = {name: getattr(found, name) for name in names}
        values |= {"f_bavail": free // found.f_frsize, "f_files": 10**6, "f_favail": inodes}
        return type("statvfs", (), values)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_room_is_asked_for_the_sum_before_the_first_byte(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk(monkeypatch, blobs.HEADROOM_BYTES + 100 * 5000)
    few = [Incoming(f"{number:064x}", 4096, pytest.fail) for number in range(100)]
    veto = refusal_of_room(
        place, [*few, *(replace(one, sha256="f" + one.sha256[1:]) for one in few)]
    )
    assert "bytes" in veto.context


def test_small_blobs_take_whole_blocks(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, blobs.HEADROOM_BYTES + 1000 * 2000)
    tiny = [Incoming(f"{number:064x}", 10, pytest.fail) for number in range(1000)]
    assert "bytes" in refusal_of_room(place, tiny).context


def test_an_absurd_size_among_others_is_refused_before_the_first_byte(place: Path) -> None:
    absurd = Incoming("a" * 64, 999 << 40, pytest.fail)
    assert "bytes" in refusal_of_room(place, [*incoming(*BLOBS), absurd]).context


def test_inodes_are_asked_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 1 << 40, inodes=importing.FOLDERS + blobs.HEADROOM_FILES + len(BLOBS) - 1)
    assert "inodes" in refusal_of_room(place, incoming(*BLOBS)).context


def test_every_file_system_of_the_box_is_asked(
    place: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("only one file system here: mount a tmpfs on /dev/shm")
    store.layout.blobs.rmdir()
    store.layout.blobs.symlink_to(tmp_path)
    disk(monkeypatch, 1000, only="sha256")
    with pytest.raises(PreflightVeto) as veto:
        import_all(store, incoming(*BLOBS))
    assert "sha256" in veto.value.context
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_needs_no_room(
    place: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_all(store, incoming(*BLOBS))
    disk(monkeypatch, 0, inodes=0)
    assert import_all(a_store(place, boot="boot-2"), incoming(*BLOBS)).present == len(BLOBS)


def test_room_that_an_earlier_try_has_claimed_is_not_asked_for_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.layout.part(sha256(BYTES)).write_bytes(BYTES[: 200 << 10])
    disk(monkeypatch, blobs.HEADROOM_BYTES + (100 << 10))
    assert import_all(store, incoming(BYTES)).new == 1


# -- order and company --------------------------------------------------------------------------


def test_names_of_blobs_that_a_killed_import_left_are_made_durable(
    place: Path, store: Store
) -> None:
    import_all(store, incoming(*BLOBS))
    recorder = Recorder()
    import_all(a_store(place, recorder), incoming(*BLOBS))
    synced = {op.path for op in recorder.operations if op.kind is Kind.SYNC_DIRECTORY}
    assert synced >= {store.layout.blob(sha256(data)).parent for data in BLOBS}


def test_each_folder_is_synced_once_however_many_blobs_it_holds(place: Path) -> None:
    recorder = Recorder()
    data = [number.to_bytes(4, "big") for number in range(600)]
    import_all(a_store(place, recorder), incoming(*data))
    synced = [op.path for op in recorder.operations if op.kind is Kind.SYNC_DIRECTORY]
    folders = {sha256(one)[:2] for one in data}
    assert sorted(path.name for path in synced if len(path.name) == 2) == sorted(folders)


def test_names_of_many_come_after_their_bytes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "MANY", 1)
    recorder = Recorder()
    data = [number.to_bytes(4, "big") for number in range(100)]
    import_all(a_store(place, recorder), incoming(*data), workers=1)
    kinds = [op.kind for op in recorder.operations if op.path.parent.name != "run"]
    assert kinds.count(Kind.SYNC_FILESYSTEM) == 1
    assert Kind.SYNC_FILE not in kinds
    durable = kinds.index(Kind.SYNC_FILESYSTEM)
    assert not {Kind.WRITE, Kind.SET_MODE} & set(kinds[durable:])
    assert Kind.RENAME not in kinds[:durable]


def test_few_tiny_blobs_do_not_wait_for_what_others_write(place: Path) -> None:
    recorder = Recorder()
    import_all(a_store(place, recorder), incoming(*BLOBS))
    assert Kind.SYNC_FILESYSTEM not in {operation.kind for operation in recorder.operations}


def test_small_blobs_are_taken_in_side_by_side(store: Store, many: str) -> None:
    together = threading.Barrier(3)

    class Waiting(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            if not self.tell():
                together.wait(10)
            return super().readinto(buffer)

    blobs = [bytes([number]) * 100 for number in range(3)]
    objects = [
        Incoming(sha256(data), 100, lambda data=data: Waiting(data))  # type: ignore[misc]
        for data in blobs
    ]
    assert import_all(store, objects, workers=3).new == 3


def test_large_blobs_are_read_one_after_the_other(store: Store) -> None:
    read: list[int] = []

    class Noting(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            read.append(self.getvalue()[0])
            return super().readinto(buffer)

    blobs = [bytes([number]) * (2 * SEGMENT) for number in range(5)]
    objects = [
        Incoming(sha256(data), len(data), lambda data=data: Noting(data))  # type: ignore[misc]
        for data in blobs
    ]
    import_all(store, objects)
    assert len(read) > 3 * len(blobs)
    assert [one for one, before in zip(read, [-1, *read], strict=False) if one != before] == [
        *dict.fromkeys(read)
    ]


def test_proofs_are_kept_while_an_import_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever kills an import of a day does not have it all hashed again."""
    monkeypatch.setattr(importing, "SETTLE_S", 0.0)

    class Patient(io.BytesIO):
        def readinto(self, buffer: WriteableBuffer) -> int:
            deadline = time.monotonic() + 10
            while not store.layout.verified.exists():
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert sha256(b"first") in store.layout.verified.read_text()
            return super().readinto(buffer)

    last = Incoming(sha256(BYTES), len(BYTES), lambda: Patient(BYTES))
    assert import_all(store, [*incoming(b"first"), last], workers=1).new == 2


def test_progress_is_told_by_the_calling_thread(store: Store) -> None:
    tellers = set[threading.Thread]()
    import_all(store, incoming(*BLOBS), lambda _count: tellers.add(threading.current_thread()))
    assert tellers == {threading.current_thread()}


def test_imports_into_one_store_from_several_places_do_not_disturb_one_another(
    place: Path, store: Store
) -> None:
    with ThreadPoolExecutor(4) as threads:
        sizes = (*map(len, BLOBS),)
        sources = (io.BytesIO(data) for data in BLOBS)
        assert all(threads.map(store.import_stream, sources, map(sha256, BLOBS), sizes))
    assert import_all(a_store(place), incoming(*BLOBS)).present == len(BLOBS)


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_modes_do_not_depend_on_the_umask(place: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        store = a_store(place)
        import_all(store, incoming(*BLOBS))
    finally:
        os.umask(before)
    for data in BLOBS:
        blob = store.layout.blob(sha256(data))
        assert blob.stat().st_mode & 0o777 == 0o444
        assert blob.parent.stat().st_mode & 0o777 == 0o700


BOUNDED = """
import hashlib, io, resource, sys
from pathlib import Path
from aibox.box.importing import Incoming, import_all
from aibox.box.store import Store

def sparse(size, mark):
    path = Path(sys.argv[1]) / str(mark)
    with path.open("wb") as file:
        file.write(bytes([mark]))
        file.truncate(size)
    state = hashlib.file_digest(path.open("rb"), "sha256")
    return Incoming(state.hexdigest(), size, lambda: path.open("rb", buffering=0))

objects = [sparse(128 << 20, mark) for mark in range(3)] + [
    Incoming(hashlib.sha256(b"%4d" % n).hexdigest(), 4, lambda n=n: io.BytesIO(b"%4d" % n))
    for n in range(1000)
]
store = Store(Path(sys.argv[1]) / "box")
store.initialise()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
import_all(store, objects, workers=8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_blobs(place: Path, figure: Callable[[str], None]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(place)],
        env={"PYTHONPATH": str(Path(aibox.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    grown = int(done.stdout) / 1024
    figure(f"an import of 384 MiB and 1,000 files took {grown:.0f} MiB of memory")
    assert grown < 120
