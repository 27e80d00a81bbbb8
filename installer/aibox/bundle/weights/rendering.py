"""Starts `trial.py`: a chat template is tried out in a process that can be ended."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from aibox import process
from aibox.bundle.weights import trial
from aibox.bundle.weights.problem import printable
from aibox.errors import Failed

WALL_S = 30.0
PROCESSOR_S = 5


def try_out(text: str) -> str:
    """What went wrong when a template was rendered, or nothing. Writes no file."""
    descriptor = os.memfd_create("chat-template")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text.encode("utf-8", "replace"))
        return _ended(f"/proc/{os.getpid()}/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _ended(path: str) -> str:
    try:
        ended = process.run(
            [sys.executable, "-I", Path(trial.__file__), path, str(PROCESSOR_S)],
            environment=process.environment(),
            timeout_s=WALL_S,
        )
    except Failed as failure:
        if failure.reference != "program-too-slow":
            raise
        return f"it did not end within {WALL_S:g} s"
    if ended.status < 0:
        return f"it was stopped after {PROCESSOR_S} s of work"
    said = ended.lines[-1] if ended.lines else f"status {ended.status}"
    return "" if ended.status == 0 else printable(said.rpartition("exceptions.")[2], 200)
