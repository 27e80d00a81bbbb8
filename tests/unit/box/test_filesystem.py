"""Primitives: whole files, errors in our own words, an announcement before every change."""

from __future__ import annotations

import ast
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

import aibox
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind
from faults import FailAt, Recorder


def test_publishing_replaces_a_file_as_a_whole(tmp_path: Path) -> None:
    Filesystem().publish(tmp_path / "state", b"old")
    Filesystem().publish(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_leftover_of_a_killed_publish_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "state.new").write_bytes(b"half of something longer")
    Filesystem().publish(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"


def test_a_publish_that_fails_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    Filesystem().publish(path, b"old")
    for boundary in range(6):
        failing = Filesystem(FailAt(boundary, errno.EIO, tuple(Kind)))
        with pytest.raises(DiskTrouble):
            failing.publish(path, b"new")
        assert path.read_bytes() in {b"old", b"new"}
        Filesystem().publish(path, b"old")


def test_every_change_is_announced_before_it_happens(tmp_path: Path) -> None:
    recorder = Recorder()
    Filesystem(recorder).publish(tmp_path / "state", b"x")
    assert [operation.kind for operation in recorder.operations] == [
        Kind.OPEN,
        Kind.WRITE,
        Kind.SET_MODE,
        Kind.SYNC_FILE,
        Kind.RENAME,
        Kind.SYNC_DIRECTORY,
    ]


@pytest.mark.parametrize(
    ("number", "reference"),
    [
        (errno.ENOSPC, "disk-full"),
        (errno.EDQUOT, "disk-full"),
        (errno.EIO, "disk-error"),
        (errno.EROFS, "disk-read-only"),
        (errno.EACCES, "disk-refused"),
    ],
)
def test_an_errno_becomes_a_reference_with_a_command_to_type(
    number: int, reference: str, tmp_path: Path
) -> None:
    with pytest.raises(DiskTrouble) as trouble:
        Filesystem(FailAt(0, number, tuple(Kind))).make_directory(tmp_path / "new")
    assert trouble.value.reference == reference
    assert "aibox " in trouble.value.hint
    assert trouble.value.full == (reference == "disk-full")


def test_a_link_is_never_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "state.new").symlink_to("victim")
    with pytest.raises(DiskTrouble):
        Filesystem().publish(tmp_path / "state", b"x")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    Filesystem().write_new(tmp_path / "file", b"longer than three")
    assert (tmp_path / "file").read_bytes() == b"longer than three"


def test_the_mode_does_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Filesystem().write_new(tmp_path / "file", b"x", 0o444)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o444


def test_a_tree_is_removed_but_not_what_links_in_it_point_to(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_bytes(b"x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "precious")
    Filesystem().remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert (tmp_path / "precious" / "file").exists()


CHANGING = {
    *("write_text", "write_bytes", "touch", "mkdir", "rmdir", "unlink", "symlink_to", "chmod"),
    *("hardlink_to", "rename", "link", "symlink", "fsync", "ftruncate", "rmtree", "makedirs"),
}


@pytest.mark.parametrize(
    "module",
    ["activate", "recover", "gc"]
    + [f"box/{name}" for name in ("blobs", "contents", "guard", "history", "intake", "journal")]
    + [f"box/{name}" for name in ("layout", "state", "store", "transaction", "verified")]
    + [f"box/{name}" for name in ("worker_threads", "direct", "importing")],
)
def test_the_store_changes_files_only_through_the_filesystem(module: str) -> None:
    source = Path(aibox.__file__).parent / f"{module}.py"
    nodes = ast.walk(ast.parse(source.read_text()))
    called_things = [node.func for node in nodes if isinstance(node, ast.Call)]
    around = [
        ast.unparse(called)
        for called in called_things
        if isinstance(called, ast.Attribute)
        and called.attr in CHANGING
        and not ast.unparse(called.value).endswith("filesystem")
    ]
    assert around == []


def test_a_sealed_file_can_be_written_again_by_its_owner(tmp_path: Path) -> None:
    """Root never notices the mode; the sweeps meet it where tests run as an ordinary user."""
    part = tmp_path / "blob.part"
    part.write_bytes(b"whole")
    part.chmod(0o444)
    Filesystem().unseal(part)
    assert part.stat().st_mode & 0o777 == 0o600
    Filesystem().unseal(tmp_path / "missing")


def test_a_file_system_that_cannot_be_made_durable_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Filesystem().watch(tmp_path) as folder:
        Filesystem().sync_filesystem(folder)
        with pytest.raises(DiskTrouble) as trouble:
            Filesystem().sync_filesystem(replace(folder, descriptor=-1))
    assert trouble.value.number == errno.EBADF
