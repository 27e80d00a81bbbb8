"""Engines that hung: what their health check noted when it ended them (`vllm/ask.py.j2`).

The notes lie in the engines' own folders, so they outlive a container; a container writes them,
so anything may be in them.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from aibox.prerequisites import CACHES
from aibox.schema import Model

NOTE = "stalls.json"
RECENT_S = 24 * 3600.0
_MOST_BYTES = 4096


class Stalls(Model):
    """How often an engine hung in the last day, and when it did last (UTC, ISO 8601)."""

    service: str
    times: int
    last: str


def read(root: Path, now: float | None = None) -> tuple[Stalls, ...]:
    """Those of the box at `root`, by service; none for what cannot be read."""
    now = time.time() if now is None else now
    found: dict[str, list[float]] = {}
    for note in sorted((root / CACHES).glob(f"*/{NOTE}")):
        service = note.parent.name.rpartition("-")[0]
        recent = [moment for moment in _moments(note) if now - RECENT_S < moment <= now]
        if service and recent:
            found.setdefault(service, []).extend(recent)
    return tuple(
        Stalls(service=name, times=len(moments), last=_told(max(moments)))
        for name, moments in found.items()
    )


def _moments(note: Path) -> list[float]:
    with suppress(OSError, ValueError, RecursionError):
        handle = os.open(note, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            said = json.loads(file.read(_MOST_BYTES))
        if isinstance(said, list):
            return [float(item) for item in said if isinstance(item, int | float)]
    return []


def _told(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
