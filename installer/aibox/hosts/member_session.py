"""The session of a member: orders in, answers out, until the line is gone or quiet for too long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from aibox import orders, progress
from aibox.errors import AiboxError, Failed, Fault
from aibox.hosts.member import Member
from aibox.orders import Answer, Order, Progress, Step
from aibox.prepare import Workplace

Send = Callable[[bytes], None]
_ON_TRIAL = {Step.APPLY, Step.GATE}


def serve(place: Workplace, lines: Iterable[bytes], send: Send) -> None:
    """Do what is ordered until `lines` ends; what is on trial then is undone.

    `send` writes one line and may raise OSError when nobody reads any more.
    """
    line = _Line(lines, send)
    with Member(replace(place, report=line.report)) as member:
        for order in line.orders():
            line.answer(_done(member, order))


def _done(member: Member, order: Order) -> Answer:
    try:
        return Answer(done=member.do(order))
    except AiboxError as error:
        return Answer(error=error.as_json())
    except Exception as bug:
        failure = Failed(
            "bug",
            f"aibox has a bug: {type(bug).__name__}: {bug}",
            context=f"in the step {order.step.value}",
            hint="the box is safe; see where it stands with: ./aibox status",
            fault=Fault.US,
        )
        return Answer(error=failure.as_json())


class _Line:
    """Both directions. Reading goes on in a thread, so that a lost line is seen during a step."""

    def __init__(self, lines: Iterable[bytes], send: Send) -> None:
        self._send, self._sending = send, threading.Lock()
        self._lost, self._doing = threading.Event(), Step.ALIVE
        self._heard = time.monotonic()
        self._arrived: queue.SimpleQueue[Order | AiboxError | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def orders(self) -> Iterable[Order]:
        """One after the other; ends when nobody is there any more."""
        while True:
            try:
                order = self._arrived.get(timeout=orders.SILENCE_S)
            except queue.Empty:
                return
            if order is None:
                return
            if isinstance(order, AiboxError):
                self.answer(Answer(error=order.as_json()))
            elif order.step is not Step.ALIVE:
                self._doing = order.step
                yield order

    def report(self, told: progress.Progress) -> None:
        """Tell; raises `Failed` where a trial goes on for nobody."""
        self.answer(Answer(progress=Progress(step=told.step, message=told.message)))
        silent = time.monotonic() - self._heard > orders.SILENCE_S
        alone = (silent or self._lost.is_set()) and self._doing in _ON_TRIAL
        if alone and threading.current_thread() is threading.main_thread():
            self._doing = Step.ALIVE
            raise _alone()

    def answer(self, answer: Answer) -> None:
        """Send it, unless nobody reads."""
        try:
            with self._sending:
                self._send(answer.line())
        except OSError:
            self._lost.set()

    def _read(self, lines: Iterable[bytes]) -> None:
        try:
            for line in lines:
                self._heard = time.monotonic()
                self._take(line)
        except (OSError, ValueError):
            pass
        self._lost.set()
        self._arrived.put(None)

    def _take(self, line: bytes) -> None:
        try:
            self._arrived.put(orders.order(line))
        except AiboxError as error:
            self._arrived.put(error)


def _alone() -> Failed:
    return Failed(
        "coordinator-lost",
        "whoever changes this box was lost during the trial",
        hint="give the command again where the inventory is: ./aibox install --inventory FILE",
        fault=Fault.HOST,
    )
