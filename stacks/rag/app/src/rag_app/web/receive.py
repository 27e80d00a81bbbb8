"""Reading requests: bounded JSON bodies, and noticing that the client has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.requests import ClientDisconnect, Request

from rag_app.web.refusal import Refusal

MAX_JSON_BYTES = 1024 * 1024
BODY_TIMEOUT_S = 30.0

Value = TypeVar("Value")
Body = TypeVar("Body", bound="RequestBody")


class RequestBody(BaseModel):
    """Base of what this API takes; unknown keys are refused, so that a typo is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=MAX_JSON_BYTES)


async def read_json(request: Request, model: type[Body]) -> Body:
    """The validated body; a `Refusal` names the first key that is wrong.

    At most `MAX_JSON_BYTES`, within `BODY_TIMEOUT_S`.
    """
    body = await _read_bytes(request)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        raise Refusal(
            422, "bad-request", f"{where}: {first['msg']}", hint=_example(model)
        ) from error


async def _read_bytes(request: Request) -> bytes:
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > MAX_JSON_BYTES:
        raise too_large(MAX_JSON_BYTES)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            async for part in request.stream():
                size += len(part)
                if size > MAX_JSON_BYTES:
                    raise too_large(MAX_JSON_BYTES)
                parts.append(part)
    except TimeoutError as error:
        raise Refusal(
            408, "too-slow", "The request did not arrive in time.", hint="Send it again."
        ) from error
    return b"".join(parts)


def too_large(limit: int) -> Refusal:
    """A body over `limit` bytes."""
    return Refusal(
        413,
        "request-too-large",
        f"The request is larger than {limit:,} bytes, which is the limit here.",
        hint="Send less in one request.",
    )


def _example(model: type[BaseModel]) -> str:
    return f"The keys are: {', '.join(model.model_fields)}."


async def until_disconnect(request: Request, work: Coroutine[Any, Any, Value]) -> Value:
    """The result of `work`, which is cancelled if the client leaves first (`ClientDisconnect`).

    The body of `request` must have been read.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        leaving.cancel()
        task.cancel()
        await asyncio.gather(task, leaving, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
