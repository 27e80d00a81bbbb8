"""Every file of every volume is what it should be, or is named with volume and what is wrong."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibox.bundle import checking, hashing
from aibox.bundle.checking import LISTED, check_content, check_sizes
from aibox.bundle.finding import Status
from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.errors import Failed, VerificationRefused
from aibox.progress import Meter, Progress
from bundle_media import SIZES, VOLUME, SmallBundle, write_bundle


@pytest.fixture
def split(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "split", volume_bytes=VOLUME)


@pytest.fixture
def whole(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "whole")


def blob_on(bundle: SmallBundle, number: int, *, at_least: int = 1) -> Path:
    """A blob of some bytes that only this volume holds."""
    shared = {blob.sha256 for blob in bundle.named.values()}
    paths = sorted((bundle.folders[number] / BLOBS).iterdir())
    return next(p for p in paths if p.name not in shared and p.stat().st_size >= at_least)


def test_a_sound_bundle_is_read_to_the_last_byte(split: SmallBundle, whole: SmallBundle) -> None:
    for bundle, copies in ((whole, 1), (split, 3)):
        found = bundle.check()
        assert found.ok
        assert found.problems == ()
        named = sum(blob.size for blob in bundle.named.values())
        assert found.size == sum(SIZES) + named * copies
        found.require()


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def link(path: Path) -> None:
    path.rename(path.parents[3] / "elsewhere")
    path.symlink_to(path.parents[3] / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


HARM: list[tuple[Callable[[Path], None], Status, str]] = [
    (flip, Status.DIGEST_DIFFERS, "bundle-file-differs"),
    (longer, Status.SIZE_DIFFERS, "bundle-file-size-differs"),
    (shorter, Status.SIZE_DIFFERS, "bundle-file-size-differs"),
    (emptied, Status.SIZE_DIFFERS, "bundle-file-size-differs"),
    (Path.unlink, Status.MISSING, "bundle-file-missing"),
    (link, Status.UNEXPECTED, "bundle-file-unexpected"),
    (pipe, Status.UNEXPECTED, "bundle-file-unexpected"),
    (folder, Status.UNEXPECTED, "bundle-file-unexpected"),
]


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(("harm", "status", "reference"), HARM)
def test_a_damaged_blob_is_named_with_its_volume(
    split: SmallBundle,
    number: int,
    harm: Callable[[Path], None],
    status: Status,
    reference: str,
) -> None:
    path = blob_on(split, number)
    harm(path)
    found = split.check()
    (problem,) = found.problems
    assert (problem.status, problem.path) == (status, f"{BLOBS}/{path.name}")
    assert problem.volume == f"volume {number + 1} of 3 ({split.folders[number]})"
    with pytest.raises(VerificationRefused) as refusal:
        found.require()
    assert refusal.value.reference == reference
    assert path.name in refusal.value.context


@pytest.mark.parametrize("name", ["aibox", "launcher/start.py", "index"])
def test_what_every_volume_holds_is_checked_on_every_volume(split: SmallBundle, name: str) -> None:
    if name == "index":
        name = next(path for path in split.named if path.startswith(BLOBS))
    flip(split.folders[1] / name)
    (split.folders[2] / name).unlink()
    found = split.check()
    assert [(item.status, item.path) for item in found.problems] == [
        (Status.MISSING, name),
        (Status.DIGEST_DIFFERS, name),
    ]


def test_blobs_swapped_at_equal_length_are_both_named(whole: SmallBundle) -> None:
    chunks = max((item.chunks for item in whole.index.carried), key=len)
    one, two = (whole.folders[0] / BLOBS / chunk.sha256 for chunk in chunks[:2])
    first = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(first)
    found = whole.check()
    assert {item.path: item.detail for item in found.problems} == {
        f"{BLOBS}/{one.name}": f"holds the bytes of {BLOBS}/{two.name}",
        f"{BLOBS}/{two.name}": f"holds the bytes of {BLOBS}/{one.name}",
    }


def test_a_missing_volume_is_one_problem_and_named(split: SmallBundle) -> None:
    found = split.check([split.folders[0], split.folders[2]])
    assert found.problems == ()
    assert not found.ok
    assert found.missing_volumes[0].startswith("volume 2 of 3 (holds ")
    with pytest.raises(VerificationRefused) as refusal:
        found.require()
    assert refusal.value.reference == "bundle-volume-missing"
    assert "volume 2 of 3" in refusal.value.context


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(path.parent)
        end.bind(path.name)


def deep(path: Path) -> None:
    path.joinpath(*["d"] * 40).mkdir(parents=True)


def control(path: Path) -> None:
    path.with_name(path.name + "\x1b[31m\n").touch()


def not_unicode(path: Path) -> None:
    Path(os.fsdecode(os.fsencode(path) + b"\xff")).touch()


@pytest.mark.parametrize("where", ["", "root", "blobs", BLOBS, "launcher"])
@pytest.mark.parametrize(
    "make",
    [
        Path.touch,
        Path.mkdir,
        os.mkfifo,
        make_socket,
        lambda path: path.symlink_to("bundle.json"),
        deep,
        control,
        not_unicode,
    ],
)
def test_whatever_else_lies_there_is_refused(
    split: SmallBundle,
    where: str,
    make: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(split.folders[1])
    make(split.folders[1] / where / "extra")
    found = split.check()
    (problem,) = found.problems
    assert problem.status is Status.UNEXPECTED
    assert problem.path.startswith(f"{where}/extra".lstrip("/"))
    assert problem.path.isprintable()
    assert "volume 2 of 3" in problem.volume
    with pytest.raises(VerificationRefused) as refusal:
        found.require()
    assert refusal.value.reference == "bundle-file-unexpected"
    assert refusal.value.message == "files of the bundle are wrong: 1 too many"
    assert refusal.value.hint.startswith("take away what is too many, and give all volumes")


@pytest.mark.parametrize("name", ["System Volume Information", ".Trash-1000", "._aibox"])
def test_what_an_operating_system_leaves_has_a_way_out(whole: SmallBundle, name: str) -> None:
    (whole.folders[0] / name).mkdir()
    with pytest.raises(VerificationRefused) as refusal:
        whole.check().require()
    assert "a folder of its own" in refusal.value.hint


def test_a_head_file_that_is_not_of_this_bundle_is_unexpected(whole: SmallBundle) -> None:
    (whole.folders[0] / "root" / "03.root.json").write_text("{}")
    (whole.folders[0] / "volume.jsn").write_text("{}")
    assert whole.check().counts == {Status.UNEXPECTED: 2}


def test_a_folder_that_is_a_link_is_not_entered(whole: SmallBundle, tmp_path: Path) -> None:
    (whole.folders[0] / "launcher").rename(tmp_path / "elsewhere")
    (whole.folders[0] / "launcher").symlink_to(tmp_path / "elsewhere")
    found = whole.check()
    assert {(item.path, item.status) for item in found.problems} == {
        ("launcher", Status.UNEXPECTED),
        ("launcher/start.py", Status.MISSING),
    }


def test_all_problems_are_counted_and_some_are_listed(whole: SmallBundle) -> None:
    for number in range(3 * LISTED):
        (whole.folders[0] / f"extra{number}").touch()
    flip(blob_on(whole, 0))
    found = whole.check()
    assert len(found.problems) == LISTED
    assert found.counts == {Status.UNEXPECTED: 3 * LISTED, Status.DIGEST_DIFFERS: 1}
    with pytest.raises(VerificationRefused, match="150 too many, 1 with other bytes"):
        found.require()


def test_the_report_can_be_filed(split: SmallBundle) -> None:
    path = blob_on(split, 1)
    flip(path)
    filed = split.check().as_json()
    assert filed["ok"] is False
    assert filed["counts"] == {"digest-differs": 1}
    assert isinstance(filed["problems"], list)
    assert filed["problems"][0]["path"] == f"{BLOBS}/{path.name}"


def test_sizes_are_looked_at_without_reading_a_blob(
    split: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorter(blob_on(split, 0))
    flip(blob_on(split, 1))
    monkeypatch.setattr(checking, "hash_files", None)
    with Media.open(split.folders) as media:
        found = check_sizes(media, split.named, split.index)
    assert found.counts == {Status.SIZE_DIFFERS: 1}
    assert found.size == 0


def test_a_copy_of_a_blob_on_another_volume_is_checked_too(split: SmallBundle) -> None:
    path = blob_on(split, 0)
    copy = split.folders[1] / BLOBS / path.name
    copy.write_bytes(path.read_bytes())
    assert split.check().ok
    flip(copy)
    (problem,) = split.check().problems
    assert "volume 2 of 3" in problem.volume


def failing(bad: str) -> Callable[..., int]:
    real = os.open

    def opening(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return real(path, flags, mode, dir_fd=dir_fd)

    return opening


def test_a_medium_that_fails_is_no_verdict_on_the_bundle(
    split: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = blob_on(split, 2)
    with Media.open(split.folders) as media:
        monkeypatch.setattr("aibox.bundle.folder.os.open", failing(path.name))
        found = check_content(media, split.named, split.index, report=lambda _: None, workers=2)
    assert [(item.status, item.detail) for item in found.problems] == [
        (Status.UNREADABLE, "Input/output error")
    ]
    with pytest.raises(Failed) as failure:
        found.require()
    assert failure.value.reference == "source-unreadable"
    assert "volume 3 of 3" in failure.value.context


@pytest.mark.parametrize("bundle", ["whole", "split"])
def test_a_medium_whose_names_cannot_be_read_is_not_called_incomplete(
    bundle: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: SmallBundle = request.getfixturevalue(bundle)
    with Media.open(written.folders) as media:
        monkeypatch.setattr("aibox.bundle.folder.os.open", failing("sha256"))
        found = check_content(media, written.named, written.index, report=lambda _: None)
    assert found.counts == {Status.UNREADABLE: len(written.folders)}
    with pytest.raises(Failed):
        found.require()


def test_a_file_that_shrinks_while_it_is_hashed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 3 << 20
    bundle = write_bundle(tmp_path / "box", [size], chunk_bytes=size)
    path = bundle.folders[0] / BLOBS / bundle.index.carried[0].sha256
    monkeypatch.setattr(hashing, "WINDOW_BYTES", 1 << 20)
    real = os.readv

    def shrinking(descriptor: int, buffers: Sequence[memoryview]) -> int:
        count = real(descriptor, buffers)
        os.truncate(path, 5)
        return count

    monkeypatch.setattr("aibox.bundle.hashing.os.readv", shrinking)
    (problem,) = bundle.check().problems
    assert problem.status is Status.SIZE_DIFFERS
    assert "while it was read" in problem.detail


def test_progress_is_told_also_while_a_medium_hangs(
    whole: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    reported = threading.Event()
    real, seconds = os.read, itertools.count()

    def hanging(descriptor: int, size: int) -> bytes:
        assert reported.wait(timeout=30)
        return real(descriptor, size)

    def report(progress: Progress) -> None:
        told.append(progress)
        reported.set()

    meter = partial(Meter, clock=lambda: float(next(seconds)))
    monkeypatch.setattr(hashing, "TICK_S", 0.01)
    monkeypatch.setattr(hashing, "Meter", meter)
    monkeypatch.setattr("aibox.bundle.hashing.os.read", hanging)
    with Media.open(whole.folders) as media:
        assert check_content(media, whole.named, whole.index, report=report, workers=2).ok
    assert {progress.step for progress in told} == {"verify"}
    assert all("MiB/s" in progress.message and "s left" in progress.message for progress in told)


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_flipped_byte_of_any_file_but_the_head_is_found(
    whole: SmallBundle, data: st.DataObject
) -> None:
    head = {"bundle.json", "bundle.json.sig", "1.root.json", "2.root.json"}
    files = sorted(
        path
        for path in whole.folders[0].rglob("*")
        if path.is_file() and path.stat().st_size and path.name not in head
    )
    path = data.draw(st.sampled_from(files))
    offset = data.draw(st.integers(0, path.stat().st_size - 1))
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ data.draw(st.integers(1, 255))]))
        file.flush()
        found = whole.check()
        file.seek(offset)
        file.write(byte)
    assert [whole.folders[0] / item.path for item in found.problems] == [path]
    assert whole.check().ok
