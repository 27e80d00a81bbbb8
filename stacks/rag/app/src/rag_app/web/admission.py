"""How many answers are written at once, and how many questions may wait for that."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from rag_app.web.refusal import busy

SOONEST_S, LATEST_S = 1, 60
"""Who is turned away is asked to wait no less and no more, however long the answers are."""
FIRST_GUESS_S = 5.0
_NEWEST_COUNTS = 0.2


class Admission:
    """Bounded in both: a full box must not become one that nobody hears of again.

    `limit` answers are written at once; `queue` questions wait, each at most `wait_s`, and have
    their turn in the order in which they came. For one event loop.
    """

    def __init__(
        self,
        limit: int,
        queue: int = 0,
        wait_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._queue = queue
        self._wait_s = wait_s
        self._clock = clock
        self._turns: deque[asyncio.Future[None]] = deque()
        self._held_s = FIRST_GUESS_S
        self.running = 0

    @property
    def waiting(self) -> int:
        """Questions that wait for their turn."""
        return len(self._turns)

    @asynccontextmanager
    async def admitted(self) -> AsyncGenerator[None, None]:
        """Hold a place as long as an answer is being written; a 503 `Refusal` where none is had."""
        await self._enter()
        since = self._clock()
        try:
            yield
        finally:
            self._held_s += _NEWEST_COUNTS * (self._clock() - since - self._held_s)
            self._hand_over()

    async def _enter(self) -> None:
        if self.running < self._limit:
            self.running += 1
            return
        if self.waiting >= self._queue:
            raise self._full()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._turns.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._wait_s)
        except BaseException as error:
            self._give_up(turn)
            if isinstance(error, TimeoutError):
                raise self._full() from error
            raise

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if turn.done():  # Its turn came in the same moment.
            self._hand_over()
        else:
            self._turns.remove(turn)
            turn.cancel()

    def _hand_over(self) -> None:
        if self._turns:
            self._turns.popleft().set_result(None)
        else:
            self.running -= 1

    def _full(self) -> Exception:
        after = retry_after_s(self._limit, self.waiting, self._held_s)
        return busy(
            f"The box is full: {self.running} answers are being written and {self.waiting} wait.",
            after,
        )


def retry_after_s(limit: int, waiting: int, held_s: float) -> int:
    """In how many whole seconds it is the turn of who comes now, if places are held for `held_s`.

    Before him come those who wait; `limit` places are given up in that time.
    """
    return min(max(math.ceil(held_s * (waiting + 1) / limit), SOONEST_S), LATEST_S)
