"""kill -9 at every change of every command, and at every change of the recovery after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from aibox.box.filesystem import Operation
from aibox.box.journal import Intent
from aibox.recover import Done
from boxes import (
    Commands,
    ReleaseDouble,
    broken_invariants,
    copy_box,
    damage_to_current,
    quietly,
    remove_box,
)
from faults import KillAt, Recorder, in_a_process

ONE, TWO, THREE = (ReleaseDouble(name) for name in ("one", "two", "three"))
BROKEN = ReleaseDouble("broken", good=False)
BOOTS = ("boot-1", "boot-2")


@dataclass(frozen=True)
class Scenario:
    """A command, the box it meets, where it may leave it, and where a re-run must bring it."""

    name: str
    given: tuple[Callable[[Commands], object], ...]
    command: Callable[[Commands], object]
    allowed: frozenset[int | None]
    converges_to: int | None
    staging_is_swept_elsewhere: bool = False

    def run(self, commands: Commands) -> None:
        quietly(lambda: self.command(commands))


SCENARIOS = (
    Scenario("install", (), lambda c: c.install(ONE), frozenset({None, 1}), 1),
    Scenario("first install fails", (), lambda c: c.install(BROKEN), frozenset({None}), None, True),
    Scenario(
        "upgrade",
        (lambda c: c.install(ONE),),
        lambda c: c.upgrade(TWO),
        frozenset({1, 2}),
        2,
    ),
    Scenario(
        "upgrade fails",
        (lambda c: c.install(ONE),),
        lambda c: c.upgrade(BROKEN),
        frozenset({1}),
        1,
        True,
    ),
    Scenario(
        "rollback",
        (lambda c: c.install(ONE), lambda c: c.upgrade(TWO)),
        lambda c: c.rollback(1),
        frozenset({1, 2}),
        1,
    ),
    Scenario(
        "gc",
        tuple(partial(Commands.upgrade, release=one) for one in (ONE, TWO, BROKEN, THREE)),
        lambda c: c.collect(),
        frozenset({4}),
        4,
    ),
)


def the_box_before(scenario: Scenario, place: Path) -> Path:
    root = place / "before"
    for step in scenario.given:
        step(Commands(root))
    root.mkdir(exist_ok=True)
    return root


def changes(
    base: Path, place: Path, work: Callable[[Commands], object], boot: str = "boot-1"
) -> list[Operation]:
    """Every change `work` makes to a copy of the box."""
    recorder, root = Recorder(), place / "counted"
    copy_box(base, root)
    work(Commands(root, recorder, boot=boot, services=recorder))
    remove_box(root)
    return recorder.operations


def killed(
    base: Path, root: Path, work: Callable[[Commands], object], at: int, boot: str = "boot-1"
) -> None:
    copy_box(base, root)
    kill = KillAt(at)
    ended = in_a_process(lambda: work(Commands(root, kill, boot=boot, services=kill)))
    assert ended == -9, f"boundary {at} was not reached: the process ended with {ended}"


def check(root: Path, scenario: Scenario, where: str) -> None:
    """Recover (this process knows nothing of the one that died), look, and recover again:
    nothing is left to do, and the attempt is on record."""
    attempt = Commands(root).store.journal.read()
    assert damage_to_current(root) == [], f"{where}, before recovery"
    Commands(root).recover()
    assert broken_invariants(root, set(scenario.allowed)) == [], where
    assert Commands(root).recover() == (), f"{where}: a second recovery found work"
    if isinstance(attempt, Intent):
        entries = Commands(root).store.history.read().entries
        assert attempt.transaction in {entry.transaction for entry in entries}, where


def check_that_it_converges(root: Path, scenario: Scenario, where: str) -> None:
    scenario.run(Commands(root))
    assert broken_invariants(root, {scenario.converges_to}) == [], f"{where}, run again"


def boundaries(scenario: Scenario, base: Path, place: Path) -> range:
    """All of a command, or all after its staging where another scenario has swept that."""
    operations = changes(base, place, scenario.run)
    intents = [i for i, op in enumerate(operations) if op.path.name == "intent.json"]
    return range(intents[1] if scenario.staging_is_swept_elsewhere else 0, len(operations))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_kill_at_every_change_leaves_the_old_or_the_new(
    scenario: Scenario, place: Path, figure: Callable[[str], None]
) -> None:
    base = the_box_before(scenario, place)
    swept = boundaries(scenario, base, place)
    for boundary in swept:
        root, where = place / "killed", f"{scenario.name}, boundary {boundary}"
        killed(base, root, scenario.run, boundary)
        check(root, scenario, where)
        check_that_it_converges(root, scenario, where)
        remove_box(root)
    figure(f"kill -9 during {scenario.name}: {len(swept)} boundaries, 0 failures")


def sweep_recoveries(
    scenario: Scenario, place: Path, alike: Callable[[list[Operation], tuple[Done, ...]], object]
) -> str:
    """Kill the recovery at each of its changes, for each kind of recovery there is after a kill.

    `alike` names the kind: of recoveries with an equal name only the first is swept.
    """
    base, seen, count = the_box_before(scenario, place), set[object](), 0
    for boundary in boundaries(scenario, base, place):
        crashed = place / "crashed"
        killed(base, crashed, scenario.run, boundary)
        for boot in BOOTS:
            done: list[Done] = []
            recovery = changes(crashed, place, lambda c: done.extend(c.recover()), boot=boot)  # noqa: B023
            kind = alike(recovery, tuple(done))
            if kind not in seen:
                seen.add(kind)
                count += len(recovery)
                where = f"{scenario.name}, boundary {boundary}, recovery in {boot}"
                sweep_one_recovery(crashed, place / "twice", scenario, boot, len(recovery), where)
        remove_box(crashed)
    return f"{scenario.name}: {len(seen)} kinds of recovery, {count} boundaries, 0 failures"


def sweep_one_recovery(
    crashed: Path, root: Path, scenario: Scenario, boot: str, length: int, where: str
) -> None:
    for boundary in range(length):
        killed(crashed, root, Commands.recover, boundary, boot=boot)
        check(root, scenario, f"{where}, boundary {boundary}")
        remove_box(root)


# The others with ./test e2e, where every recovery is killed at every change.
@pytest.mark.parametrize("scenario", SCENARIOS[2:3], ids=lambda scenario: scenario.name)
def test_a_kill_at_every_change_of_each_kind_of_recovery(
    scenario: Scenario, place: Path, figure: Callable[[str], None]
) -> None:
    report = sweep_recoveries(
        scenario, place, lambda _, done: tuple((one.step, one.outcome is None) for one in done)
    )
    figure(f"kill -9 during the recovery after a kill during {report}")


@pytest.mark.e2e
@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS[:5], ids=lambda scenario: scenario.name)
def test_a_kill_at_every_change_of_every_recovery(
    scenario: Scenario, place: Path, figure: Callable[[str], None]
) -> None:
    report = sweep_recoveries(
        scenario, place, lambda changes, _: tuple((op.kind, op.path.name) for op in changes)
    )
    figure(f"kill -9 during every recovery after a kill during {report}")
