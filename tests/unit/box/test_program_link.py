"""`<box root>/bin/aibox`: one name for whichever program is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.box import program_link
from aibox.box.filesystem import DiskTrouble, Filesystem, Operation


class Stopped(Exception):
    """The process ended here."""


def program(root: Path, name: str) -> Path:
    launcher = root / "programs" / name / "aibox"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(name)
    return launcher


def test_the_link_leads_to_the_program_and_moves_with_the_box(tmp_path: Path) -> None:
    program(tmp_path / "box", "first")
    program_link.point_to(Filesystem(), tmp_path / "box", "first")
    moved = (tmp_path / "box").rename(tmp_path / "moved")
    assert program_link.link(moved).read_text() == "first"
    assert program_link.linked(moved) == "first"


def test_another_program_replaces_it(tmp_path: Path) -> None:
    for name in ("first", "second"):
        program(tmp_path, name)
        program_link.point_to(Filesystem(), tmp_path, name)
    assert program_link.link(tmp_path).read_text() == "second"
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["aibox"]


def test_the_same_program_changes_nothing(tmp_path: Path) -> None:
    program_link.point_to(Filesystem(), tmp_path, "first")
    operations: list[Operation] = []
    program_link.point_to(Filesystem(operations.append), tmp_path, "first")
    assert operations == []


@pytest.mark.parametrize("stop_at", range(8))
def test_stopped_anywhere_there_is_the_old_link_or_the_new(tmp_path: Path, stop_at: int) -> None:
    program_link.point_to(Filesystem(), tmp_path, "first")
    count = 0

    def stop(_: Operation) -> None:
        nonlocal count
        count += 1
        if count > stop_at:
            raise Stopped

    try:
        program_link.point_to(Filesystem(stop), tmp_path, "second")
    except Stopped:
        assert program_link.linked(tmp_path) in ("first", "second")
    program_link.point_to(Filesystem(), tmp_path, "second")
    assert program_link.linked(tmp_path) == "second"


@pytest.mark.parametrize("text", ["/usr/bin/aibox", "../programs/x", "../other/x/aibox", "x"])
def test_a_link_of_somebody_else_is_not_read_as_ours(tmp_path: Path, text: str) -> None:
    (tmp_path / "bin").mkdir()
    program_link.link(tmp_path).symlink_to(text)
    assert program_link.linked(tmp_path) is None


def test_without_a_link_there_is_no_program(tmp_path: Path) -> None:
    assert program_link.linked(tmp_path) is None


def test_what_the_disk_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "bin").write_text("a file is in the way")
    with pytest.raises(DiskTrouble):
        program_link.point_to(Filesystem(), tmp_path, "first")
