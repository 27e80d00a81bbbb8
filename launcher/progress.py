"""What the person at the keyboard sees while an environment is being made; standard error only."""

from __future__ import annotations

import sys
import time

SECONDS_BETWEEN_LINES = 4.0
SECONDS_BETWEEN_REDRAWS = 0.4


class Progress:
    """Redraws one line on a terminal; elsewhere prints a plain line at least every 5 seconds.

    A new activity is shown at once, so that the output tells how long each one took.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._started = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._last_shown = self._started
        self._activity = ""
        self._pause = SECONDS_BETWEEN_REDRAWS if self._on_terminal else SECONDS_BETWEEN_LINES

    @property
    def seconds(self) -> float:
        """Since this began."""
        return time.monotonic() - self._started

    def say(self, text: str) -> None:
        """Show a line that stays."""
        clear = "\r\x1b[K" if self._on_terminal else ""
        print(f"{clear}{self._program}: {text}", file=sys.stderr, flush=True)

    def update(self, activity: str, amount: str = "") -> None:
        """Show where things stand, when it is time to; cheap enough to call in any loop."""
        now = time.monotonic()
        if activity == self._activity and now - self._last_shown < self._pause:
            return
        self._last_shown, self._activity = now, activity
        text = ", ".join(part for part in (activity, amount, f"{self.seconds:.0f} s") if part)
        if self._on_terminal:
            print(f"\r\x1b[K{self._program}: {text}", end="", file=sys.stderr, flush=True)
        else:
            self.say(text)
