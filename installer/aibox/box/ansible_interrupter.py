"""Stops Ansible when the CLI is told to stop, without leaving a module at work behind it.

Ansible is never killed: each of its workers runs a module in a session of its own, and a module
whose Ansible is gone (a package manager, say) goes on alone. What ansible-core 2.19 does with
SIGINT decides how it is asked:

- the first one stops its workers, ends the play, and takes the handler away;
- when it comes while a worker is being started, that worker goes on: Ansible waits for it, or
  ends and leaves it behind;
- a second one would only kill Ansible. But a worker that is sent SIGINT itself stops its module
  and ends. Workers hold the pipe of the events, by which those left are found.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

ASK_AGAIN_S = 2.0
"""Longer than Ansible needs to stop its workers (0.7 s), so that only a lost SIGINT is repeated."""


class Interrupter:
    """Turns SIGINT and SIGTERM of the CLI into an end of Ansible.

    Enter it before Ansible starts: an ignored SIGINT (`nohup`, a background job) would be
    inherited and make Ansible deaf to the one sent here; a handled one is not. Outside the main
    thread signals stay as they are.
    """

    def __init__(self) -> None:
        self.asked = False
        self._wanted = threading.Event()
        self._restore = contextlib.ExitStack()

    def __enter__(self) -> Interrupter:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                previous = signal.signal(number, self._receive)
                self._restore.callback(signal.signal, number, previous)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore.close()

    @contextlib.contextmanager
    def watching(self, process: subprocess.Popen[bytes], pipe: IO[bytes]) -> Iterator[None]:
        """Wait for the end of `process`, which holds the other end of `pipe`, on the way out.

        Hastens it when the body raises, or when a signal comes or came before.
        """
        end = threading.Event()
        arguments = (process, os.fstat(pipe.fileno()).st_ino, end)
        insisting = threading.Thread(target=self._insist, args=arguments, daemon=True)
        insisting.start()
        try:
            yield
            end.set()
        finally:
            self._wanted.set()
            process.wait()
            insisting.join()

    def _receive(self, _number: int, _frame: object) -> None:
        self.asked = True
        self._wanted.set()

    def _insist(self, process: subprocess.Popen[bytes], pipe: int, end: threading.Event) -> None:
        """Ask until the body came to its end, or nobody is left who could be asked."""
        self._wanted.wait()
        left = {process.pid}
        while left and not end.is_set():
            for pid in left - {process.pid} or left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
            left = _left_after(ASK_AGAIN_S, pipe, end)


def _left_after(seconds: float, pipe: int, end: threading.Event) -> set[int]:
    """Who still holds the pipe when nobody does, the end has come, or the time is over."""
    deadline = time.monotonic() + seconds
    while (left := holders(pipe) - {os.getpid()}) and time.monotonic() < deadline:
        if end.wait(0.1):
            break
    return left


def holders(pipe: int) -> set[int]:
    """The processes of this user that hold an end of the pipe with this inode number.

    Of a run of Ansible these are itself and its workers, also workers it has lost; no module.
    """
    name, found = Path(f"pipe:[{pipe}]"), set()
    for descriptors in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(link.readlink() == name for link in descriptors.iterdir()):
                found.add(int(descriptors.parent.name))
    return found
