"""The connections of a search: kept, made anew when the server went, never out of step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from async_helpers import run

from rag_app.vectors.connections import Connections

SECONDS = 10.0


class ServerDouble:
    """Answers each request with its own body, once `answering` is set; counts connections."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = 0
        self.answering = asyncio.Event()
        self.answering.set()
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_unix_server(self._serve, str(self.path))
        self._writers: list[asyncio.StreamWriter] = []
        try:
            yield
        finally:
            server.close()
            for writer in self._writers:
                writer.close()
            self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        self._writers.append(writer)
        with suppress(EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                body = await reader.readexactly(int(head.rsplit(b"content-length: ", 1)[1]))
                await self.answering.wait()
                length = b"%d" % len(body)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n" + body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "상자.sock"


def connections(path: Path, most: int = 4) -> Connections:
    return Connections(path, {"x-name": "value"}, most)


def test_a_connection_is_kept_and_the_headers_are_sent(path: Path) -> None:
    async def talk() -> None:
        server, client = ServerDouble(path), connections(path)
        async with server.serving():
            for number in range(3):
                body = b"%d" % number
                assert await client.exchange("/search", body, SECONDS) == (200, body)
            assert await client.exchange("/count", None, SECONDS) == (200, b"")
            assert server.opened == 1
            assert server.requests[0].startswith(b"POST /search HTTP/1.1\r\n")
            assert b"\r\nx-name: value\r\n" in server.requests[0]
            assert server.requests[3].startswith(b"GET /count HTTP/1.1\r\n")
            await client.close()

    run(talk())


def test_a_server_that_was_restarted_is_asked_again(path: Path) -> None:
    async def talk() -> None:
        client = connections(path)
        for body in (b"one", b"two"):
            async with ServerDouble(path).serving():
                assert await client.exchange("/x", body, SECONDS) == (200, body)
        await client.close()

    run(talk())


def test_a_call_that_was_given_up_does_not_answer_the_next_one(path: Path) -> None:
    async def talk() -> None:
        server, client = ServerDouble(path), connections(path)
        async with server.serving():
            server.answering.clear()
            with pytest.raises(TimeoutError):
                await client.exchange("/x", b"slow", 0.05)
            server.answering.set()
            assert await client.exchange("/x", b"next", SECONDS) == (200, b"next")
            await client.close()

    run(talk())


def test_no_more_connections_than_allowed(path: Path) -> None:
    async def talk() -> None:
        server, client = ServerDouble(path), connections(path, most=2)
        async with server.serving():
            bodies = [b"%d" % number for number in range(9)]
            calls = (client.exchange("/x", body, SECONDS) for body in bodies)
            assert [body for _, body in await asyncio.gather(*calls)] == bodies
            assert server.opened == 2
            await client.close()

    run(talk())


def test_nobody_there_is_an_error_of_the_system(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run(connections(path).exchange("/x", None, SECONDS))
