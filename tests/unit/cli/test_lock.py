"""`aibox lock` as it is typed: one JSON document, and an exit code that scripts can rely on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

import pin_examples as pins
import small_project
from aibox import lock as locks
from aibox import locking
from aibox.cli import lock as command
from aibox.content import Content
from aibox.errors import BadUsage
from pin_examples import DoubleOfResolvers
from small_project import pylock, write_profile


@pytest.fixture
def content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Content:
    """A locked project, which the command takes for its own."""
    made = small_project.make(tmp_path)
    double = DoubleOfResolvers(pylock(("one", "1.0", "one"))).resolvers()
    monkeypatch.setattr("aibox.content.find", lambda: made)
    monkeypatch.setattr(locking, "resolvers", lambda _report, _sources: double)
    command.lock()
    return made


def test_a_check_of_an_up_to_date_lock_ends_well(
    content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    command.lock(check=True, as_json=True)
    assert json.loads(capsys.readouterr().out) == []


def test_a_check_of_a_stale_lock_ends_with_code_2_and_one_document(
    content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(content, model=[pins.model_wish()])
    capsys.readouterr()
    with pytest.raises(typer.Exit) as ended:
        command.lock(check=True, as_json=True)
    assert ended.value.exit_code == 2
    told = capsys.readouterr()
    (row,) = json.loads(told.out)
    assert (row["name"], row["state"]) == ("model.small", "missing")
    assert "error[lock-stale]" in told.err


def test_what_is_only_unresolved_is_shown_and_is_no_failure(
    content: Content, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = locks.load(content.lockfile).model_copy(update={"model": (pins.unresolved_model(),)})
    content.lockfile.write_text(locks.dump(lock))
    write_profile(content, model=[pins.model_wish()])
    capsys.readouterr()
    command.lock(check=True)
    assert "model.small  unresolved" in capsys.readouterr().out


def test_a_check_does_not_go_with_an_upgrade(content: Content) -> None:
    with pytest.raises(BadUsage) as caught:
        command.lock(check=True, upgrade=["one"])
    assert caught.value.hint.endswith("./aibox lock --upgrade one")


def test_a_calibration_goes_into_its_profile_and_is_locked(
    content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    @contextmanager
    def adopted(_content: Content, file: Path) -> Iterator[str]:
        assert file == Path("calibration.json")
        yield "local"

    monkeypatch.setattr(command.adopting, "adopted", adopted)
    monkeypatch.setattr(locking, "run", lambda _c, found, *_, **__: names.extend(found) or ())
    command.lock(calibration=Path("calibration.json"))
    assert names == ["local"]


def test_a_check_does_not_go_with_a_calibration(content: Content) -> None:
    with pytest.raises(BadUsage) as caught:
        command.lock(check=True, calibration=Path("c.json"))
    assert caught.value.reference == "check-and-calibration"


@pytest.mark.parametrize(
    "option",
    [{"check": True}, {"profile": ["local"]}, {"upgrade": ["one"]}, {"calibration": Path("c")}],
    ids=["check", "profile", "upgrade", "calibration"],
)
def test_the_next_sequence_goes_with_nothing_else(content: Content, option: dict[str, Any]) -> None:
    before = content.lockfile.read_bytes()
    with pytest.raises(BadUsage) as caught:
        command.lock(next_sequence=True, **option)
    assert caught.value.reference == "next-and-others"
    assert caught.value.hint.endswith("./aibox lock --next")
    assert content.lockfile.read_bytes() == before
