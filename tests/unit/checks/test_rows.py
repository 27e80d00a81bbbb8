"""Every row of the list of known failures is told of by a check, or has a reason to have none."""

from __future__ import annotations

import re

from aibox import checks
from aibox.checks import cards, containers, driver, fabric, images, messages

ROWS = set(range(1, 39))
MODULES = (cards, containers, driver, fabric, images, messages)


def numbers(text: str) -> set[int]:
    """Those in brackets or after a colon, ranges spelt out; sections are left out."""
    found: set[int] = set()
    for part in re.findall(r"\(([^()]*)\)|: ([\d, -]+)", text):
        for first, last in re.findall(r"(?<![§.\d])(\d+)(?:-(\d+))?(?![.\d])", "".join(part)):
            found |= set(range(int(first), int(last or first) + 1))
    return found & ROWS


def table(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.startswith("|"))


def test_every_row_is_somewhere() -> None:
    told = set().union(*(numbers(table(module.__doc__ or "")) for module in MODULES))
    reasons = numbers(checks.__doc__ or "")
    assert ROWS - told == reasons - {10}
    assert reasons == {10, 24, 31, 35}
