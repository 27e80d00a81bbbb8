"""One command at a time, across processes, without a stale lock ever."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from aibox.box import guard
from aibox.errors import BadUsage, Failed
from faults import in_a_process


def refusal(root: Path, *, shared: bool = False) -> str:
    """The reference another process is refused with; "" if it gets the box."""
    try:
        with guard.hold(root, shared=shared):
            return ""
    except (BadUsage, Failed) as error:
        return error.reference


def test_the_second_command_is_refused_at_once(tmp_path: Path) -> None:
    with guard.hold(tmp_path / "box"):
        assert in_a_process(lambda: _demand(refusal(tmp_path / "box") == "box-busy")) == 0
        assert refusal(tmp_path / "box", shared=True) == "box-busy"
    assert refusal(tmp_path / "box") == ""


def test_the_refusal_names_the_process_that_holds_the_box(tmp_path: Path) -> None:
    with guard.hold(tmp_path / "box"), pytest.raises(Failed) as error, guard.hold(tmp_path / "box"):
        pass
    assert str(os.getpid()) in error.value.context


def test_readers_share_and_keep_writers_out(tmp_path: Path) -> None:
    with guard.hold(tmp_path / "box"):
        pass
    with guard.hold(tmp_path / "box", shared=True):
        assert refusal(tmp_path / "box", shared=True) == ""
        assert refusal(tmp_path / "box") == "box-busy"


def test_a_reader_does_not_make_a_box(tmp_path: Path) -> None:
    assert refusal(tmp_path / "box", shared=True) == "no-box"
    assert not (tmp_path / "box").exists()


def test_whoever_needs_a_box_does_not_make_one(tmp_path: Path) -> None:
    with (
        pytest.raises(BadUsage, match="nothing is installed"),
        guard.hold(tmp_path / "a" / "box", existing=True),
    ):
        pass
    assert not (tmp_path / "a").exists()
    with guard.hold(tmp_path / "box"):
        pass
    with guard.hold(tmp_path / "box", existing=True):
        assert refusal(tmp_path / "box") == "box-busy"


def test_a_killed_command_leaves_no_lock(tmp_path: Path) -> None:
    def die_holding() -> None:
        with guard.hold(tmp_path / "box"):
            os.kill(os.getpid(), 9)

    assert in_a_process(die_holding) == -9
    assert refusal(tmp_path / "box") == ""


def test_a_child_that_lives_on_keeps_the_lock(tmp_path: Path) -> None:
    with guard.hold(tmp_path / "box") as descriptor:
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,)
        )
    assert refusal(tmp_path / "box") == "box-busy"
    child.communicate(b"\n")
    assert refusal(tmp_path / "box") == ""


def test_a_link_in_the_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "elsewhere").touch()
    (tmp_path / "box" / "lock").symlink_to(tmp_path / "elsewhere")
    assert refusal(tmp_path / "box") == "no-box"


def test_the_folder_of_a_box_is_private(tmp_path: Path) -> None:
    with guard.hold(tmp_path / "a" / "box"):
        assert (tmp_path / "a" / "box").stat().st_mode & 0o777 == 0o700


def _demand(condition: bool) -> None:
    assert condition
