"""Where a command takes its release from: the media of a bundle, and what is said about them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import typer

from aibox import exchange
from aibox.cli import show
from aibox.errors import VerificationRefused
from aibox.prepare import Wish, Workplace
from aibox.receiving import Terms

T = TypeVar("T")

_ASKED_DIGITS = 16


def wish_of(wish: Wish, bundle: Sequence[Path] | None, terms: Terms) -> Wish:
    """The wish with its media: those named, or the bundle that this program was started from."""
    started_from = os.environ.get("AIBOX_BUNDLE")
    paths = tuple(bundle or ())
    if not paths and started_from and wish.lockfile is None:
        paths = (Path(started_from),)
    return replace(wish, bundle=paths, terms=terms)


def terms_of(
    root: Sequence[Path] | None,
    weights: Sequence[Path] | None,
    *,
    unsigned: bool,
    downgrade: bool,
    expired: bool,
) -> Terms:
    """What the options say about a bundle."""
    return Terms(tuple(root or ()), tuple(weights or ()), unsigned, downgrade, expired)


def trusting_if_asked(place: Workplace, wish: Wish, run: Callable[[], T]) -> T:
    """Run; where nobody is trusted yet, let a person compare the delivery note, and run again.

    Only at a terminal, and the person types what the note says: a yes would be given unread.
    """
    try:
        return run()
    except VerificationRefused as refusal:
        if refusal.reference != "root-not-trusted" or not sys.stdin.isatty():
            raise
        show.note("this box does not know yet who signed the bundle")
        typed = typer.prompt(
            f"the first {_ASKED_DIGITS} characters of the fingerprint on the delivery note",
            err=True,
        )
        if not exchange.trust_by_note(place, wish.bundle, typed, _ASKED_DIGITS):
            raise
    return run()
