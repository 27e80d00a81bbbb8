"""Run asynchronous code from plain tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

Value = TypeVar("Value")

DEADLINE_S = 10.0


def run(work: Coroutine[Any, Any, Value]) -> Value:
    """The result of `work`, within the deadline."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


async def collected(items: AsyncIterator[Value]) -> list[Value]:
    """Everything an asynchronous iterator gives."""
    return [item async for item in items]


def wait_until(holds: Callable[[], bool]) -> bool:
    """Poll until `holds`, or give up at the deadline; says whether it held."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
