"""Reaching the systemd manager of the user, also from a shell that has no session of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aibox.box import user_units

UNIT_PATH = (
    "/home/ann/.config/systemd/user.control /run/user/7/systemd/transient "
    "/run/user/7/systemd/generator.early /home/ann/.config/systemd/user /etc/systemd/user"
)
USUAL = Path(".config/systemd/user")


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runtime folder that this user has while the manager runs; no variable names it."""
    monkeypatch.setattr(user_units, "RUNTIME_FOLDERS", tmp_path)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    folder = tmp_path / str(os.geteuid())
    folder.mkdir()
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def systemctl(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A double of the only program on the PATH."""
    (folder / "systemctl").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_a_shell_without_a_session_finds_the_manager(mine: Path) -> None:
    assert user_units.access() == {"XDG_RUNTIME_DIR": str(mine)}


def test_the_folder_of_the_session_is_kept(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = mine / "session"
    session.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    assert user_units.access() == {"XDG_RUNTIME_DIR": str(session)}


def test_the_folder_of_the_user_before_su_is_not_taken(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/proc/1" if os.geteuid() else "/nonexistent")
    assert user_units.access() == {"XDG_RUNTIME_DIR": str(mine)}


def test_where_no_manager_ever_ran_nothing_is_made_up(mine: Path) -> None:
    mine.rmdir()
    assert user_units.access() == {}


@pytest.mark.parametrize(
    ("unit_path", "expected"),
    [
        (UNIT_PATH, "/home/ann/.config/systemd/user"),
        (UNIT_PATH.replace("/home/ann/.config", "/srv/settings"), "/srv/settings/systemd/user"),
        ('/run/x "/home/an na/.config/systemd/user"', "/home/an na/.config/systemd/user"),
    ],
)
def test_the_manager_says_where_units_belong(unit_path: str, expected: str) -> None:
    assert user_units.first_of_the_user(unit_path) == Path(expected)


@pytest.mark.parametrize("unit_path", ["", "/etc/systemd/system", '"unfinished'])
def test_an_answer_that_names_no_folder_is_none(unit_path: str) -> None:
    assert user_units.first_of_the_user(unit_path) is None


def test_units_go_where_the_manager_looks_and_not_where_this_shell_would(
    mine: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/ann/elsewhere")
    systemctl(tmp_path, monkeypatch, f'[ "$XDG_RUNTIME_DIR" = {mine} ] && echo {UNIT_PATH}')
    assert user_units.folder() == Path("/home/ann/.config/systemd/user")


@pytest.mark.parametrize("answer", ["exit 1", "echo", "exec /nonexistent"])
def test_a_manager_that_does_not_answer_would_look_in_the_usual_folder(
    answer: str, mine: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systemctl(tmp_path, monkeypatch, answer)
    assert user_units.folder() == home / USUAL


def test_without_systemd_it_is_the_usual_folder(
    mine: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(mine))
    assert user_units.folder() == home / USUAL
