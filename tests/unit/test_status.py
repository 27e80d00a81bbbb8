"""One word for the whole box, and the newest verdict."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aibox.box.runtime import ServiceStatus
from aibox.box.store import Store
from aibox.doctor import examine
from aibox.record import Action, Entry, Result
from aibox.status import State, describe, judge, last_gate
from aibox.verdict import CaseResult, Verdict

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def services(*states: str) -> tuple[ServiceStatus, ...]:
    return tuple(ServiceStatus(f"s{i}", state, 1, 1.0, 0) for i, state in enumerate(states))


@pytest.mark.parametrize(
    ("installed", "interrupted", "states", "expected"),
    [
        (True, False, ("running", "running"), State.RUNNING),
        (True, False, ("running", "backoff"), State.DEGRADED),
        (True, False, ("stopped", "stopped"), State.STOPPED),
        (True, False, (), State.STOPPED),
        (True, True, ("running", "running"), State.INTERRUPTED),
        (False, False, (), State.NOT_INSTALLED),
    ],
)
def test_the_state_of_the_box(
    installed: bool, interrupted: bool, states: tuple[str, ...], expected: State
) -> None:
    assert judge(installed, interrupted, services(*states)) is expected


def entry(number: int, gate: Verdict | None) -> Entry:
    return Entry(
        sequence=number,
        transaction=str(number),
        generation=number,
        release="",
        action=Action.UPGRADE,
        outcome=Result.COMMITTED,
        started=NOW,
        finished=NOW,
        gate=gate,
    )


def test_the_newest_verdict_is_shown_with_its_generation() -> None:
    failed = Verdict(passed=False, results=(CaseResult(id="a", passed=False),), reason="a")
    found = last_gate((entry(1, Verdict(passed=True)), entry(2, failed), entry(3, None)))
    assert found is not None
    assert (found["generation"], found["passed"]) == (2, False)


def test_a_box_that_was_never_judged_has_no_verdict() -> None:
    assert last_gate(()) is None


def test_an_engine_that_hung_is_told_by_status_and_doctor(tmp_path: Path) -> None:
    note = tmp_path / "cache/chat-0123456789abcdef/stalls.json"
    note.parent.mkdir(parents=True)
    note.write_text(f"[{time.time() - 60}]")
    store = Store(tmp_path)
    (stall,) = describe(store, None, (), None).stalls
    assert (stall.service, stall.times) == ("chat", 1)
    (found,) = (one for one in examine(store, (), (True, "")) if one.check == "engine chat")
    assert (found.status.value, "hung 1 times" in found.found) == ("warn", True)
    assert found.fix.endswith("journalctl --all --unit aibox@chat.service")
