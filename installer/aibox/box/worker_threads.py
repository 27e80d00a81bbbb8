"""Threads that work on one list, stop together, and are never left behind."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable
from threading import Lock, Thread, current_thread, main_thread
from typing import Generic, TypeVar

Item = TypeVar("Item")

TICK_S = 0.2
"""How often the count is told."""


class Stopped(Exception):
    """Another thread met an error, or whoever waits wants it to end."""


class WorkerThreads(Generic[Item]):
    """Takes a step for each item; the first error stops all threads."""

    def __init__(
        self, items: Iterable[Item], step: Callable[[Item, Callable[[int], None]], None]
    ) -> None:
        """`step` gets an item and a function that counts; it ends where counting raises."""
        self._items, self._step = iter(items), step
        self._lock = Lock()
        self._count = 0
        self._stop = False
        self._error: BaseException | None = None

    def run(self, size: int, on_tick: Callable[[int], None]) -> None:
        """Do all of it in so many threads; raises the first error.

        `on_tick` gets, on the calling thread, what was counted since the last time. Whatever it
        raises, or a person at the keyboard, stops the threads too. None of them runs on return.
        """
        threads = [Thread(target=self._work, name=f"worker-{number}") for number in range(size)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(TICK_S)
                    on_tick(self._counted())
        finally:
            self._stop = True
            _outlast(threads)
        if self._error is not None:
            raise self._error
        on_tick(self._counted())

    def _work(self) -> None:
        try:
            while not self._stop:
                with self._lock:
                    item = next(self._items)
                self._step(item, self._add)
        except StopIteration:
            return
        except BaseException as error:
            with self._lock:
                if not self._stop:
                    self._stop, self._error = True, error

    def _add(self, count: int) -> None:
        if self._stop:
            raise Stopped
        with self._lock:
            self._count += count

    def _counted(self) -> int:
        with self._lock:
            count, self._count = self._count, 0
        return count


def _outlast(threads: Iterable[Thread]) -> None:
    """Wait whatever keys are pressed: who holds the box lets it go after this.

    One that was about to start when a key was pressed finds that it has nothing to do.
    """
    mine = current_thread() is main_thread() and signal.getsignal(signal.SIGINT) is not None
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if mine else None
    try:
        for thread in threads:
            if thread.is_alive():
                thread.join()
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)
