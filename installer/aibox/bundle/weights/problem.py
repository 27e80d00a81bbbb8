"""What is wrong with a file of a model, and the error made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aibox.errors import Fault, VerificationRefused

EXPLAINED = "docs/model-files.md"
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason to refuse a file: its path in the repository, and what is wrong."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{printable(self.path)}: {self.what} (see {EXPLAINED})"


class Unsound(Exception):
    """A file is not what its name says; the text says why."""


def printable(text: str, limit: int = 120) -> str:
    """Text from outside, fit for a terminal and a log line."""
    shown = "".join(character if character.isprintable() else "?" for character in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def refuse(problems: Sequence[Problem], model: str = "") -> None:
    """Raise `VerificationRefused` (`model-refused`) that names every problem; nothing for none."""
    if not problems:
        return
    left = len(problems) - _SHOWN
    shown = "; ".join(map(str, problems[:_SHOWN])) + (f"; and {left} more" if left > 0 else "")
    raise VerificationRefused(
        "model-refused",
        f"the model {model} holds what could be more than data".replace("  ", " "),
        context=shown,
        hint="choose a repository, a revision or patterns without these files, then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )
