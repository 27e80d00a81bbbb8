"""Processes that are started on the way to an environment."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def running(
    command: list[str | Path],
    *,
    output: int | IO[str],
    guard: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process; on leaving it has ended, and was told to when an exception (Ctrl-C) led out.

    It inherits `guard`, the descriptor of the held lock file: one whose parent was killed goes
    on for a while, and nobody else may begin before it has stopped.
    """
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=(guard,),
    )
    try:
        yield process
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
