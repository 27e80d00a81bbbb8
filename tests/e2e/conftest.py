"""Whom and what the journeys share: a person for each file of tests, and one maker of servers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from .journey import Person, clone
from .server_operator import media, network, supplier, tap, tuned

__all__ = ["media", "network", "person", "supplier", "tap", "tuned"]


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    """Somebody with a clean clone and an empty home, both in a path with a space and Korean."""
    base = tmp_path_factory.mktemp("fresh")
    (base / "홈 folder").mkdir()
    someone = Person(clone(base / "내 checkout"), base / "홈 folder")
    yield someone
    for pid in someone.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
