"""The results of `aibox bench`, one file for an engine of a release; what an upgrade may lose."""

from __future__ import annotations

import json

from pydantic import AwareDatetime, ValidationError

from aibox.measuring.basis import CHAT, Basis
from aibox.measuring.load import Kind, Measured
from aibox.schema import Model, Name

VERSION = 2
"""Of version 1 each file is of the engine `chat`, and names none."""
MOST_AT_ONCE = 16
"""A gate asks the load with so many requests at once at most: the box waits for it."""


class Results(Model):
    """What was measured of one engine of a release on one hardware."""

    version: int
    made: AwareDatetime
    release: str
    generation: int
    profile: str
    service: Name = CHAT
    basis: Basis
    measured: tuple[Measured, ...]


def dump(found: Results) -> bytes:
    """The file's bytes."""
    text = json.dumps(found.model_dump(mode="json"), ensure_ascii=False, indent=1, sort_keys=True)
    return (text + "\n").encode()


def parse(data: bytes) -> Results | None:
    """Read a file back; None for what is no result that is known here."""
    try:
        found = Results.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        return None
    return found if found.version <= VERSION else None


def to_repeat(before: Results) -> Measured | None:
    """The measurement that an upgrade is held against: documents, as many at once as fits a gate.

    The largest of at most `MOST_AT_ONCE`, else the smallest there is; None without any.
    """
    shared = [one for one in before.measured if one.load.shape.kind is Kind.SHARED]
    few = [one for one in shared if one.load.concurrency <= MOST_AT_ONCE]
    if few:
        return max(few, key=lambda one: one.load.concurrency)
    return min(shared, key=lambda one: one.load.concurrency, default=None)


def loss_percent(before: Measured, now: Measured) -> float:
    """How much less is written per second than before, in percent; below zero is a gain."""
    return 100 * (1 - now.written_per_s / before.written_per_s) if before.written_per_s else 0.0


def judged(before: Measured, now: Measured, most_percent: float) -> tuple[bool, str]:
    """Whether an upgrade keeps what it must, and the sentence about it for people."""
    lost = loss_percent(before, now)
    told = (
        f"{now.written_per_s:.1f} tokens/s written, {before.written_per_s:.1f} before "
        f"({now.load}): {abs(lost):.0f} % {'less' if lost > 0 else 'more'}"
    )
    if now.failed:
        told += f"; {now.failed} of {now.load.requests} requests without an answer"
    return lost <= most_percent and not now.failed, told
