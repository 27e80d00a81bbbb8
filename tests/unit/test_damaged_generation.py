"""The generation that serves is damaged: the way back, stopping and looking still work."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox import runtimes
from aibox.box.store import Store
from aibox.doctor import of_begun
from aibox.errors import NeedsPerson
from aibox.preflight import Status
from aibox.prepare import current, readable, require_generation
from aibox.profile import Runtime
from boxes import Commands, ReleaseDouble


@pytest.fixture(params=["manifest.json", "plan.json", "contents.json"])
def store(place: Path, request: pytest.FixtureRequest) -> Store:
    commands = Commands(place / "box")
    commands.install(ReleaseDouble("one"))
    commands.upgrade(ReleaseDouble("two"))
    damaged = commands.store.layout.generation(2) / request.param
    damaged.chmod(0o644)
    damaged.write_bytes(b"{")
    return commands.store


def test_what_it_is_cannot_be_read_and_the_way_out_is_named(store: Store) -> None:
    with pytest.raises(NeedsPerson) as caught:
        current(store)
    assert caught.value.reference == "generation-damaged"
    assert "\n" not in caught.value.context
    assert caught.value.hint.endswith("./aibox rollback")
    assert readable(store) is None


def test_it_can_be_left_behind(store: Store) -> None:
    require_generation(store)
    assert store.rollback_target() == 1


def test_doctor_names_the_damage(store: Store) -> None:
    bad = [one.check for one in of_begun(store) if one.status is Status.VETO]
    assert "generation 2" in bad and "generation 1" not in bad


def test_a_runtime_that_no_generation_tells_is_not_guessed(place: Path) -> None:
    commands = Commands(place / "box")
    assert runtimes.kind(commands.store) is Runtime.PROCESS, "there is no generation"
    commands.install(ReleaseDouble("one"))
    with pytest.raises(NeedsPerson):  # The manifest of the double says nothing of a runtime.
        runtimes.kind(commands.store)
    (commands.store.layout.generation(1) / "manifest.json").unlink()
    with pytest.raises(NeedsPerson):
        runtimes.kind(commands.store)
