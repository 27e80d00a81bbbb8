"""A fresh host and no `--profile`: what fits is proposed, and taken when a person says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import typer

from aibox.cli import show
from aibox.errors import Failed, Fault
from aibox.prepare import Wish
from aibox.profile_choice import ProfileMissing

T = TypeVar("T")


def proposing(wish: Wish, run: Callable[[Wish], T], *, yes: bool = False) -> T:
    """Run; where a profile is missing, propose one at a terminal and run again with it.

    `yes` answers for a plan that was asked for, not for a choice that nobody saw: a host whose
    GPU is lost would become a box without one. So then, and away from a terminal, it is refused.
    """
    try:
        return run(wish)
    except ProfileMissing as missing:
        if missing.proposal.chosen is None or yes or not sys.stdin.isatty():
            raise
        chosen = missing.proposal.chosen.name
        for line in missing.proposal.lines():
            show.note(line)
        if not typer.confirm(f"go on with the profile {chosen}?", err=True):
            raise _declined() from missing
    return run(replace(wish, profile=chosen))


def _declined() -> Failed:
    return Failed(
        "declined",
        "stopped before anything was changed",
        hint="see what each profile needs, and fits, with: ./aibox profiles",
        fault=Fault.YOU,
    )
