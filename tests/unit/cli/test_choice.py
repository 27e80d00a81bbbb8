"""On a fresh host without `--profile` one is proposed, and only taken by a yes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from aibox import pipeline
from aibox.box import gpus
from aibox.errors import Failed, Fault
from aibox.hardware import Machine
from aibox.prepare import Wish, Workplace
from machines import machine

Types = Callable[..., Any]

PLAIN = machine(root=False, memory_mib=16000)


class Person:
    """Somebody at a terminal who answers a yes-or-no question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: bool) -> None:
        self.asked: list[str] = []
        self.answer = answer
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(typer, "confirm", self._confirm)

    def _confirm(self, text: str, *, err: bool) -> bool:
        assert err, "standard output is for data"
        self.asked.append(text)
        return self.answer


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def wished(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The profiles that get as far as being installed or judged; nothing is done with them."""
    found: list[str] = []
    real = pipeline.prepare

    def stop(place: Workplace, wish: Wish, *rest: object) -> None:
        if wish.profile is None:
            with real(place, wish):
                raise AssertionError("prepared without a profile")
        found.append(wish.profile)
        raise Failed("as-far-as-that", "enough", hint="./aibox status", fault=Fault.US)

    monkeypatch.setattr(pipeline, "install", stop)
    monkeypatch.setattr(pipeline, "preflight", stop)
    on(monkeypatch, PLAIN)
    return found


def on(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    monkeypatch.setattr(gpus, "detect", lambda: host)


@pytest.mark.parametrize("command", ["install", "preflight"])
def test_a_yes_takes_the_proposal(
    types: Types, monkeypatch: pytest.MonkeyPatch, wished: list[str], command: str
) -> None:
    person = Person(monkeypatch, True)
    ended = types(command)
    assert person.asked == ["go on with the profile local?"]
    assert wished == ["local"]
    assert "proposed: local: fits" in ended.err
    assert ended.code == 1


@pytest.mark.parametrize("command", ["install", "preflight"])
def test_a_no_takes_nothing(
    types: Types, monkeypatch: pytest.MonkeyPatch, wished: list[str], command: str
) -> None:
    Person(monkeypatch, False)
    ended = types(command, "--json")
    assert (ended.json["reference"], ended.code, wished) == ("declined", 1, [])
    assert ended.json["hint"].endswith("./aibox profiles")


@pytest.mark.parametrize("options", [("--yes",), ()], ids=["yes", "no terminal"])
def test_unseen_nothing_is_taken_and_the_error_holds_the_proposal(
    types: Types, monkeypatch: pytest.MonkeyPatch, wished: list[str], options: tuple[str, ...]
) -> None:
    person = Person(monkeypatch, True)
    if not options:
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    ended = types("install", *options, "--json")
    assert (ended.json["reference"], ended.code) == ("profile-missing", 2)
    assert ended.json["proposal"]["profile"] == "local"
    assert ended.json["hint"].endswith("./aibox install --profile local")
    assert (person.asked, wished) == ([], [])


def test_where_nothing_fits_nobody_is_asked(
    types: Types, monkeypatch: pytest.MonkeyPatch, wished: list[str]
) -> None:
    person = Person(monkeypatch, True)
    on(monkeypatch, machine(architecture="riscv64", root=False))
    ended = types("install", "--json")
    assert (ended.json["reference"], person.asked, wished) == ("profile-missing", [], [])
    assert ended.json["proposal"]["profile"] is None
