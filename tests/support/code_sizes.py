"""The sizes of the code: signals to look at, not limits that fail a build."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CODE = ("installer", "launcher", "stacks/rag/app/src")
FUNCTION_MEDIAN, FUNCTION_P90, FILE_LINES = 10, 35, 500


def functions(path: Path) -> Iterator[tuple[int, str]]:
    """The length in lines and the name of every function of a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.end_lineno - node.lineno + 1, f"{path.relative_to(REPOSITORY)}:{node.name}"


def report() -> list[str]:
    """Three lines for the end of a run."""
    files = sorted(path for folder in CODE for path in (REPOSITORY / folder).rglob("*.py"))
    sizes = sorted(size for path in files for size in functions(path))
    lines = [length for length, _ in sizes]
    long_files = [
        f"{path.relative_to(REPOSITORY)} ({length})"
        for path in files
        if (length := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    ]
    return [
        f"{len(lines)} functions: median {statistics.median(lines):.0f} lines "
        f"(aim {FUNCTION_MEDIAN}), p90 {lines[len(lines) * 9 // 10]} (aim {FUNCTION_P90})",
        "longest: " + ", ".join(f"{name} ({length})" for length, name in sizes[:-4:-1]),
        f"files over {FILE_LINES} lines: {', '.join(long_files) or 'none'}",
    ]
