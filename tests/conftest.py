"""What all tests share: figures shown at the end of a run, and a folder that costs no disk."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

_FIGURES = pytest.StashKey[list[str]]()


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Call it with one line of what was counted or measured."""
    return request.config.stash.setdefault(_FIGURES, []).append


@pytest.fixture
def place() -> Iterator[Path]:
    """An empty folder in memory where there is one: for boxes that no power cut will meet."""
    memory = Path("/dev/shm")
    folder = Path(mkdtemp(prefix="aibox-", dir=memory if memory.is_dir() else None))
    yield folder
    shutil.rmtree(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines after the results."""
    figures = terminalreporter.config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section("figures")
    for line in figures:
        terminalreporter.line(line)
