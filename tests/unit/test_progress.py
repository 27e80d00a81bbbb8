"""Whoever waits is told so at least every five seconds."""

from __future__ import annotations

import threading

from aibox.progress import seldom, ticking


def test_it_is_said_again_and_again_that_something_goes_on() -> None:
    lines: list[str] = []
    twice = threading.Event()

    def report(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            twice.set()

    with ticking("asking a", report, every_s=0.001):
        assert twice.wait(10)
    said = len(lines)
    assert lines[0].startswith("asking a (")
    threading.Event().wait(0.05)
    assert len(lines) <= said + 1  # one may have been on its way


def test_what_is_over_soon_is_not_talked_about() -> None:
    lines: list[str] = []
    with ticking("asking a", lines.append, every_s=60):
        pass
    assert lines == []


def test_a_tool_that_draws_a_bar_is_heard_now_and_then() -> None:
    now, told = [0.0], list[str]()
    line = seldom(told.append, every_s=2.0, clock=lambda: now[0])
    for second in (0.0, 0.5, 1.9, 2.0, 3.0, 4.5):
        now[0] = second
        line(f"at {second}")
    assert told == ["at 0.0", "at 2.0", "at 4.5"]
