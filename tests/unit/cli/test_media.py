"""Options about bundles: they reach the wish, and trust is asked for once, of a person."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from aibox import pipeline, trusting
from aibox.errors import ExitCode, Failed, Fault
from aibox.prepare import Wish
from aibox.receiving import Terms
from small_bundle import Supplier
from small_site import SmallSite

Types = Callable[..., Any]


class Wishes:
    """Takes the wish of every command, and ends it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[Wish] = []
        for name in ("install", "plan", "preflight"):
            monkeypatch.setattr(pipeline, name, self._take)
        monkeypatch.setattr(pipeline, "require_box", lambda _place: None)

    def _take(self, _place: object, wish: Wish, *_: object) -> None:
        self.seen.append(wish)
        raise Failed("seen", "seen", hint="", fault=Fault.US)

    @property
    def last(self) -> Wish:
        return self.seen[-1]


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch) -> Wishes:
    return Wishes(monkeypatch)


@pytest.mark.parametrize("command", ["install", "upgrade"])
def test_what_is_said_about_a_bundle_reaches_the_wish(
    types: Types, wishes: Wishes, command: str
) -> None:
    types(
        command,
        *("--bundle", "one", "--bundle", "two", "--root", "1.root.json", "--weights", "folder"),
        *("--allow-unsigned", "--allow-downgrade", "--allow-expired"),
    )
    assert wishes.last.bundle == (Path("one"), Path("two"))
    assert wishes.last.terms == Terms(
        roots=(Path("1.root.json"),),
        weights=(Path("folder"),),
        allow_unsigned=True,
        allow_downgrade=True,
        allow_expired=True,
    )


@pytest.mark.parametrize("command", ["install", "upgrade"])
def test_nothing_is_let_pass_unless_it_is_said(types: Types, wishes: Wishes, command: str) -> None:
    types(command, "--bundle", "one")
    assert wishes.last.terms == Terms()


@pytest.mark.parametrize("command", ["plan", "preflight"])
def test_looking_takes_what_is_older_or_expired_but_not_what_nobody_signed(
    types: Types, wishes: Wishes, command: str
) -> None:
    types(command, "--bundle", "one", "--root", "r", "--weights", "folder")
    assert wishes.last.terms == Terms(
        roots=(Path("r"),),
        weights=(Path("folder"),),
        allow_downgrade=True,
        allow_expired=True,
    )
    types(command, "--bundle", "one", "--allow-unsigned")
    assert wishes.last.terms.allow_unsigned


@pytest.mark.parametrize("command", ["install", "upgrade", "plan", "preflight"])
def test_the_bundle_that_the_program_was_started_from_is_the_one_that_is_meant(
    types: Types, wishes: Wishes, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    types(command)
    assert wishes.last.bundle == ()
    monkeypatch.setenv("AIBOX_BUNDLE", "/media/usb 1/box")
    types(command)
    assert wishes.last.bundle == (Path("/media/usb 1/box"),)
    types(command, "--bundle", "another")
    assert wishes.last.bundle == (Path("another"),)
    types(command, *([] if command == "upgrade" else ["--profile", "a100"]))
    assert wishes.last.bundle == (Path("/media/usb 1/box"),)
    types(command, "--lockfile", "models.lock")
    assert (wishes.last.bundle, wishes.last.lockfile) == ((), Path("models.lock"))


def test_a_bundle_and_a_lock_file_at_once_are_wrong_usage(types: Types, supplier: Supplier) -> None:
    ended = types(
        "plan", "--bundle", supplier.bundle().folder, "--lockfile", "models.lock", "--json"
    )
    assert (ended.code, ended.json["reference"]) == (ExitCode.BAD_USAGE, "bundle-and-lockfile")


def test_an_upgrade_needs_a_box_before_it_looks_at_media(types: Types) -> None:
    ended = types("upgrade", "--bundle", "/does/not/exist", "--json")
    assert (ended.code, ended.json["reference"]) == (ExitCode.BAD_USAGE, "no-box")


def test_a_plan_from_a_bundle_is_shown_and_makes_no_box(
    types: Types, supplier: Supplier, place: Path
) -> None:
    bundle = supplier.bundle()
    words = ("plan", "--bundle", bundle.folder, "--root", supplier.root)
    ended = types(*words, "--json")
    assert (ended.code, ended.json["release"]) == (0, bundle.release.id)
    assert f"release {bundle.release.id[:12]}, profile local" in types(*words).out
    assert not (place / "box").exists()


# -- whom to trust ------------------------------------------------------------------------------


class Person:
    """Sits at a terminal and types what is asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
        self.asked: list[str] = []
        self.answer = answer
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(typer, "prompt", self._prompt)
        monkeypatch.setattr(typer, "confirm", lambda *_, **__: True)

    def _prompt(self, text: str, *, err: bool) -> str:
        assert err, "standard output is for data"
        self.asked.append(text)
        return self.answer


def installed(monkeypatch: pytest.MonkeyPatch) -> list[Wish]:
    """`pipeline.install` that ends when the bundle is believed."""
    believed: list[Wish] = []
    real = pipeline.prepare

    def install(place: Any, wish: Wish, *_: object) -> None:
        with real(place, wish):
            believed.append(wish)
        raise Failed("believed", "believed", hint="", fault=Fault.US)

    monkeypatch.setattr(pipeline, "install", install)
    return believed


def fingerprint(supplier: Supplier) -> str:
    return trusting.fingerprint(supplier.root.read_bytes())


def test_a_person_who_types_the_fingerprint_goes_on_with_the_same_command(
    types: Types, supplier: Supplier, site: SmallSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = supplier.bundle().folder
    person = Person(monkeypatch, fingerprint(supplier)[:30])
    believed = installed(monkeypatch)
    types("install", "--profile", "local", "--bundle", bundle)
    assert len(person.asked) == len(believed) == 1
    assert [chain.fingerprint for chain in trusting.chains(site.trust)] == [fingerprint(supplier)]


@pytest.mark.parametrize("answer", ["", "yes", "0000 0000 0000 0000"])
def test_anything_else_is_the_refusal_and_nobody_is_trusted(
    types: Types,
    supplier: Supplier,
    site: SmallSite,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
) -> None:
    person = Person(monkeypatch, answer)
    believed = installed(monkeypatch)
    words = ("install", "--profile", "local", "--bundle", supplier.bundle().folder, "--json")
    ended = types(*words)
    assert (ended.code, ended.json["reference"]) == (4, "root-not-trusted")
    assert (len(person.asked), believed) == (1, [])
    assert trusting.chains(site.trust) == ()


def test_a_script_is_never_asked(
    types: Types, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = Person(monkeypatch, fingerprint(supplier))
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    ended = types("install", "--profile", "local", "--bundle", supplier.bundle().folder)
    assert (ended.code, person.asked) == (4, [])


def test_only_trust_is_a_matter_of_typing(
    types: Types, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked to wave through what is unsigned."""
    person = Person(monkeypatch, fingerprint(supplier))
    bundle = supplier.bundle(signed=False).folder
    ended = types("install", "--profile", "local", "--bundle", bundle, "--json")
    assert (ended.json["reference"], person.asked) == ("bundle-unsigned", [])
