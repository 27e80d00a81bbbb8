"""Media: found in any order, told apart, named when missing; nothing on them can lead out."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.bundle.layout import BLOBS, MANIFEST_LIMIT, ROOTS_LIMIT
from aibox.bundle.media import Media
from aibox.errors import AiboxError, BadUsage, Failed, VerificationRefused
from aibox.pins import Blob
from bundle_media import CHUNK, VOLUME, SmallBundle, sha256, write_bundle


@pytest.fixture
def split(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "split", volume_bytes=VOLUME)


@pytest.fixture
def whole(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "whole")


def refusal(*paths: Path) -> AiboxError:
    with pytest.raises(AiboxError) as found:
        Media.open(paths).close()
    return found.value


def read_all(bundle: SmallBundle, *paths: Path) -> None:
    with Media.open(paths) as media:
        for data in bundle.objects.values():
            with media.open_object(bundle.carried(data)) as stream:
                assert stream.read() == data


def test_a_whole_bundle_is_found_and_read(whole: SmallBundle) -> None:
    with Media.open(whole.folders) as media:
        assert list(media.head) == [
            "bundle.json",
            "bundle.json.sig",
            "root/1.root.json",
            "root/2.root.json",
        ]
        assert media.missing_volumes == ()
        assert media.bundle == sha256((whole.folders[0] / "bundle.json").read_bytes())
    read_all(whole, *whole.folders)


def test_volumes_are_found_in_any_order_and_under_any_name(
    split: SmallBundle, tmp_path: Path
) -> None:
    one, two, three = split.folders
    two.rename(tmp_path / "다른 디스크")
    three.rename(tmp_path / "split" / "a")
    read_all(split, tmp_path / "split", tmp_path / "다른 디스크")
    read_all(split, tmp_path / "다른 디스크", tmp_path / "split" / "a", one)


def test_other_files_beside_volumes_are_no_volumes(split: SmallBundle, tmp_path: Path) -> None:
    (tmp_path / "split" / "readme.txt").write_text("hello")
    (tmp_path / "split" / "System Volume Information").mkdir()
    (tmp_path / "split" / "again").symlink_to(split.folders[0])
    read_all(split, tmp_path / "split")


def test_a_path_given_as_a_link_is_followed(whole: SmallBundle, tmp_path: Path) -> None:
    (tmp_path / "usb").symlink_to(whole.folders[0])
    read_all(whole, tmp_path / "usb")


@pytest.mark.parametrize("name", ["nothing", "empty", "file", "file/below"])
def test_where_no_bundle_is_that_is_said(tmp_path: Path, whole: SmallBundle, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    found = refusal(whole.folders[0], tmp_path / name)
    assert isinstance(found, BadUsage)
    assert found.reference == "bundle-not-found"
    assert str(tmp_path / name) in found.message


def test_missing_volumes_are_named_with_what_they_hold(split: SmallBundle) -> None:
    one, two, _ = split.folders
    two_holds = len(list((two / BLOBS).iterdir())) - 2
    with Media.open([one, split.folders[2]]) as media:
        (missing,) = media.missing_volumes
        assert missing.missing().startswith(f"volume 2 of 3 (holds {two_holds} blobs, ")
        blob = missing.share.blobs[0]
        with pytest.raises(VerificationRefused) as found:
            media.open_blob(blob)
    assert found.value.reference == "bundle-blob-missing"
    assert "volume 2 of 3 (holds" in found.value.message


def test_volumes_copied_into_one_folder_are_not_missed(split: SmallBundle, tmp_path: Path) -> None:
    for folder in split.folders:
        shutil.copytree(folder, tmp_path / "joined", dirs_exist_ok=True)
    with Media.open([tmp_path / "joined"]) as media:
        assert media.missing_volumes == ()
    read_all(split, tmp_path / "joined")
    assert split.check([tmp_path / "joined"]).ok


def test_a_volume_that_is_there_twice_is_named(split: SmallBundle, tmp_path: Path) -> None:
    shutil.copytree(split.folders[1], tmp_path / "copy")
    found = refusal(*split.folders, tmp_path / "copy")
    assert found.reference == "volume-twice"
    assert "volume 2 of 3" in found.message
    assert str(tmp_path / "copy") in found.message


def test_a_volume_of_another_bundle_is_named(split: SmallBundle, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", volume_bytes=VOLUME, seed=2)
    one, _, three = split.folders
    found = refusal(one, other.folders[1], three)
    assert found.reference == "volume-of-another-bundle"
    assert f"volume 2 of 3 ({other.folders[1]})" in found.message
    assert str(one) not in found.message


def test_a_head_damaged_on_one_volume_is_named(split: SmallBundle) -> None:
    (split.folders[1] / "root" / "1.root.json").write_bytes(b"{x")
    found = refusal(*split.folders)
    assert found.reference == "volume-head-differs"
    assert "root/1.root.json on volume 2 of 3" in found.message


def test_several_bundles_are_not_guessed_among(whole: SmallBundle, tmp_path: Path) -> None:
    shutil.copytree(whole.folders[0], tmp_path / "twin")
    assert refusal(*whole.folders, tmp_path / "twin").reference == "bundles-several"


def relabel(folder: Path, **fields: object) -> None:
    label = json.loads((folder / "volume.json").read_bytes())
    (folder / "volume.json").write_text(json.dumps(label | fields))


def test_labels_that_contradict_are_refused(split: SmallBundle) -> None:
    one, two, _ = split.folders
    label = (two / "volume.json").read_bytes()
    for fields in (
        {"bundle": "f" * 64},
        {"number": 4},
        {"volumes": [{"size": 1, "blobs": ["a" * 64]}] + [{"size": 0, "blobs": []}] * 2},
    ):
        relabel(two, **fields)
        found = refusal(*split.folders)
        assert found.reference == "volume-label-invalid"
        assert str(two) in str(found)
        (two / "volume.json").write_bytes(label)
    (one / "volume.json").write_bytes(b"{")
    assert refusal(*split.folders).reference == "volume-label-invalid"


def test_nothing_is_believed_from_a_label(split: SmallBundle) -> None:
    shares = [{"size": 0, "blobs": []}, {"size": 0, "blobs": []}, {"size": 0, "blobs": []}]
    for folder in split.folders:
        relabel(folder, volumes=shares)
    read_all(split, *split.folders)
    assert split.check().ok
    assert split.check(split.folders[:2]).counts


@pytest.mark.parametrize("name", ["bundle.json", "revoked.json", "root/3.root.json"])
def test_a_head_too_large_is_refused_unread(whole: SmallBundle, name: str) -> None:
    path = whole.folders[0] / name
    path.touch()
    os.truncate(path, 999 << 30)
    found = refusal(*whole.folders)
    assert found.reference == "bundle-head-refused"
    assert name in found.context


def test_heads_that_are_too_large_together_are_refused(whole: SmallBundle) -> None:
    for version in range(3, 9):
        path = whole.folders[0] / f"root/{version}.root.json"
        path.touch()
        os.truncate(path, MANIFEST_LIMIT)
    assert refusal(*whole.folders).reference == "bundle-head-refused"


def test_more_roots_than_a_chain_may_have_are_refused(whole: SmallBundle) -> None:
    for version in range(3, ROOTS_LIMIT + 3):
        (whole.folders[0] / f"root/{version}.root.json").touch()
    assert refusal(*whole.folders).reference == "bundle-head-refused"


def make_link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        os.chdir(path.parent)
        end.bind(path.name)


ODD: list[Callable[[Path], None]] = [make_link, os.mkfifo, Path.mkdir, make_socket]


@pytest.mark.parametrize("make", ODD)
def test_a_manifest_that_is_no_file_is_refused_unopened(
    whole: SmallBundle, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.folders[0])
    (whole.folders[0] / "bundle.json").unlink()
    make(whole.folders[0] / "bundle.json")
    assert refusal(*whole.folders).reference == "bundle-head-refused"


@pytest.mark.parametrize("make", ODD)
def test_a_blob_that_is_no_file_is_refused_unopened(
    whole: SmallBundle, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whole.folders[0])
    digest = whole.index.carried[0].chunks[0].sha256
    (whole.folders[0] / BLOBS / digest).unlink()
    make(whole.folders[0] / BLOBS / digest)
    with Media.open(whole.folders) as media:
        with pytest.raises(VerificationRefused) as found:
            media.open_blob(digest)
        assert found.value.reference == "bundle-blob-damaged"


def test_a_folder_of_blobs_that_is_a_link_is_not_entered(
    whole: SmallBundle, tmp_path: Path
) -> None:
    (whole.folders[0] / "blobs").rename(tmp_path / "elsewhere")
    (whole.folders[0] / "blobs").symlink_to(tmp_path / "elsewhere")
    with Media.open(whole.folders) as media, pytest.raises(VerificationRefused):
        media.open_blob(whole.index.carried[0].sha256)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "a" * 63, "a" * 65, "", "ａ" * 64])
def test_what_is_no_digest_never_becomes_a_path(whole: SmallBundle, name: str) -> None:
    with Media.open(whole.folders) as media, pytest.raises(VerificationRefused):
        media.open_blob(name)


def test_small_blobs_are_read_whole_and_compared(whole: SmallBundle) -> None:
    path, blob = next(item for item in whole.named.items() if item[0].startswith(BLOBS))
    with Media.open(whole.folders) as media:
        data = media.read_blob(blob, 1 << 20)
        assert sha256(data) == blob.sha256
        (whole.folders[0] / path).write_bytes(b"x" * len(data))
        with pytest.raises(VerificationRefused) as found:
            media.read_blob(blob, 1 << 20)
        assert found.value.reference == "bundle-blob-damaged"


def test_no_more_is_read_than_is_allowed(whole: SmallBundle) -> None:
    huge = whole.folders[0] / BLOBS / ("a" * 64)
    huge.touch()
    os.truncate(huge, 1 << 40)
    with Media.open(whole.folders) as media, pytest.raises(VerificationRefused):
        media.read_blob(Blob(sha256="a" * 64, size=1 << 40), 1000)


def test_open_files_are_compared_too(whole: SmallBundle) -> None:
    with Media.open(whole.folders) as media:
        assert media.read_open_file("aibox", whole.named["aibox"], 1000) == b"#!/bin/sh\n"
        (whole.folders[0] / "aibox").write_bytes(b"#!/bin/zh\n")
        with pytest.raises(VerificationRefused):
            media.read_open_file("aibox", whole.named["aibox"], 1000)
        (whole.folders[0] / "aibox").unlink()
        with pytest.raises(VerificationRefused):
            media.read_open_file("aibox", whole.named["aibox"], 1000)


def test_read_only_media_are_enough(split: SmallBundle) -> None:
    for folder in split.folders:
        for path in sorted(folder.rglob("*"), reverse=True):
            path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat() for folder in split.folders for path in folder.rglob("*")}
    read_all(split, *split.folders)
    assert split.check().ok
    for path, was in before.items():
        assert (path.stat().st_mtime_ns, path.stat().st_ctime_ns) == (
            was.st_mtime_ns,
            was.st_ctime_ns,
        )


def test_media_taken_out_are_told_from_damaged_ones(split: SmallBundle, tmp_path: Path) -> None:
    with Media.open(split.folders) as media:
        data = max(split.objects.values(), key=len)
        with media.open_object(split.carried(data)) as stream:
            assert stream.read(CHUNK) == data[:CHUNK]
            for folder in split.folders:
                shutil.rmtree(folder)
            with pytest.raises(Failed) as found:
                stream.read()
    assert found.value.reference == "source-unreadable"
    assert found.value.exit_code == 1
