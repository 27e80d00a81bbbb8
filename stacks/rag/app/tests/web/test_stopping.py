"""The real process is told to stop while it answers: the answer is written to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from events import named_events
from loopback import serving
from processes import running_box
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

WORDS, PAUSE_S = 12, 0.25


async def _slowly(_: Request) -> Response:
    """A double of an engine that takes three seconds for an answer."""

    async def words() -> AsyncGenerator[bytes, None]:
        for number in range(WORDS):
            yield b'data: {"choices":[{"delta":{"content":"word%d "}}]}\n\n' % number
            await asyncio.sleep(PAUSE_S)
        yield b'data: {"choices":[{"delta":{"content":"[1]."},"finish_reason":"stop"}]}\n\n'
        yield b"data: [DONE]\n\n"

    return StreamingResponse(words(), media_type="text/event-stream")


ENGINE = Starlette(routes=[Route("/v1/chat/completions", _slowly, methods=["POST"])])


@pytest.mark.parametrize(("grace_s", "is_whole"), [(20, True), (1, False)])
def test_an_answer_in_the_works_has_its_grace(tmp_path: Path, grace_s: int, is_whole: bool) -> None:
    documents = {"manual.md": "# Roll back\nTo roll back a failed upgrade, run aibox rollback.\n"}
    with serving(ENGINE) as url:
        engine = f'[engine]\nkind = "openai"\nurl = "{url}/v1"\nmodel = "m"\n'
        server = f"stop_grace_s = {grace_s}"
        box = running_box(tmp_path, documents, engine=engine, server=server)
        with box as running, httpx.Client(trust_env=False, timeout=30) as client:
            question = {"question": "How do I roll back a failed upgrade?", "stream": True}
            with client.stream("POST", f"{running.url}/api/ask", json=question) as response:
                read = response.iter_text()
                text = ""
                while "word0" not in text:
                    text += next(read)
                status, _ = running.stop("web")
                try:
                    text += "".join(read)
                except httpx.RemoteProtocolError:
                    assert not is_whole
        assert status == 0
    if is_whole:
        name, answer = named_events(text)[-1]
        assert (name, answer["grounded"], answer["degraded"]) == ("answer", True, "")
        assert answer["answer"].startswith("word0 word1")
    else:
        assert "event: answer" not in text
