"""A bundle appears whole or not at all, the same each time, and goes on after a kill."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from aibox.bundle import index as indexes
from aibox.bundle.layout import BLOBS
from aibox.bundle.manifest import Carried
from aibox.bundle.media import Media
from aibox.bundle.writer import BundleWriter, Source
from aibox.errors import AiboxError, BadUsage, Failed, VerificationRefused
from aibox.pins import Blob
from bundle_media import (
    CHUNK,
    SIZES,
    VOLUME,
    content,
    fill,
    sha256,
    snapshot,
    sources,
    write_bundle,
)
from faults import in_a_process

DATA = b"abc" * CHUNK


def small(folder: Path, **settings: object) -> BundleWriter:
    return BundleWriter(folder, chunk_bytes=CHUNK, **settings)  # type: ignore[arg-type]


def partial_of(folder: Path) -> Path:
    return folder.with_name(folder.name + ".partial")


def refusal(work: Callable[[], object]) -> AiboxError:
    with pytest.raises(AiboxError) as found:
        work()
    return found.value


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out" / "box"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


def test_objects_are_cut_and_small_ones_keep_their_name(target: Path) -> None:
    bundle = write_bundle(target)
    for data in bundle.objects.values():
        chunks = bundle.carried(data).chunks
        assert b"".join((target / BLOBS / c.sha256).read_bytes() for c in chunks) == data
        assert len(chunks) == max(1, -(-len(data) // CHUNK))
        assert len(chunks) > 1 or chunks[0].sha256 == sha256(data)
    assert bundle.check().ok


@pytest.mark.parametrize("volume_bytes", [None, VOLUME])
def test_two_builds_are_the_same_to_the_last_bit(tmp_path: Path, volume_bytes: int | None) -> None:
    before = os.umask(0o077)
    write_bundle(tmp_path / "one", volume_bytes=volume_bytes)
    os.umask(0o002)
    write_bundle(tmp_path / "another place", volume_bytes=volume_bytes)
    os.umask(before)
    one = snapshot(tmp_path / "one")
    assert one == snapshot(tmp_path / "another place")
    assert {time for _, time, _ in one.values()} == {0}
    assert {mode & 0o777 for mode, _, _ in one.values()} == {0o644, 0o755}


def test_the_time_of_files_is_what_the_build_says(target: Path, source: Path) -> None:
    with small(target, modified=1_700_000_000) as writer:
        writer.add_object(source, sha256(DATA), len(DATA))
        writer.finish({"bundle.json": b"{}"})
    assert {path.stat().st_mtime for path in target.rglob("*")} == {1_700_000_000}


def test_a_medium_that_keeps_no_modes_takes_a_bundle(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_descriptor: int, _mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("aibox.bundle.storing.os.fchmod", refused)
    assert write_bundle(target, volume_bytes=VOLUME).check().ok


def test_equal_bytes_are_written_once(target: Path, tmp_path: Path) -> None:
    objects = {sha256(bytes(4 * CHUNK)): bytes(4 * CHUNK), sha256(bytes(CHUNK)): bytes(CHUNK)}
    seen = set[int]()

    def note(_count: int) -> None:
        blobs = partial_of(target) / "bundle" / BLOBS
        seen.update(path.stat().st_ino for path in blobs.iterdir())

    with small(target, workers=1, on_bytes=note) as writer:
        carried = writer.add_objects(sources(tmp_path / "sources", objects))
        writer.finish({"bundle.json": b"{}"})
    assert len(seen) == 1
    assert len(list((target / BLOBS).iterdir())) == 1
    assert [len(item.chunks) for item in carried] == [4, 1]


def test_media_are_independent_of_the_sources(target: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"abc")
    with small(target) as writer:
        carried = writer.add_object(tmp_path / "source", sha256(b"abc"), 3)
        writer.finish({"bundle.json": b"{}"})
    assert (target / BLOBS / carried.sha256).stat().st_nlink == 1


def test_progress_sums_up_to_the_objects(target: Path, tmp_path: Path) -> None:
    told: list[int] = []
    objects = content(SIZES)
    with small(target, on_bytes=told.append, workers=3) as writer:
        writer.add_objects(sources(tmp_path / "sources", objects))
        writer.add_bytes(b"index")
    assert sum(told) == sum(SIZES)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (DATA[:-1], len(DATA)),
        (DATA + b"x", len(DATA)),
        (b"x" + DATA[1:], len(DATA)),
        (b"abd", 3),
        (b"", 3),
    ],
)
def test_a_source_that_is_not_what_its_digest_says_is_refused(
    target: Path, tmp_path: Path, data: bytes, size: int
) -> None:
    (tmp_path / "source").write_bytes(data)
    wanted = sha256(DATA[:size])
    with small(target) as writer:
        found = refusal(lambda: writer.add_object(tmp_path / "source", wanted, size))
        assert isinstance(found, VerificationRefused)
        assert found.reference == "source-differs"
        writer.finish({"bundle.json": b"{}"})
    assert list((target / BLOBS).iterdir()) == []


def test_a_source_that_is_no_file_or_not_there_is_a_plain_error(
    target: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with small(target) as writer:
        for name in ("nothing", ".", "pipe"):
            found = refusal(partial(writer.add_object, tmp_path / name, "a" * 64, 3))
            assert found.reference in ("source-unreadable", "source-differs")


def test_the_first_failure_ends_all_and_is_the_one_told(target: Path, tmp_path: Path) -> None:
    given = sources(tmp_path / "sources", content([10 * CHUNK] * 12))
    given[3].path.write_bytes(b"")
    with small(target) as writer:
        assert refusal(lambda: writer.add_objects(given)).reference == "source-differs"


class Endless(io.RawIOBase):
    """A source that never ends, and gives little at a time."""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        buffer[:1] = b"x"
        return 1


def test_what_is_under_way_elsewhere_ends_with_the_first_failure(target: Path) -> None:
    short, endless = Blob(sha256="a" * 64, size=5), Blob(sha256="b" * 64, size=1 << 40)

    def open_blob(digest: str) -> BinaryIO:
        return io.BytesIO() if digest == short.sha256 else Endless()  # type: ignore[return-value]

    with small(target, workers=2) as writer:
        found = refusal(lambda: writer.add_blobs([endless, short], open_blob))
    assert "ends 5 bytes early" in found.context


def test_nothing_is_there_before_it_is_finished(target: Path, source: Path) -> None:
    with small(target) as writer:
        writer.add_object(source, sha256(DATA), len(DATA))
        assert not target.exists()
        writer.finish({"bundle.json": b"{}"})
    assert (target / "bundle.json").read_bytes() == b"{}"
    assert not partial_of(target).exists()


def test_a_bundle_that_is_there_is_never_changed(target: Path) -> None:
    target.mkdir(parents=True)
    assert refusal(lambda: small(target)).reference == "bundle-exists"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_of_somebody_else_is_not_taken(target: Path) -> None:
    partial_of(target).mkdir(parents=True)
    (partial_of(target) / "thesis.txt").write_text("years of work")
    assert refusal(lambda: small(target)).reference == "partial-not-ours"
    assert (partial_of(target) / "thesis.txt").read_text() == "years of work"


def test_two_builds_of_one_bundle_do_not_mix(target: Path) -> None:
    with small(target):
        assert refusal(lambda: small(target)).reference == "bundle-busy"
    small(target).close()


@pytest.mark.parametrize(
    "path",
    ["../x", "/x", "a//b", ".hidden", "a b", "blobs/x", "Bundle.JSON", "root/1", "AIBOX", ""],
)
def test_names_that_fat_or_the_layout_do_not_keep_apart_are_refused(
    target: Path, path: str
) -> None:
    with small(target) as writer:
        writer.add_open_file("aibox", b"#!/bin/sh\n", executable=True)
        assert refusal(lambda: writer.add_open_file(path, b"")).reference == "bundle-name-unfit"


def begin(target: Path, objects: dict[str, bytes], given: list[Source]) -> None:
    """A build that ends, as a kill does, with some blobs written and no bundle."""
    with small(target) as writer:
        writer.add_objects(given)


def inodes(paths: Iterable[Path], kept: Path) -> dict[str, int]:
    """Name -> inode number, which no other file can get: the files get a second name in `kept`."""
    kept.mkdir()
    found = {}
    for path in paths:
        os.link(path, kept / path.name)
        found[path.name] = path.stat().st_ino
    return found


def test_a_build_goes_on_and_keeps_what_is_right(target: Path, tmp_path: Path) -> None:
    objects = content(SIZES)
    given = sources(tmp_path / "sources", objects)
    begin(target, objects, given)
    before = inodes((partial_of(target) / "bundle" / BLOBS).iterdir(), tmp_path / "kept")
    with small(target) as writer:
        fill(writer, given)
    after = inodes((target / BLOBS).iterdir(), tmp_path / "kept too")
    assert {name: after[name] for name in before} == before
    write_bundle(tmp_path / "fresh")
    assert snapshot(target) == snapshot(tmp_path / "fresh")


def test_blobs_that_were_moved_into_volumes_already_are_kept(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = sources(tmp_path / "sources", content(SIZES))
    with monkeypatch.context() as broken, small(target) as writer:
        broken.setattr(writer, "_write_head", None)
        with pytest.raises(TypeError):
            fill(writer, given, volume_bytes=VOLUME)
    moved = inodes((partial_of(target) / "split").glob(f"*/{BLOBS}/*"), tmp_path / "kept")
    assert len(moved) > 3
    with small(target) as writer:
        fill(writer, given, volume_bytes=VOLUME)
    again = inodes((target / "volume-01-of-03" / BLOBS).iterdir(), tmp_path / "kept too")
    copies = {path.name for path in (target / "volume-02-of-03" / BLOBS).iterdir()}
    assert {name: moved[name] for name in again.keys() - copies} == {
        name: again[name] for name in again.keys() - copies
    }


def harm(path: Path, how: str) -> None:
    match how:
        case "emptied":
            os.truncate(path, 0)
        case "other bytes":
            path.write_bytes(bytes(path.stat().st_size))
        case "longer":
            path.write_bytes(path.read_bytes() + b"x")
        case "a link":
            path.unlink()
            path.symlink_to("/etc/hostname")
        case "sealed":
            path.chmod(0o400)


@pytest.mark.parametrize("how", ["emptied", "other bytes", "longer", "a link", "sealed"])
def test_a_build_that_goes_on_believes_no_name(target: Path, tmp_path: Path, how: str) -> None:
    given = sources(tmp_path / "sources", content([n for n in SIZES if n]))
    begin(target, {}, given)
    blobs = partial_of(target) / "bundle" / BLOBS
    for path in blobs.iterdir():
        harm(path, how)
    (blobs / ("f" * 64)).write_bytes(b"of another build")
    (blobs / "odd name").write_bytes(b"")
    with small(target) as writer:
        fill(writer, given)
    write_bundle(tmp_path / "fresh", [n for n in SIZES if n])
    assert snapshot(target) == snapshot(tmp_path / "fresh")


CHANGES = frozenset({"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.utime"})


class KillAtChange:
    """kill -9 of this very process at the n-th change of a file system; `boundary` from 0."""

    def __init__(self, boundary: int | None) -> None:
        self._boundary = boundary
        self.seen = 0

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if event in CHANGES or writes:
            if self.seen == self._boundary:
                os.kill(os.getpid(), signal.SIGKILL)
            self.seen += 1


def build(target: Path, folder: Path, volume_bytes: int | None, note: Path, at: int | None) -> None:
    hook = KillAtChange(at)
    sys.addaudithook(hook)
    with small(target, workers=2) as writer:
        given = [Source(p, p.name, p.stat().st_size) for p in sorted(folder.iterdir())]
        fill(writer, given, volume_bytes=volume_bytes)
    note.write_text(str(hook.seen))


@pytest.mark.parametrize("volume_bytes", [None, VOLUME])
def test_a_build_killed_anywhere_goes_on_to_the_same_bundle(
    place: Path, volume_bytes: int | None, figure: Callable[[str], None]
) -> None:
    folder, note, target = place / "sources", place / "note", place / "box"
    sources(folder, content((1, 1000, 3 * CHUNK + 1, 5 * CHUNK)))
    whole = place / "whole"
    assert in_a_process(lambda: build(whole, folder, volume_bytes, note, None)) == 0
    wanted, changes = snapshot(whole), int(note.read_text())
    boundaries = range(0, changes, 3)
    for at in boundaries:
        killed = in_a_process(partial(build, target, folder, volume_bytes, note, at))
        assert killed == -signal.SIGKILL
        if not target.exists():
            assert in_a_process(lambda: build(target, folder, volume_bytes, note, None)) == 0
        assert snapshot(target) == wanted, f"killed at change {at}"
        for path in (target, partial_of(target)):
            if path.exists():
                path.rename(place / f"{path.name}-{at}")
    figure(f"bundle builds killed and continued: {len(boundaries)} (volumes: {volume_bytes})")


def test_a_full_disk_is_told_and_the_same_build_goes_on(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = sources(tmp_path / "sources", content(SIZES))
    real, left = os.write, [6]

    def full(descriptor: int, data: bytes) -> int:
        left[0] -= 1
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr("aibox.bundle.storing.os.write", full)
    with small(target, workers=1) as writer:
        found = refusal(lambda: writer.add_objects(given))
    assert isinstance(found, Failed)
    assert found.reference == "bundle-not-written"
    assert "full" in found.message
    with small(target) as writer:
        fill(writer, given)
    assert target.exists()


def test_volumes_stand_alone_and_hold_each_blob_once(target: Path) -> None:
    bundle = write_bundle(target, volume_bytes=VOLUME)
    assert [path.name for path in bundle.folders] == [
        f"volume-0{number}-of-03" for number in (1, 2, 3)
    ]
    shared = {blob.sha256 for path, blob in bundle.named.items() if path.startswith(BLOBS)}
    held = [{path.name for path in (folder / BLOBS).iterdir()} for folder in bundle.folders]
    assert held[0] & held[1] == held[1] & held[2] == held[0] & held[2] == shared
    assert held[0] | held[1] | held[2] == shared | set(indexes.chunks(bundle.index))
    for folder in bundle.folders:
        with Media.open([folder]) as media:
            assert media.head["bundle.json.sig"] == b"not a signature\n"
        assert os.access(folder / "aibox", os.X_OK)
    assert bundle.check().ok


def test_a_volume_too_small_leaves_the_blobs_for_another_try(target: Path, tmp_path: Path) -> None:
    given = sources(tmp_path / "sources", content(SIZES))
    with small(target) as writer, pytest.raises(BadUsage) as found:
        fill(writer, given, volume_bytes=100_000)
    assert found.value.reference == "volume-too-small"
    with small(target) as writer:
        fill(writer, given, volume_bytes=VOLUME)
    assert len(list(target.iterdir())) == 3


def test_blobs_of_another_bundle_are_hashed_on_their_way(target: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "old")
    wrong = tmp_path / "old" / BLOBS / bundle.index.carried[0].chunks[0].sha256
    wrong.write_bytes(bytes(wrong.stat().st_size) or b"x")
    blobs: list[Blob] = [c for item in bundle.index.carried for c in item.chunks]
    with Media.open(bundle.folders) as media, small(target) as writer:
        found = refusal(lambda: writer.add_blobs(blobs, media.open_blob))
    assert isinstance(found, VerificationRefused)


def test_what_is_carried_is_what_the_index_of_a_bundle_takes(target: Path, source: Path) -> None:
    with small(target) as writer:
        carried = writer.add_object(source, sha256(DATA), len(DATA))
    assert carried == Carried.model_validate(carried.model_dump())
