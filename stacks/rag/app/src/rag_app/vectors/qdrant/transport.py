"""Requests to a Qdrant server, repeated with pauses until a deadline.

Every call may be repeated: points are written under their own ids and deleted by what they are.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from rag_app.authority import trusting
from rag_app.config import Vectors
from rag_app.errors import VectorsUnreachable
from rag_app.key_file import read_key
from rag_app.vectors.connections import Connections, to_host
from rag_app.vectors.qdrant import wire
from rag_app.vectors.qdrant.wire import Call, TryAgain

_CONNECT_TIMEOUT_S = 2.0
_CONNECTIONS = 16
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 2.0

# Of status, body and the `retry-after` header; raises `TryAgain` where another attempt may help.
Reader = Callable[[int, bytes, str], Any]


class Attempts:
    """The deadline of one call: how long the next attempt may take, how long to pause before it.

    The pauses double, each is shortened by chance to a half at most, and never end after the
    deadline: then the failure of the first attempt, which had most time, is the caller's.
    """

    def __init__(self, deadline_s: float) -> None:
        self._deadline = time.monotonic() + deadline_s
        self._pause_s = _FIRST_PAUSE_S
        self._first: VectorsUnreachable | None = None

    def left_s(self) -> float:
        """Seconds until the deadline, at least a moment."""
        return max(0.001, self._deadline - time.monotonic())

    def pause_s(self, failure: VectorsUnreachable) -> float:
        """Seconds to wait before the next attempt; raises when there is none."""
        self._first = self._first or failure
        shortened = self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311
        pause = max(shortened, failure.after_s if isinstance(failure, TryAgain) else 0.0)
        if time.monotonic() + pause >= self._deadline:
            raise self._first
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        return pause


class SyncTransport:
    """For one thread. `deadline_s` bounds when a last attempt begins, `timeout_s` its silence."""

    def __init__(self, config: Vectors, deadline_s: float, timeout_s: float) -> None:
        self._client = _client(config)
        self._deadline_s = deadline_s
        self._timeout = httpx.Timeout(timeout_s, connect=_CONNECT_TIMEOUT_S)

    def ask(self, call: Call, read: Reader = wire.result) -> Any:
        """What `read` makes of the answer; raises `VectorsUnavailable`."""
        attempts = Attempts(self._deadline_s)
        while True:
            try:
                return _read(read, self._client.send(self._request(call)))
            except (httpx.HTTPError, VectorsUnreachable) as error:
                time.sleep(attempts.pause_s(_failure(error)))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _request(self, call: Call) -> httpx.Request:
        return self._client.build_request(
            call.method, call.path, content=call.body, timeout=self._timeout
        )


class AsyncTransport:
    """For one event loop. A call ends `deadline_s` after its begin, whatever happens."""

    def __init__(self, config: Vectors, deadline_s: float) -> None:
        parts = urlsplit(config.url)
        is_https = parts.scheme == "https"
        secured = trusting(config.ca_file, "vectors.ca_file") if is_https else None
        port = parts.port or (443 if secured else 80)
        dial = to_host(parts.hostname or "", port, secured)
        self._connections = Connections(
            dial, {"host": parts.netloc, **_headers(config)}, _CONNECTIONS
        )
        self._deadline_s = deadline_s

    async def ask(self, call: Call, read: Reader = wire.result) -> Any:
        """What `read` makes of the answer; raises `VectorsUnavailable`.

        Only for what is asked by GET and POST.
        """
        attempts = Attempts(self._deadline_s)
        while True:
            try:
                exchanged = self._connections.exchange(call.path, call.body, attempts.left_s())
                return read(*await exchanged, "")
            except (OSError, EOFError, VectorsUnreachable) as error:
                await asyncio.sleep(attempts.pause_s(_failure(error)))

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()


def _headers(config: Vectors) -> dict[str, str]:
    # Compressed answers would cost more time than they save between neighbours.
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if config.api_key_file:
        headers["api-key"] = read_key(config.api_key_file, "vectors.api_key_file")
    return headers


def _client(config: Vectors) -> httpx.Client:
    return httpx.Client(
        base_url=config.url,
        headers=_headers(config),
        verify=trusting(config.ca_file, "vectors.ca_file") if config.ca_file else True,
        # No proxy out of the environment: what rag.toml says is all that counts.
        trust_env=False,
        follow_redirects=False,
    )


def _read(read: Reader, response: httpx.Response) -> Any:
    return read(response.status_code, response.content, response.headers.get("retry-after", ""))


def _failure(error: Exception) -> VectorsUnreachable:
    if isinstance(error, VectorsUnreachable):
        return error
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        failure = VectorsUnreachable("the search index does not answer in time")
    else:
        failure = VectorsUnreachable(f"the search index cannot be reached ({error})")
    failure.__cause__ = error
    return failure
