"""A finished bundle is divided otherwise, joined, and is the same bundle each time."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.bundle.resplit import resplit
from aibox.errors import BadUsage, VerificationRefused
from bundle_media import SIZES, VOLUME, SmallBundle, snapshot, write_bundle


@pytest.fixture
def whole(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "whole")


def divide(bundle: SmallBundle, output: Path, volume_bytes: int | None) -> SmallBundle:
    with Media.open(bundle.folders) as media:
        folders = resplit(media, bundle.named, bundle.index, output, volume_bytes)
    return SmallBundle(folders, bundle.objects, bundle.named, bundle.index)


def test_a_bundle_survives_every_division(whole: SmallBundle, tmp_path: Path) -> None:
    three = divide(whole, tmp_path / "three", VOLUME)
    two = divide(three, tmp_path / "two", VOLUME + 500_000)
    one = divide(two, tmp_path / "one", None)
    assert [len(b.folders) for b in (three, two, one)] == [3, 2, 1]
    assert all(b.check().ok for b in (three, two, one))
    assert snapshot(one.folders[0]) == snapshot(whole.folders[0])


def test_a_division_is_that_of_the_build(whole: SmallBundle, tmp_path: Path) -> None:
    divide(whole, tmp_path / "later", VOLUME)
    write_bundle(tmp_path / "at once", volume_bytes=VOLUME)
    assert snapshot(tmp_path / "later") == snapshot(tmp_path / "at once")


def test_modes_do_not_come_from_the_medium(whole: SmallBundle, tmp_path: Path) -> None:
    before = snapshot(whole.folders[0])
    for path in whole.folders[0].rglob("*"):
        path.chmod(0o777)
    divide(whole, tmp_path / "again", None)
    assert snapshot(tmp_path / "again") == before


def test_a_damaged_blob_is_not_copied(whole: SmallBundle, tmp_path: Path) -> None:
    path = max((whole.folders[0] / BLOBS).iterdir(), key=lambda path: path.stat().st_size)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(VerificationRefused):
        divide(whole, tmp_path / "again", None)
    assert not (tmp_path / "again").exists()


def test_a_missing_volume_is_named(whole: SmallBundle, tmp_path: Path) -> None:
    three = divide(whole, tmp_path / "three", VOLUME)
    short = SmallBundle(three.folders[:2], three.objects, three.named, three.index)
    with pytest.raises(VerificationRefused, match="volume 3 of 3"):
        divide(short, tmp_path / "again", None)


def test_progress_is_the_size_of_all_blobs(whole: SmallBundle, tmp_path: Path) -> None:
    told: list[int] = []
    with Media.open(whole.folders) as media:
        resplit(media, whole.named, whole.index, tmp_path / "x", VOLUME, on_bytes=told.append)
    blobs = [blob.size for path, blob in whole.named.items() if path.startswith(BLOBS)]
    assert sum(told) == sum(SIZES) + sum(blobs)


def test_a_division_that_cannot_be_changes_nothing(whole: SmallBundle, tmp_path: Path) -> None:
    before = snapshot(whole.folders[0])
    with pytest.raises(BadUsage):
        divide(whole, tmp_path / "small", 1000)
    assert snapshot(whole.folders[0]) == before
    assert not (tmp_path / "small").exists()


def test_volumes_that_are_too_small_are_refused_before_anything_is_copied(
    whole: SmallBundle, tmp_path: Path
) -> None:
    with pytest.raises(BadUsage) as found:
        divide(whole, tmp_path / "out", 2_500_000)
    assert found.value.reference == "volume-too-small"
    assert not (tmp_path / "out.partial").exists()


def test_a_bundle_is_not_divided_into_itself(whole: SmallBundle) -> None:
    before = snapshot(whole.folders[0])
    with pytest.raises(BadUsage) as found:
        divide(whole, whole.folders[0] / "volumes", VOLUME)
    assert found.value.reference == "bundle-in-bundle"
    assert snapshot(whole.folders[0]) == before
