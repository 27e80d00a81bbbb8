"""`/api/usage`: what was counted since the start, for whoever compares costs."""

from __future__ import annotations

from typing import Any

import pytest
from app_doubles import LanguageModelDouble
from starlette.testclient import TestClient

from rag_app.engines.openai import Usage
from rag_app.errors import EngineFailed

QUESTION = {"question": "How do I roll back?"}


@pytest.fixture
def model() -> LanguageModelDouble:
    return LanguageModelDouble(["Type ", "it [1].", Usage(120, 6)])


def counted(client: TestClient) -> dict[str, Any]:
    body = client.get("/api/usage").json()
    return {name: body[name] for name in body if name != "seconds"}


def test_nothing_is_counted_before_the_first_answer(client: TestClient) -> None:
    assert counted(client).pop("engines") == counted(client).pop("routes") == {}
    assert {value for value in counted(client).values() if not isinstance(value, dict)} == {0}
    assert client.get("/api/usage").json()["seconds"] >= 0


def test_answers_and_the_tokens_of_the_engine_add_up(client: TestClient) -> None:
    client.post("/api/ask", json=QUESTION)
    client.post("/api/ask", json={**QUESTION, "stream": True})
    assert counted(client) == {
        "answers": 2,
        "counted": 2,
        "prompt_tokens": 240,
        "completion_tokens": 12,
        "engines": {"double-model": 2},
        "routes": {},
    }
    metrics = client.get("/metrics").text
    assert 'rag_tokens_total{kind="prompt"} 240.0' in metrics
    assert "rag_answers_counted_total 2.0" in metrics


def test_an_answer_without_a_count_is_not_taken_for_none(
    client: TestClient, model: LanguageModelDouble
) -> None:
    model.pieces = ["Type it [1]."]
    client.post("/api/ask", json=QUESTION)
    assert counted(client) == {
        "answers": 1,
        "counted": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "engines": {"double-model": 1},
        "routes": {},
    }


def test_what_quotes_answer_costs_no_tokens(client: TestClient, model: LanguageModelDouble) -> None:
    model.failure = EngineFailed("down")
    client.post("/api/ask", json=QUESTION)
    assert (counted(client)["answers"], counted(client)["counted"]) == (1, 0)
