"""Two language models over HTTP: who answers is told, and the large one steps in for the small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from app_doubles import Box, make_box, make_config
from events import named_events, openai_chunks
from loopback import serving
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from rag_app.answer import SmallModel
from rag_app.config import Engine
from rag_app.engines.openai import OpenAIEngine
from rag_app.prompts import load
from rag_app.routing import Limits, Router
from rag_app.web.app import build

LIMITS = Limits(max_characters=60, max_turns=0, max_documents=2, min_evidence=0.3, evidence=0.3)
SIMPLE = "How do I roll back?"
NOT_SIMPLE = "Why do I roll back?"
WRITTEN = "Large [1]."


@dataclass
class ModelServerDouble:
    """A double of an OpenAI-compatible server: streams `pieces`, and breaks off without an end."""

    pieces: tuple[str, ...]
    status: int = 200
    ends: bool = True
    asked: list[dict[str, Any]] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message.get("more_body", False)
        self.asked.append(orjson.loads(body))
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for piece in self.pieces if self.status == 200 else ():
            event = {"choices": [{"index": 0, "delta": {"content": piece}}]}
            block = b"data: " + orjson.dumps(event) + b"\n\n"
            await send({"type": "http.response.body", "body": block, "more_body": True})
        end = b"data: [DONE]\n\n" if self.ends else b""
        await send({"type": "http.response.body", "body": end})


@pytest.fixture
def small() -> ModelServerDouble:
    return ModelServerDouble(("Small ", "[1]."))


@pytest.fixture
def large() -> ModelServerDouble:
    return ModelServerDouble((WRITTEN,))


@pytest.fixture
def box(tmp_path: Path, small: ModelServerDouble, large: ModelServerDouble) -> Iterator[Box]:
    config = make_config(tmp_path)
    with ExitStack() as servers:
        engines = [
            OpenAIEngine(
                Engine(kind="openai", url=f"{servers.enter_context(serving(one))}/v1", model=name),
                config.tuning,
                load(config.prompts),
                connections=2,
                patience_s=0.0,
            )
            for name, one in (("small", small), ("large", large))
        ]
        second = SmallModel(engines[0], Router(LIMITS, ["why"]))
        box = make_box(tmp_path, model=engines[1], small=second)
        box.library.hold("manual.md", "# Roll back\nType aibox rollback to roll back.\n")
        yield box


@pytest.fixture
def client(box: Box) -> Iterator[TestClient]:
    with TestClient(build(box.services), base_url="http://127.0.0.1:8642") as client:
        yield client


def ask(client: TestClient, question: str = SIMPLE) -> dict[str, Any]:
    body: dict[str, Any] = client.post("/api/ask", json={"question": question}).json()
    return body


def test_each_answers_its_questions_from_the_same_prompt(
    client: TestClient, small: ModelServerDouble, large: ModelServerDouble
) -> None:
    first, second = ask(client), ask(client, NOT_SIMPLE)
    assert (first["engine"], first["route"], first["answer"]) == ("small", "simple", "Small [1].")
    assert (second["engine"], second["route"]) == ("large", "large-words")
    (to_small,), (to_large,) = small.asked, large.asked
    assert to_small["messages"][0] == to_large["messages"][0]
    assert to_small["messages"][1]["content"] == to_large["messages"][1]["content"].replace(
        NOT_SIMPLE, SIMPLE
    )
    usage = client.get("/api/usage").json()
    assert usage["engines"] == {"large": 1, "small": 1}
    assert usage["routes"] == {"large-words": 1, "simple": 1}
    counted = 'rag_routed_answers_total{engine="small",reason="simple"} 1.0'
    assert counted in client.get("/metrics").text


@pytest.mark.parametrize(
    ("changed", "route"),
    [
        ({"status": 429}, "small-busy"),
        ({"status": 500}, "small-failed"),
        ({"status": 400}, "small-failed"),
        ({"pieces": ("From memory.",)}, "small-uncited"),
        ({"pieces": ()}, "small-failed"),
    ],
)
def test_the_large_model_steps_in_before_a_word_was_sent(
    client: TestClient, small: ModelServerDouble, changed: dict[str, Any], route: str
) -> None:
    for name, value in changed.items():
        setattr(small, name, value)
    response = client.post("/api/ask", json={"question": SIMPLE, "stream": True})
    events = named_events(response.text)
    assert [name for name, _ in events] == ["passages", "token", "answer"]
    answer = events[-1][1]
    assert (answer["engine"], answer["route"], answer["degraded"]) == ("large", route, "")
    assert answer["answer"] == WRITTEN


class TestBreakingOff:
    """What was streamed cannot be called back; it is declared void."""

    @pytest.fixture
    def small(self) -> ModelServerDouble:
        return ModelServerDouble(("Half [1]", " an ans"), ends=False)

    def test_the_page_is_told_to_begin_anew(self, client: TestClient) -> None:
        response = client.post("/api/ask", json={"question": SIMPLE, "stream": True})
        events = named_events(response.text)
        names = [name for name, _ in events]
        void = names.index("void")
        assert events[void][1] == {"route": "small-failed"}
        after = [data["text"] for name, data in events[void:] if name == "token"]
        assert "".join(after) == events[-1][1]["answer"] == WRITTEN

    def test_other_clients_read_what_is_void(self, client: TestClient) -> None:
        messages = [{"role": "user", "content": SIMPLE}]
        response = client.post("/v1/chat/completions", json={"messages": messages, "stream": True})
        chunks = openai_chunks(response.text)
        text = "".join(
            chunk["choices"][0]["delta"].get("content", "") for chunk in chunks if chunk["choices"]
        )
        assert text.startswith("Half [1] an ans\n\n---\n\nThe text above is void; another model")
        assert f"{WRITTEN}\n\nSources:" in text
        about = chunks[-1]["aibox"]
        assert (about["engine"], about["route"]) == ("large", "small-failed")
