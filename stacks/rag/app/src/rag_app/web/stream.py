"""Answers in the works: admitted, counted, and ended when nobody listens any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rag_app.answer import Event, Finished, Found
from rag_app.conversation import Question
from rag_app.web.receive import until_disconnect
from rag_app.web.services import Services

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    # A reverse proxy that buffers would turn a stream into one late block.
    "x-accel-buffering": "no",
}


class AnswerStream:
    """The events of one answer whose first has come; close it in any case.

    A class and not a generator, because closing a generator that was never started would leave
    the answer behind it running.
    """

    def __init__(self, first: Event, rest: AsyncGenerator[Event, None]) -> None:
        self._first: Event | None = first
        self._rest = rest

    def __aiter__(self) -> AnswerStream:
        return self

    async def __anext__(self) -> Event:
        first, self._first = self._first, None
        return first if first is not None else await anext(self._rest)

    async def aclose(self) -> None:
        """End the answer, also in the middle."""
        await self._rest.aclose()


async def start_answer(
    here: Services, question: Question, *, passages: bool = True
) -> AnswerStream:
    """Begin an answer. What can be refused (a full box, no search) is refused here, while a status
    can still be chosen. Without `passages` the first event is what follows them, so that an engine
    that is full is refused here too."""
    events = _counted(here, question)
    try:
        first = await anext(events)
        if not passages and isinstance(first, Found):
            first = await anext(events)
        return AnswerStream(first, events)
    except BaseException:
        await events.aclose()
        raise


async def whole_answer(here: Services, question: Question) -> Finished:
    """The last event of an answer."""
    async with aclosing(await start_answer(here, question)) as events:
        async for happened in events:
            if isinstance(happened, Finished):
                return happened
    raise AssertionError("an answer ended without its last event")


async def _counted(here: Services, question: Question) -> AsyncGenerator[Event, None]:
    async with here.admission.admitted(), aclosing(here.answerer.events(question)) as events:
        async for happened in events:
            if isinstance(happened, Finished):
                here.metrics.answered(happened.answer, happened.usage)
            yield happened


class EventStream(Response):
    """Sends `chunks`, made from `answer`, as they come; closes both when the client leaves."""

    def __init__(self, answer: AnswerStream, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers=_HEADERS)
        del self.headers["content-length"]
        self._answer = answer
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with suppress(ClientDisconnect):
                await until_disconnect(Request(scope, receive), self._send(send))
        finally:
            await asyncio.shield(self._close())

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _close(self) -> None:
        await self._chunks.aclose()
        await self._answer.aclose()
