"""/api/ask and /api/search."""

from __future__ import annotations

import pytest
from app_doubles import RELEASE, Box, LanguageModelDouble
from events import named_events
from starlette.testclient import TestClient

from rag_app.errors import EngineFailed, VectorsUnavailable

QUESTION = {"question": "How do I roll back?"}


def test_an_answer_has_the_contract_and_its_quote_stands_in_the_document(
    client: TestClient, box: Box
) -> None:
    answer = client.post("/api/ask", json=QUESTION).json()
    assert set(answer) >= {
        "answer", "grounded", "citations", "engine", "release", "language", "degraded",
    }  # fmt: skip
    assert (answer["engine"], answer["release"], answer["language"]) == (
        "extractive",
        RELEASE,
        "en",
    )
    cited = answer["citations"][0]
    assert set(cited) == {
        "document", "document_id", "locator", "quote", "score", "start", "end",
    }  # fmt: skip
    text = box.library.texts[cited["document_id"]]
    assert text[cited["start"] : cited["end"]] == cited["quote"]


def test_a_streamed_answer_ends_with_the_same_answer(client: TestClient) -> None:
    whole = client.post("/api/ask", json=QUESTION).json()
    response = client.post("/api/ask", json={**QUESTION, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = named_events(response.text)
    assert [name for name, _ in events] == ["passages", "token", "answer"]
    streamed = events[-1][1]
    del streamed["timings"], whole["timings"]
    assert streamed == whole


def test_the_language_can_be_asked_for(client: TestClient) -> None:
    answer = client.post("/api/ask", json={"question": "Lunch?", "language": "ko"}).json()
    assert (answer["language"], answer["grounded"]) == ("ko", False)
    assert answer["answer"] == "문서에서 답을 찾지 못했습니다."


def test_search_gives_passages_that_stand_in_their_document(client: TestClient, box: Box) -> None:
    body = client.post("/api/search", json={"query": "roll back", "limit": 1}).json()
    assert body["took_ms"] >= 0
    assert body["degraded"] == ""
    (result,) = body["results"]
    assert result["locator"] == "Roll back"
    assert 0 < result["evidence"] <= 1
    text = box.library.texts[result["document_id"]]
    assert text[result["start"] : result["end"]] == result["text"]


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/api/ask", b"{", "body: Invalid JSON"),
        ("/api/ask", b"[]", "body: "),
        ("/api/ask", b"{}", "question: "),
        ("/api/ask", b'{"question": ""}', "question: "),
        ("/api/ask", b'{"question": 7}', "question: "),
        ("/api/ask", b'{"question": "a", "language": "fr"}', "language: "),
        ("/api/ask", b'{"question": "a", "streams": true}', "streams: "),
        ("/api/ask", b'{"question": "\\ud800"}', "question"),
        ("/api/ask", b"\xff\xfe", "body: "),
        ("/api/ask", b'{"question": "' + b"a" * 4001 + b'"}', "question: "),
        ("/api/search", b'{"query": "a", "limit": 0}', "limit: "),
    ],
)
def test_malformed_requests_name_the_key(
    client: TestClient, path: str, body: bytes, says: str
) -> None:
    response = client.post(path, content=body)
    error = response.json()["error"]
    assert response.status_code == 422
    assert set(error) == {"reference", "message", "hint", "fault"}
    assert says in error["message"] or error["message"].startswith("body: ")
    assert error["fault"] == "you"


def test_a_huge_body_is_refused_by_its_declared_length(client: TestClient) -> None:
    response = client.post("/api/ask", content=b" " * 1_048_577)
    assert response.status_code == 413
    assert response.json()["error"]["reference"] == "request-too-large"


def test_a_huge_body_of_unknown_length_is_refused_as_well(client: TestClient) -> None:
    response = client.post("/api/ask", content=(b" " * 65536 for _ in range(20)))
    assert response.status_code == 413


def test_without_the_vectors_the_box_says_that_it_cannot_search(
    client: TestClient, box: Box
) -> None:
    box.searcher.failure = VectorsUnavailable("socket missing")
    for body in (QUESTION, {**QUESTION, "stream": True}):
        response = client.post("/api/ask", json=body)
        assert response.status_code == 503
        assert response.json()["error"]["reference"] == "search-unavailable"
        assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("failure", "line", "place"),
    [
        (VectorsUnavailable("socket missing"), "search-unavailable (socket missing)", False),
        (ZeroDivisionError("a bug"), "internal", True),
    ],
)
def test_the_log_says_why_and_for_a_bug_also_where(
    client: TestClient,
    box: Box,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
    line: str,
    place: bool,
) -> None:
    box.searcher.failure = failure
    client.post("/api/ask", json=QUESTION)
    (record,) = [one for one in caplog.records if one.name == "rag_app.web.refusal"]
    assert record.getMessage() == f"POST /api/ask: {line}"
    assert bool(record.exc_info) == place


def test_a_bug_is_ours_and_shows_no_traceback(client: TestClient, box: Box) -> None:
    box.searcher.failure = ZeroDivisionError("secret detail")
    response = client.post("/api/ask", json=QUESTION)
    assert response.status_code == 500
    assert response.json()["error"]["fault"] == "us"
    assert "secret detail" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


class TestWithAModelThatBreaksOff:
    """Degrading in the middle of a stream."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        return LanguageModelDouble(["Half an "], EngineFailed("It broke off."))

    def test_the_stream_says_so_and_starts_over(self, client: TestClient) -> None:
        events = named_events(client.post("/api/ask", json={**QUESTION, "stream": True}).text)
        names = [name for name, _ in events]
        assert names == ["passages", "token", "degraded", "token", "answer"]
        assert events[2][1] == {"reason": "It broke off."}
        assert events[-1][1]["degraded"] == "It broke off."
        assert events[3][1]["text"] == events[-1][1]["answer"]


class TestWithAModelThatHasABug:
    """An unforeseen error after the status was sent."""

    @pytest.fixture
    def model(self) -> LanguageModelDouble:
        class Broken(LanguageModelDouble):
            @property
            def failure(self) -> EngineFailed:  # type: ignore[override]
                raise ZeroDivisionError("secret detail")

            @failure.setter
            def failure(self, value: object) -> None:
                pass

        return Broken(["Half an "])

    def test_the_stream_ends_with_an_error_event(self, client: TestClient) -> None:
        text = client.post("/api/ask", json={**QUESTION, "stream": True}).text
        name, data = named_events(text)[-1]
        assert (name, data["error"]["reference"]) == ("error", "internal")
        assert "secret detail" not in text
