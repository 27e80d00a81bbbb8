"""The connections of a search: kept, made anew when the server went, never out of step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from async_helpers import run

from rag_app.vectors.connections import Connections, to_host, to_socket

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
    return Connections(to_socket(path), {"host": "double", "x-name": "value"}, most)


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


async def answered(response: bytes) -> tuple[int, bytes]:
    """What is made of this response of a host."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    port = server.sockets[0].getsockname()[1]
    client = Connections(to_host("127.0.0.1", port, None), {"host": "double"}, 1)
    try:
        return await client.exchange("/", None, SECONDS)
    finally:
        await client.close()
        server.close()


@pytest.mark.parametrize(
    ("response", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, b"{}"),
        (b"HTTP/1.0 404 \r\nServer: x\r\nContent-Length:2\r\n\r\n{}", 404, b"{}"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\nA;name=value\r\n0123456789\r\n0\r\n\r\n",
            200,
            b"abc0123456789",
        ),
        (
            b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 1\r\n\r\n",
            503,
            b"",
        ),
    ],
)
def test_bodies_are_read_whole_however_they_are_sent(
    response: bytes, status: int, body: bytes
) -> None:
    assert run(answered(response)) == (status, body)


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nmany\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
        b"x" * 200_000,
    ],
)
def test_what_is_no_whole_response_is_a_failure_of_the_connection(response: bytes) -> None:
    with pytest.raises((ConnectionError, EOFError)):
        run(answered(response))
