"""HTTP/1.1 over a unix socket with kept connections, for the one call that every search makes.

A general HTTP client took as much processor time as the whole rest of a search. Both ends are
ours: every response has a `content-length`, and every request may be repeated.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_STATUS = slice(9, 12)  # Of "HTTP/1.1 200 OK".
_HEAD_BYTES = 64 * 1024

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Connections:
    """At most `most` connections to the server at `path`; for one event loop."""

    def __init__(self, path: Path, headers: dict[str, str], most: int) -> None:
        self._path = str(path)
        lines = ["host: vectors", *(f"{name}: {value}" for name, value in headers.items())]
        self._headers = "\r\n".join(lines)
        self._idle: list[_Connection] = []
        self._free = asyncio.Semaphore(most)

    async def exchange(self, path: str, body: bytes | None, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of the response to a POST of `body`, or to a GET where it is None.

        Raises `OSError` or `EOFError` when the server cannot be reached or ends meanwhile, and
        `TimeoutError`.
        """
        request = self._request(path, body)
        async with asyncio.timeout(timeout_s), self._free:
            while self._idle:
                try:
                    return await self._on(self._idle.pop(), request)
                except (EOFError, ConnectionError):
                    continue  # Kept while the server was restarted; so are others, perhaps.
            connection = await asyncio.open_unix_connection(self._path, limit=_HEAD_BYTES)
            return await self._on(connection, request)

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
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if length is None:
                raise ConnectionError("the response has no length")
            body = await reader.readexactly(int(length[1]))
        except BaseException:
            # Also when nobody waits any more: the rest of the answer must not meet the next call.
            writer.close()
            raise
        self._idle.append(connection)
        return int(head[_STATUS]), body

    def _request(self, path: str, body: bytes | None) -> bytes:
        method = "GET" if body is None else "POST"
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}\r\ncontent-length: {len(body or b'')}"
        return head.encode("ascii") + b"\r\n\r\n" + (body or b"")
