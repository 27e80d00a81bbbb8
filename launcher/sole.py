"""One process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from progress import Progress


@contextlib.contextmanager
def holding(lock: Path, purpose: str, progress: Progress) -> Iterator[int]:
    """Hold `lock` (flock), waiting for whoever does; gives its descriptor.

    The kernel releases it however we end. `purpose` completes "process 7, which ...". Raises
    OSError when the file cannot be opened.
    """
    guard = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        while not _taken(guard):
            holder = os.pread(guard, 20, 0).decode(errors="replace") or "unknown"
            progress.update(f"waiting for process {holder}, which {purpose}")
            time.sleep(0.1)
        os.ftruncate(guard, 0)
        os.pwrite(guard, str(os.getpid()).encode(), 0)
        yield guard
    finally:
        os.close(guard)


def _taken(guard: int) -> bool:
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
