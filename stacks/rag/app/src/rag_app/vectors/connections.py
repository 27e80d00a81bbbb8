"""HTTP/1.1 with kept connections, for the one call that every search makes.

A general HTTP client took as much processor time as the whole rest of a search. It speaks to the
`vectors` process and to a Qdrant server; every request that is made here may be repeated.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})")
_HEAD_BYTES = 64 * 1024

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Dial = Callable[[], Awaitable[_Connection]]


def to_socket(path: Path) -> Dial:
    """Connects to a unix socket."""
    return lambda: asyncio.open_unix_connection(str(path), limit=_HEAD_BYTES)


def to_host(host: str, port: int, secured: ssl.SSLContext | None) -> Dial:
    """Connects to a host, over TLS where there is a context for it."""
    return lambda: asyncio.open_connection(host, port, ssl=secured, limit=_HEAD_BYTES)


class Connections:
    """At most `most` connections that `dial` opens; for one event loop.

    `headers` go with each request and must name the `host`.
    """

    def __init__(self, dial: Dial, headers: Mapping[str, str], most: int) -> None:
        self._dial = dial
        self._headers = "\r\n".join(f"{name}: {value}" for name, value in headers.items())
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(most)

    async def exchange(self, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the response to a POST of `body`, or to a GET where it is None.

        Raises `OSError` or `EOFError` when the server cannot be reached, ends meanwhile or says
        something else than HTTP, and `TimeoutError`.
        """
        request = self._request(path, body)
        async with asyncio.timeout(timeout_s), self._free:
            while self._idle:
                try:
                    return await self._on(self._idle.pop(), request)
                except (EOFError, ConnectionError):
                    continue  # Kept while the server was restarted; so are others, perhaps.
            return await self._on(await self._dial(), request)

    async def close(self) -> None:
        """Close the connections; no call may follow."""
        while self._idle:
            _, writer = self._idle.pop()
            writer.close()

    async def _on(self, connection: _Connection, request: bytes) -> tuple[int, bytes]:
        reader, writer = connection
        try:
            writer.write(request)
            await writer.drain()
            status, head = await _head(reader)
            body = await _body(reader, head)
        except BaseException:
            # Also when nobody waits any more: the rest of the answer must not meet the next call.
            writer.close()
            raise
        self._idle.append(connection)
        return status, body

    def _request(self, path: str, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}\r\ncontent-length: {len(body or b'')}"
        return head.encode("ascii") + b"\r\n\r\n" + (body or b"")


async def _head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status, and everything before the body."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as error:
        raise ConnectionError("the response has no end of its headers") from error
    if (status := _STATUS.match(head)) is None:
        raise ConnectionError("the response is not HTTP")
    return int(status[1]), head


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    if length := _LENGTH.search(head):
        return await reader.readexactly(int(length[1]))
    if not _CHUNKED.search(head):
        raise ConnectionError("the response has no length")
    chunks: list[bytes] = []
    while size := await _chunk_size(reader):
        chunks.append((await reader.readexactly(size + 2))[:size])
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # Headers that come after the body.
    return b"".join(chunks)


async def _chunk_size(reader: asyncio.StreamReader) -> int:
    line = await reader.readuntil(b"\r\n")
    try:
        return int(line.split(b";")[0], 16)
    except ValueError as error:
        raise ConnectionError("a part of the response has no length") from error
