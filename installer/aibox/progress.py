"""Progress as values: verbs report what they do, only the command line shows it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One line for whoever waits: the step it belongs to, and what happens."""

    step: str
    message: str


Report = Callable[[Progress], None]

_MIB = 1024 * 1024


class Meter:
    """Counts bytes of one transfer and reports bytes, rate and time left, at most once a second."""

    def __init__(
        self,
        step: str,
        what: str,
        total: int,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step, self._what, self._total, self._report = step, what, total, report
        self._clock = clock
        self._done = 0
        self._start = self._told = clock()

    def add(self, count: int) -> None:
        """Note `count` more bytes."""
        self._done += count
        now = self._clock()
        if now - self._told >= 1.0:
            self._told = now
            self._report(Progress(self._step, self._line(now)))

    def _line(self, now: float) -> str:
        rate = self._done / max(now - self._start, 1e-6)
        left = (self._total - self._done) / rate if rate else 0.0
        return (
            f"{self._what}: {self._done / _MIB:.1f} of {self._total / _MIB:.1f} MiB, "
            f"{rate / _MIB:.1f} MiB/s, {left:.0f} s left"
        )


def seldom(
    tell: Callable[[str], None],
    every_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
) -> Callable[[str], None]:
    """Tells at most one line in `every_s` seconds, of a tool that draws a bar."""
    last = -every_s

    def line(text: str) -> None:
        nonlocal last
        if clock() - last >= every_s:
            last = clock()
            tell(text)

    return line


@contextmanager
def ticking(what: str, report: Callable[[str], None], every_s: float = 4.0) -> Iterator[None]:
    """Say every few seconds that `what` still goes on, while the block waits for somebody else."""
    ended, begun = threading.Event(), time.monotonic()

    def tick() -> None:
        while not ended.wait(every_s):
            report(f"{what} ({time.monotonic() - begun:.0f} s)")

    try:
        # Within: who interrupts its start must not leave it talking.
        threading.Thread(target=tick, daemon=True).start()
        yield
    finally:
        ended.set()
