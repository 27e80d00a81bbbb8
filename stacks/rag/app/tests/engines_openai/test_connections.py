"""How many connections to its endpoint the engine keeps, seen from a real socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

from app_doubles import make_config, make_passage
from async_helpers import collected, run

from rag_app.config import Engine
from rag_app.engines.openai import KEPT_CONNECTIONS, OpenAIEngine
from rag_app.prompts import load

AT_ONCE = 2 * KEPT_CONNECTIONS + 8
BODY = (
    b'data: {"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(BODY)
) + BODY


class EndpointDouble:
    """Answers when all have asked, so that each needs a connection; counts what stays open."""

    def __init__(self) -> None:
        self.open, self.most, self._asked = 0, 0, 0
        self._all = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().split(b"content-length:")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            self._asked += 1
            if self._asked == AT_ONCE:
                self._all.set()
            await self._all.wait()
            writer.write(ANSWER)
            await reader.read()
        finally:
            self.open -= 1
            writer.close()


def test_few_idle_connections_are_kept_after_many_answers_at_once(tmp_path: Path) -> None:
    """With each request the pool looks at every connection for each that is idle."""

    async def work() -> None:
        double = EndpointDouble()
        server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        config = make_config(tmp_path)
        settings = Engine(kind="openai", url=f"http://127.0.0.1:{port}/v1", model="m")
        engine = OpenAIEngine(settings, config.tuning, load(config.prompts), connections=AT_ONCE)
        asked = (collected(engine.stream("Why?", [make_passage(1)], "en")) for _ in range(AT_ONCE))
        assert await asyncio.gather(*asked) == [["yes"]] * AT_ONCE
        assert double.most == AT_ONCE
        while double.open > KEPT_CONNECTIONS:
            await asyncio.sleep(0.01)
        await engine.close()
        server.close()

    run(work())
