"""A hint that ends in a command which does not exist is worse than none."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer

from aibox.cli.app import app

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "installer/aibox").rglob("*.py"))
# Every way an error is given the command to type.
NAMED = frozenset({"hint", "command", "fix"})


@cache
def commands() -> set[str]:
    program = typer.main.get_command(app)
    return set(getattr(program, "commands", {}))


def hints(source: Path) -> Iterator[str]:
    """The text of every `hint=`, `command=` and `fix=` in a file, joined where it is in parts."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        for keyword in getattr(node, "keywords", ()):
            if keyword.arg in NAMED:
                parts = [part.value for part in ast.walk(keyword.value) if _is_text(part)]
                yield " ".join(map(str, parts))


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hints_name_commands_that_exist(source: Path) -> None:
    named = {name for hint in hints(source) for name in re.findall(r"\./aibox ([a-z]+)", hint)}
    assert named <= commands()


def test_most_errors_have_a_hint_to_check() -> None:
    assert sum(1 for source in SOURCES for _ in hints(source)) > 50
