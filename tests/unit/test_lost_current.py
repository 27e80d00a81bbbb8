"""A box whose `current` was lost is there: nobody is told to install one; doctor finds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.content import find
from aibox.doctor import examine, of_begun
from aibox.errors import Failed
from aibox.health import refuse_stopped
from aibox.pipeline import plan
from aibox.preflight import Status
from aibox.prepare import Wish, Workplace, require_current
from aibox.status import State, describe
from boxes import Commands, ReleaseDouble


@pytest.fixture(params=["removed", "outside", "to nothing"])
def box(place: Path, request: pytest.FixtureRequest) -> Commands:
    commands = Commands(place / "box")
    commands.install(ReleaseDouble("one"))
    current = commands.store.layout.current
    current.unlink()
    if request.param != "removed":
        current.symlink_to("/etc" if request.param == "outside" else "gens/99")
    return commands


def test_status_asks_for_recover(box: Commands) -> None:
    assert describe(box.store, None, (), None).state is State.INTERRUPTED


def test_what_needs_a_box_names_the_way_back(box: Commands) -> None:
    place = Workplace(box.root, find(), lambda _progress: None)
    for ask in (lambda: require_current(box.store), lambda: plan(place, Wish())):
        with pytest.raises(Failed) as caught:
            ask()
        assert caught.value.reference == "current-lost"
        assert caught.value.hint.endswith("./aibox recover")


def test_doctor_finds_it_and_recover_mends_it(box: Commands) -> None:
    bad = {one.check: one.fix for one in of_begun(box.store) if one.status is Status.VETO}
    assert bad["current generation"].endswith("./aibox recover")
    box.recover()
    assert box.store.current() == 1


def test_doctor_misses_a_record_that_is_gone(place: Path) -> None:
    commands = Commands(place / "box")
    commands.install(ReleaseDouble("one"))
    commands.store.layout.record.unlink()
    (found,) = (one for one in examine(commands.store, (), (True, "")) if one.check == "record")
    assert found.status is Status.VETO


def test_nobody_waits_for_a_box_that_is_stopped() -> None:
    with pytest.raises(Failed) as caught:
        refuse_stopped(["stopped", "stopped"])
    assert caught.value.hint.endswith("./aibox start")
    refuse_stopped(["stopped", "starting"])
    refuse_stopped([])
