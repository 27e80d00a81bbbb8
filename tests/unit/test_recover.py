"""Recovery: the decision as a table, and what it makes of files a disk has spoiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.box.filesystem import Kind, Operation
from aibox.box.journal import Intent, Phase, Unreadable
from aibox.box.state import State
from aibox.errors import NeedsPerson
from aibox.record import Action, Result
from aibox.recover import RECOVERIES_CAP, Facts, Step, decide, expected
from boxes import Commands, ReleaseDouble, broken_invariants, quietly, sha256
from faults import KillAt, KillWhen, Recorder, in_a_process

ONE, TWO = ReleaseDouble("one"), ReleaseDouble("two")

INTENT = Intent(
    transaction="t2",
    action=Action.UPGRADE,
    phase=Phase.SWITCH,
    started=datetime(2026, 1, 2, tzinfo=UTC),
    generation=2,
    source=1,
    boot="boot-1",
)
TRIAL = Facts(
    intent=INTENT,
    state=State(sequence=4, last_good=1, transaction="t1", tries_left=1),
    current=2,
    sealed=(1, 2),
    good=(1,),
    recorded=1,
    boot="boot-1",
)
COMMITTED = State(sequence=5, last_good=2, prev_good=1, transaction="t2")
SETTLED = replace(TRIAL, intent=None, state=COMMITTED, recorded=2, good=(2, 1))


def in_phase(phase: Phase) -> Intent:
    return INTENT.model_copy(update={"phase": phase})


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        (SETTLED, Step.NOTHING),
        (replace(TRIAL, intent=in_phase(Phase.STAGE)), Step.DISCARD),
        (TRIAL, Step.UNDO),
        (replace(TRIAL, current=1), Step.UNDO),
        (replace(TRIAL, boot="boot-2"), Step.ASK_AGAIN),
        (replace(TRIAL, boot="boot-2", current=1), Step.UNDO),
        (
            replace(TRIAL, boot="boot-2", state=State(sequence=5, last_good=1, tries_left=0)),
            Step.UNDO,
        ),
        (replace(TRIAL, state=COMMITTED), Step.FORWARD),
        (replace(TRIAL, state=State(sequence=5, last_good=2, transaction="t1")), Step.UNDO),
        (replace(TRIAL, intent=in_phase(Phase.UNDO)), Step.GO_BACK),
        (replace(TRIAL, intent=Unreadable(content=b"")), Step.SET_ASIDE),
        (replace(SETTLED, current=None), Step.RESTORE),
        (replace(SETTLED, current=1), Step.RESTORE),
        (replace(SETTLED, state=State()), Step.RESTORE),
        (replace(SETTLED, current=None, state=State()), Step.RESTORE),
        (replace(SETTLED, current=None, state=State(), sealed=()), Step.NOTHING),
        (replace(SETTLED, current=None, state=State(sequence=7)), Step.NOTHING),
    ],
)
def test_what_recovery_does_next(facts: Facts, step: Step) -> None:
    assert decide(facts) is step


@pytest.mark.parametrize(
    ("facts", "generation"),
    [
        (SETTLED, 2),
        (replace(SETTLED, current=None), 2),
        (replace(SETTLED, current=1), 2),
        (replace(SETTLED, state=State(sequence=4, last_good=1)), 2),
        (replace(SETTLED, state=State(), current=1, recorded=None), 1),
        (replace(SETTLED, state=State(), current=None), 2),
        (replace(SETTLED, current=None, sealed=(1,)), 1),
        (replace(SETTLED, sealed=()), None),
    ],
)
def test_which_generation_must_serve(facts: Facts, generation: int | None) -> None:
    assert expected(facts) == generation


@given(
    st.sampled_from([None, Unreadable(content=b"x"), *map(in_phase, Phase)]),
    st.builds(
        State,
        sequence=st.integers(0, 3),
        last_good=st.none() | st.integers(1, 3),
        transaction=st.sampled_from(["", "t2"]),
        tries_left=st.integers(0, 1),
    ),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(1, 3),
    st.sampled_from([(), (1,), (1, 2), (1, 2, 3)]),
)
def test_there_is_a_decision_for_everything_and_only_what_is_sealed_may_serve(
    intent: Intent | Unreadable | None,
    state: State,
    current: int | None,
    recorded: int | None,
    sealed: tuple[int, ...],
) -> None:
    facts = Facts(intent, state, current, sealed, (), recorded, "boot-1")
    assert isinstance(decide(facts), Step)
    assert expected(facts) in (None, *sealed)


@pytest.fixture
def box(place: Path) -> Commands:
    commands = Commands(place / "box")
    commands.install(ONE)
    commands.upgrade(TWO)
    return commands


def spoil(path: Path, content: bytes | None) -> None:
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize("content", [None, b"", b"\0" * 300, b"garbage", b"{}"])
@pytest.mark.parametrize("slot", [0, 1])
def test_a_spoiled_slot_changes_nothing_that_serves(
    box: Commands, slot: int, content: bytes | None
) -> None:
    spoil(box.store.layout.slots[slot], content)
    box.recover()
    assert broken_invariants(box.root, {2}) == []


def test_both_slots_spoiled_keep_what_serves(box: Commands) -> None:
    for slot in box.store.layout.slots:
        spoil(slot, b"")
    box.recover()
    assert broken_invariants(box.root, {2}) == []
    assert box.rollback().serving == 1


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"garbage", b"{}", b'{"version":9}'])
def test_a_spoiled_intent_is_set_aside(box: Commands, content: bytes) -> None:
    box.store.layout.intent.write_bytes(content)
    assert [done.step for done in box.recover()] == [Step.SET_ASIDE]
    assert broken_invariants(box.root, {2}) == []
    kept = box.store.layout.quarantine / f"intent-{sha256(content)[:16]}"
    assert kept.read_bytes() == content


def test_a_spoiled_intent_in_the_middle_of_a_trial_leads_back(box: Commands) -> None:
    crash(box, ReleaseDouble("three"), in_the_gate)
    box.store.layout.intent.write_bytes(b"garbage")
    assert [done.step for done in box.recover()] == [Step.SET_ASIDE, Step.RESTORE]
    assert broken_invariants(box.root, {2}) == []


@pytest.mark.parametrize("target", [None, "gens/9", "/", "current", "gens/1/tree", "elsewhere"])
def test_a_spoiled_link_is_made_anew(box: Commands, target: str | None) -> None:
    box.store.layout.current.unlink()
    if target is not None:
        box.store.layout.current.symlink_to(target)
    (done,) = box.recover()
    assert done.step is Step.RESTORE
    assert broken_invariants(box.root, {2}) == []
    last = box.store.history.read().entries[-1]
    assert (last.action, last.generation, last.outcome) == (Action.RECOVER, 2, Result.RECOVERED)


def test_a_link_to_another_generation_is_corrected(box: Commands) -> None:
    box.store.switch(1)
    box.recover()
    assert broken_invariants(box.root, {2}) == []


def test_a_folder_in_the_place_of_the_link_is_a_plain_error(box: Commands) -> None:
    box.store.layout.current.unlink()
    box.store.layout.current.mkdir()
    error = quietly(box.recover)
    assert error is not None
    assert error.reference == "disk-refused"


def test_when_the_serving_generation_is_gone_the_one_before_serves(box: Commands) -> None:
    shutil.rmtree(box.store.layout.generation(2))
    box.recover()
    assert broken_invariants(box.root, {1}) == []


def test_when_nothing_is_whole_services_stop_and_a_person_is_called_once(box: Commands) -> None:
    for folder in box.store.layout.blobs.iterdir():
        shutil.rmtree(folder)
    box.store.layout.current.unlink()
    with pytest.raises(NeedsPerson, match="no earlier one is whole"):
        box.recover()
    assert box.runtime.running() is None
    assert box.recover() == ()
    assert box.install(ONE).serving == 1
    assert broken_invariants(box.root, {1}) == []


def in_the_gate(operation: Operation) -> bool:
    return operation.kind is Kind.WRITE and operation.path.parent.name == "gens"


def crash(box: Commands, release: ReleaseDouble, where: Callable[[Operation], bool]) -> None:
    """kill -9 of an upgrade just before the first change that is `where`."""
    kill = KillWhen(where)
    crashed = Commands(box.root, kill, services=kill)
    assert in_a_process(lambda: crashed.upgrade(release)) == -9


def test_an_interrupted_trial_is_undone_in_the_same_boot(box: Commands) -> None:
    crash(box, ReleaseDouble("three"), in_the_gate)
    assert [done.step for done in box.recover()] == [Step.UNDO]
    assert broken_invariants(box.root, {2}) == []
    outcomes = [entry.outcome for entry in box.store.history.read().entries[-2:]]
    assert outcomes == [Result.FAILED, Result.RECOVERED]


def test_what_the_gate_said_outlives_a_kill_on_the_way_back(box: Commands) -> None:
    def on_the_way_back(operation: Operation) -> bool:
        return operation.path.suffix == ".running" and box.store.current() == 2

    crash(box, ReleaseDouble("broken", good=False), on_the_way_back)
    assert [done.step for done in box.recover()] == [Step.GO_BACK]
    failed, back = box.store.history.read().entries[-2:]
    assert failed.gate is not None
    assert failed.gate.failed_ids() == ("ko-1",)
    assert back.outcome is Result.ROLLED_BACK


def test_after_a_reboot_the_gate_is_asked_once_more(box: Commands) -> None:
    crash(box, ReleaseDouble("three"), in_the_gate)
    rebooted = Commands(box.root, boot="boot-2")
    assert [done.step for done in rebooted.recover()] == [Step.ASK_AGAIN]
    assert rebooted.gate.asked == [3]
    assert broken_invariants(box.root, {3}) == []


def test_after_a_reboot_a_bad_generation_is_rolled_back(box: Commands) -> None:
    crash(box, ReleaseDouble("three", good=False), in_the_gate)
    Commands(box.root, boot="boot-2").recover()
    assert broken_invariants(box.root, {2}) == []


def test_after_two_reboots_in_the_trial_it_is_undone_unasked(box: Commands) -> None:
    crash(box, ReleaseDouble("three"), in_the_gate)
    state = box.store.slots.load()
    box.store.slots.save(state.model_copy(update={"tries_left": 0}))
    again = Commands(box.root, boot="boot-3")
    assert [done.step for done in again.recover()] == [Step.UNDO]
    assert again.gate.asked == []


def test_a_recovery_that_never_ends_is_given_up(box: Commands) -> None:
    crash(box, ReleaseDouble("three"), in_the_gate)
    dying = KillAt(0)
    for _ in range(RECOVERIES_CAP):
        killed = Commands(box.root, services=dying)
        assert in_a_process(killed.recover) == -9
    last = Commands(box.root, services=dying)
    with pytest.raises(NeedsPerson, match="given up"):
        last.recover()
    assert broken_invariants(box.root, {2}, services=False) == []
    assert box.recover() == ()


def test_a_recovery_that_ends_is_not_counted(box: Commands) -> None:
    for number in range(3):
        crash(box, ReleaseDouble(f"next-{number}"), in_the_gate)
        box.recover()
    assert box.store.slots.load().recoveries == 0


def test_a_box_that_is_whole_is_left_alone(box: Commands) -> None:
    recorder = Recorder()
    assert Commands(box.root, recorder).recover() == ()
    assert {operation.kind for operation in recorder.operations} == {Kind.SYNC_DIRECTORY}
