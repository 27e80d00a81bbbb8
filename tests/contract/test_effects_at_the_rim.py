"""Effects stay at the rim; what import contracts cannot see is read from the syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "installer" / "aibox"

PRINTS = {"print", "input", "sys.stdout", "sys.stderr", "logging.basicConfig"}
EXITS = {"sys.exit", "exit", "quit", "os._exit", "SystemExit"}
PROCESSES = {
    "asyncio.create_subprocess_exec",
    "asyncio.create_subprocess_shell",
    *(f"os.{name}" for name in ("fork", "popen", "posix_spawn", "posix_spawnp", "system")),
    *(f"os.exec{ending}" for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"os.spawn{ending}" for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}
SOCKETS = {"asyncio.open_connection", "asyncio.start_server", "urllib.request"}

COMMAND_LINE = ("cli", "__main__.py")
EDGES = ("box", "bundle")


def used_names(source: str) -> Iterator[tuple[str, int]]:
    """Every dotted name that a module reads, and every module it imports, with the line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            yield ast.unparse(node), node.lineno
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def uses(forbidden: set[str], allowed: tuple[str, ...]) -> list[str]:
    """Where a forbidden name is read, outside the allowed top-level parts of the package."""
    return [
        f"{path.relative_to(PACKAGE)}:{line} {name}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in allowed
        for name, line in used_names(path.read_text(encoding="utf-8"))
        if name in forbidden
    ]


@pytest.mark.parametrize(
    ("forbidden", "allowed"),
    [
        (PRINTS, COMMAND_LINE),
        (EXITS, COMMAND_LINE),
        (PROCESSES, EDGES),
        (SOCKETS, EDGES),
    ],
    ids=["prints", "exits", "processes", "sockets"],
)
def test_only_the_rim_has_effects(forbidden: set[str], allowed: tuple[str, ...]) -> None:
    assert uses(forbidden, allowed) == []


def test_no_command_is_a_shell_string() -> None:
    calls = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and any(word.arg == "shell" for word in node.keywords)
    ]
    assert calls == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("print('x')", "print"),
        ("import sys\nsys.stdout.write('x')", "sys.stdout"),
        ("from os import system", "os.system"),
        ("import os\nos.execv('/bin/sh', [])", "os.execv"),
        ("import urllib.request", "urllib.request"),
        ("from urllib import request", "urllib.request"),
        ("raise SystemExit(1)", "SystemExit"),
    ],
)
def test_the_reader_sees_every_way_to_say_it(source: str, name: str) -> None:
    assert name in {found for found, _ in used_names(source)}
