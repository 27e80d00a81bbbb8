"""Activation: committed, or back where it was with both facts on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.activate import activate
from aibox.box.journal import Intent
from aibox.box.transaction import STOPPED, Outcome, begin, staging
from aibox.errors import BadUsage, ExitCode, Failed, Fault, NeedsPerson, RolledBack
from aibox.record import Action, Entry, Result
from aibox.verdict import Verdict
from boxes import Commands, GateDouble, ReleaseDouble, RuntimeDouble, broken_invariants, sha256

ONE, TWO = ReleaseDouble("one"), ReleaseDouble("two")
BROKEN = ReleaseDouble("broken", good=False)


@pytest.fixture
def box(place: Path) -> Commands:
    commands = Commands(place / "box")
    commands.install(ONE)
    return commands


def entries(box: Commands) -> list[Entry]:
    return list(box.store.history.read().entries)


def exit_code(outcome: Outcome) -> int:
    error = outcome.error()
    return int(error.exit_code) if error else 0


def test_an_upgrade_that_passes_its_gate_serves(box: Commands) -> None:
    outcome = box.upgrade(TWO)
    assert (outcome.result, outcome.serving, exit_code(outcome)) == (Result.COMMITTED, 2, 0)
    assert broken_invariants(box.root, {2}) == []
    state = box.store.slots.load()
    assert (state.last_good, state.prev_good) == (2, 1)


def test_the_gate_is_asked_while_the_new_generation_runs(box: Commands) -> None:
    box.upgrade(TWO)
    assert box.gate.asked == [1, 2]


def test_a_failed_gate_goes_back_and_both_facts_are_recorded(box: Commands) -> None:
    outcome = box.upgrade(BROKEN)
    assert exit_code(outcome) == ExitCode.ROLLED_BACK
    assert isinstance(outcome.error(), RolledBack)
    assert broken_invariants(box.root, {1}) == []
    failed, back = entries(box)[-2:]
    assert (failed.action, failed.generation, failed.outcome) == (Action.UPGRADE, 2, Result.FAILED)
    assert failed.gate is not None
    assert failed.gate.failed_ids() == ("ko-1",)
    assert failed.release == sha256(BROKEN.manifest)
    assert (back.action, back.generation, back.outcome) == (Action.ROLLBACK, 1, Result.ROLLED_BACK)
    assert back.release == sha256(ONE.manifest)
    assert failed.transaction == back.transaction


def test_the_refusal_names_the_cases_that_block(box: Commands) -> None:
    error = box.upgrade(BROKEN).error()
    assert error is not None
    assert "ko-1" in error.context


def test_a_first_install_that_fails_leaves_nothing_serving(place: Path) -> None:
    box = Commands(place / "box")
    outcome = box.install(BROKEN)
    assert (outcome.result, outcome.serving) == (Result.FAILED, None)
    assert exit_code(outcome) == ExitCode.FAILED
    assert not box.store.layout.current.is_symlink()
    assert box.runtime.running() is None
    assert [entry.outcome for entry in entries(box)] == [Result.FAILED]


class Stubborn(RuntimeDouble):
    """Services that do not start with a given generation."""

    refused: tuple[int, ...] = ()

    def apply(self) -> None:
        super().apply()
        if self.running() in self.refused:
            raise Failed("fatal", "web exits at once", hint="aibox doctor", fault=Fault.US)


def test_services_that_do_not_start_are_a_failed_gate(box: Commands) -> None:
    box.runtime = Stubborn(box.root)
    box.runtime.refused = (2,)
    outcome = box.upgrade(TWO)
    assert exit_code(outcome) == ExitCode.ROLLED_BACK
    assert outcome.reason == "web exits at once"


def test_old_services_that_do_not_start_either_need_a_person(box: Commands) -> None:
    box.runtime = Stubborn(box.root)
    box.runtime.refused = (1, 2)
    with pytest.raises(NeedsPerson, match="do not start"):
        box.upgrade(TWO)
    assert broken_invariants(box.root, {1})[:1] != ["an intent is left"]
    assert [entry.outcome for entry in entries(box)[-2:]] == [Result.FAILED, Result.FAILED]
    assert box.recover() == ()


@pytest.mark.parametrize("fault", [KeyError("a bug of ours"), KeyboardInterrupt(), OSError("pipe")])
def test_whatever_breaks_in_the_gate_the_old_generation_serves(
    box: Commands, fault: BaseException
) -> None:
    class Breaking(GateDouble):
        def __call__(self) -> Verdict:
            raise fault

    box.gate = Breaking(box.store)
    assert exit_code(box.upgrade(TWO)) == ExitCode.ROLLED_BACK
    assert broken_invariants(box.root, {1}) == []


def test_whoever_stops_a_trial_is_whose_fault_it_is(box: Commands) -> None:
    class Stopped(GateDouble):
        def __call__(self) -> Verdict:
            raise KeyboardInterrupt

    box.gate = Stopped(box.store)
    error = box.upgrade(TWO).error()
    assert error is not None and (error.fault, error.context) == (Fault.YOU, STOPPED)


def test_a_reason_that_is_no_text_is_recorded_all_the_same(box: Commands) -> None:
    class Surrogate(GateDouble):
        def __call__(self) -> Verdict:
            raise OSError("\udcff.pdf")

    box.gate = Surrogate(box.store)
    box.upgrade(TWO)
    assert "\\udcff" in entries(box)[-2].reason


def test_when_the_way_back_is_damaged_an_older_generation_serves(box: Commands) -> None:
    box.upgrade(TWO)

    class Rotting(GateDouble):
        def __call__(self) -> Verdict:
            blob = self.store.layout.blob(sha256(TWO.blobs["wheels/big.whl"]))
            blob.chmod(0o644)
            blob.write_bytes(b"rot")
            return Verdict(passed=False, reason="no")

    box.gate = Rotting(box.store)
    outcome = box.upgrade(ReleaseDouble("three"))
    assert (outcome.serving, exit_code(outcome)) == (1, ExitCode.ROLLED_BACK)
    assert broken_invariants(box.root, {1}) == []


def test_a_damaged_generation_is_refused_before_anything_changes(box: Commands) -> None:
    box.upgrade(TWO)
    box.store.layout.blob(sha256(ONE.blobs["wheels/big.whl"])).unlink()
    with pytest.raises(NeedsPerson):
        activate(box.store, 1, action=Action.ROLLBACK, runtime=box.runtime, gate=box.gate)
    assert broken_invariants(box.root, {2}) == []
    assert entries(box)[-1].outcome is Result.FAILED


def test_the_generation_that_serves_can_be_activated_again(box: Commands) -> None:
    outcome = box.install(ONE)
    assert (outcome.result, outcome.serving) == (Result.COMMITTED, 1)
    assert box.store.slots.load().prev_good is None


def test_when_the_serving_generation_fails_its_own_gate_it_stays(box: Commands) -> None:
    box.gate = GateDouble(box.store)
    outcome = activate(
        box.store,
        1,
        action=Action.INSTALL,
        runtime=box.runtime,
        gate=lambda: Verdict(passed=False, reason="no"),
    )
    assert (outcome.result, outcome.serving, exit_code(outcome)) == (Result.FAILED, 1, 1)
    assert box.store.slots.load().last_good == 1


def test_an_error_while_staging_drops_the_attempt_and_keeps_it_on_record(box: Commands) -> None:
    with pytest.raises(BadUsage), staging(box.store, Action.UPGRADE, release="r"):
        raise BadUsage("x", "the lock is wrong", hint="aibox lock", fault=Fault.YOU)
    assert box.store.journal.read() is None
    assert (entries(box)[-1].outcome, entries(box)[-1].reason) == (
        Result.FAILED,
        "the lock is wrong",
    )
    assert broken_invariants(box.root, {1}) != ["an intent is left"]


def test_a_transaction_does_not_begin_over_an_unfinished_one(box: Commands) -> None:
    begun = begin(box.store, Action.UPGRADE)
    with pytest.raises(Failed) as error:
        begin(box.store, Action.UPGRADE)
    assert error.value.reference == "unfinished-transaction"
    held = box.store.journal.read()
    assert isinstance(held, Intent)
    assert held.transaction == begun.intent.transaction
