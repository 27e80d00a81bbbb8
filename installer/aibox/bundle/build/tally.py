"""Byte-true progress of a set of transfers that run side by side, break and start anew."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from aibox.progress import Progress, Report

_RATE_WINDOW_S = 10.0
_MIB = 1 << 20


class Tally:
    """What a set of transfers has brought; safe to call from several threads.

    A file that starts anew does not take back what was told: its furthest position counts.
    """

    def __init__(
        self,
        step: str,
        what: str,
        total: int | None,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step, self._what, self._total, self._report = step, what, total, report
        self._clock, self._turn = clock, threading.Lock()
        self._reached: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._done = self._moved = 0
        self._samples = deque([(clock(), 0)])

    def reach(self, key: str, position: int, moved: int = 0) -> None:
        """The file `key` is complete up to `position`; `moved` bytes of it came just now."""
        with self._turn:
            gain = position - self._reached.get(key, 0)
            if gain > 0:
                self._reached[key] = position
                self._done += gain
            self._moved += moved

    def add(self, key: str, count: int) -> None:
        """`count` more bytes of the file `key`, which does not start anew."""
        with self._turn:
            self._reached[key] = self._reached.get(key, 0) + count
            self._done += count
            self._moved += count

    def note(self, key: str, text: str = "") -> None:
        """What the file `key` waits for; nothing if it goes on."""
        with self._turn:
            self._notes.pop(key, None)
            if text:
                self._notes[key] = text

    def tell(self) -> None:
        """Report bytes, rate (of the last seconds) and time left."""
        with self._turn:
            now = self._clock()
            self._samples.append((now, self._moved))
            while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_WINDOW_S:
                self._samples.popleft()
            line = self._line(self._rate())
        self._report(Progress(self._step, line))

    def _rate(self) -> float:
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / max(end - start, 1e-3)

    def _line(self, rate: float) -> str:
        done, speed = f"{self._done / _MIB:.1f}", f"{rate / _MIB:.1f} MiB/s"
        waits = "".join(f"; {note}" for note in list(self._notes.values())[:1])
        if self._total is None:
            return f"{self._what}: {done} MiB, {speed}{waits}"
        left = self._total - self._done
        time_left = f"{left / rate:.0f} s left" if rate else "0 s left" if not left else "stalled"
        return f"{self._what}: {done} of {self._total / _MIB:.1f} MiB, {speed}, {time_left}{waits}"
