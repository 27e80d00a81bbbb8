"""Faults at the n-th change: a kill, an error of the operating system, or just a count.

Changes may be announced by several threads at once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import count

from aibox.box.filesystem import Kind, Operation


@dataclass
class Recorder:
    """Writes down every change, and lets it happen."""

    operations: list[Operation] = field(default_factory=list)

    def __call__(self, operation: Operation) -> None:
        self.operations.append(operation)


@dataclass
class KillAt:
    """kill -9 of this very process just before change number `boundary` (from 0)."""

    boundary: int
    _seen: Iterator[int] = field(default_factory=count)

    def __call__(self, operation: Operation) -> None:
        if next(self._seen) == self.boundary:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class KillWhen:
    """kill -9 of this very process just before the first change that `where` is true of."""

    where: Callable[[Operation], bool]

    def __call__(self, operation: Operation) -> None:
        if self.where(operation):
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class FailAt:
    """An OSError at the n-th change of some kinds; from then on always, if it `lasts`."""

    boundary: int
    number: int
    kinds: Collection[Kind]
    lasts: bool = False
    fired: bool = False
    _seen: Iterator[int] = field(default_factory=count)

    def __call__(self, operation: Operation) -> None:
        if operation.kind not in self.kinds:
            return
        seen = next(self._seen)
        if seen >= self.boundary if self.lasts else seen == self.boundary:
            self.fired = True
            raise OSError(self.number, os.strerror(self.number))


def in_a_process(work: Callable[[], object]) -> int:
    """Run `work` in a forked process: 0 done, 1 it raised, -9 it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
