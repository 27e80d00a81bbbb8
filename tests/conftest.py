"""What all tests share: figures shown at the end of a run, and a folder that costs no disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Call it with one line of what was counted or measured."""
    return lambda line: record_property("figure", line)


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder in memory where there is one: for boxes that no power cut will meet."""
    memory = Path("/dev/shm")
    folder = Path(mkdtemp(prefix="aibox-", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines after the results, also those that came from other test processes."""
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    figures = [
        str(value)
        for report in reports
        for name, value in report.user_properties
        if name == "figure"
    ]
    if figures:
        terminalreporter.section("figures")
    for line in figures:
        terminalreporter.line(line)
