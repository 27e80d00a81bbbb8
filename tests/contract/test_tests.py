"""The tests themselves: none lies where it is never run."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_no_test_lies_in_a_folder_that_pytest_passes_over(pytestconfig: pytest.Config) -> None:
    passed_over = pytestconfig.getini("norecursedirs")
    hidden = [
        path
        for place in pytestconfig.getini("testpaths")
        for path in sorted((ROOT / place).rglob("test_*.py"))
        for part in path.relative_to(ROOT).parts[:-1]
        if any(fnmatch(part, pattern) for pattern in passed_over)
    ]
    assert hidden == []
