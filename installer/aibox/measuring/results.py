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


def to_repeat(before: Results, most: int | None = None) -> Measured | None:
    """The measurement that an upgrade is held against: documents, as many at once as fits a gate.

    The largest of at most `MOST_AT_ONCE`, else the smallest there is; None without any. A load
    of which requests failed is none to repeat, nor one of more at once than `most`, those that the
    new engine takes.
    """
    shared = [
        one
        for one in before.measured
        if one.load.shape.kind is Kind.SHARED
        and not one.failed
        and (most is None or one.load.concurrency <= most)
    ]
    few = [one for one in shared if one.load.concurrency <= MOST_AT_ONCE]
    if few:
        return max(few, key=lambda one: one.load.concurrency)
    return min(shared, key=lambda one: one.load.concurrency, default=None)


def loss_percent(before: Measured, now: Measured) -> float:
    """How much less is written per second than before; below zero is a gain.

    In tenths of a percent: what is told of it is what decides.
    """
    return round(100 * (1 - now.written_per_s / before.written_per_s), 1)


def judged(before: Measured, now: Measured, most_percent: float) -> tuple[bool, str]:
    """Whether an upgrade keeps what it must, and the sentence about it for people."""
    lost = loss_percent(before, now)
    change = f"{abs(lost):g} % {'less' if lost > 0 else 'more'}" if lost else "as much"
    told = (
        f"{now.written_per_s:.1f} tokens/s written, {before.written_per_s:.1f} before "
        f"({now.load}): {change}"
    )
    if now.failed:
        told = f"{now.failed} of {now.load.requests} requests got no answer; {told}"
    if lost > most_percent:
        return False, f"too slow: {told}; {most_percent:g} % is allowed"
    return not now.failed, told
