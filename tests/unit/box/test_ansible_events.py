"""The models of events, held against lines that real runs wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.box.ansible_events import HostStats, Stats, TaskResult, parse

RECORDED = Path(__file__).parents[2] / "assets" / "ansible_events_2.19.14.jsonl"


def test_every_recorded_line_is_understood() -> None:
    events = [parse(line) for line in RECORDED.read_bytes().splitlines()]
    kinds = [event.event for event in events if event is not None]
    assert len(kinds) == len(events)
    assert kinds[:2] == ["play", "task"]
    assert kinds[-1] == "stats"
    assert set(kinds) == {"play", "task", "result", "retry", "stats"}


def test_a_recorded_failure_says_which_task_and_why() -> None:
    events = map(parse, RECORDED.read_bytes().splitlines())
    failures = [e for e in events if isinstance(e, TaskResult) and e.status == "failed"]
    assert [(e.task, e.message) for e in failures] == [("Break", "it broke")]


@pytest.mark.parametrize("line", [b"", b"{", b'{"event": "new", "time": 1}', b'{"event": "play"}'])
def test_a_torn_or_unknown_line_is_no_event(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("trouble", ["failures", "unreachable", "rescued"])
def test_a_run_with_any_trouble_has_not_succeeded(trouble: str) -> None:
    fine = Stats(time=0, hosts={"a": HostStats(ok=3)})
    bad = Stats(time=0, hosts={"a": HostStats(ok=3), "b": HostStats(**{trouble: 1})})
    assert fine.succeeded
    assert not bad.succeeded


def test_a_run_without_hosts_has_not_succeeded() -> None:
    assert not Stats(time=0, hosts={}).succeeded


def test_changes_are_counted_over_all_hosts() -> None:
    stats = Stats(time=0, hosts={"a": HostStats(changed=2), "b": HostStats(changed=1)})
    assert stats.changed == 3
