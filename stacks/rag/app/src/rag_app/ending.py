"""Ends a process that was told to end, also when something in it does not return."""

from __future__ import annotations

import os
import threading


def end_after(seconds: float) -> None:
    """End the process with 0 in `seconds`, whatever still runs then.

    For when it was told to stop. Threads that wait for a lock or for a name server cannot be
    called off, and an interpreter waits for them. Nothing may be lost by that: see the callers.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
