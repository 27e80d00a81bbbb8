"""Admission and leaving, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from app_doubles import Box, LanguageModelDouble, make_box
from async_helpers import wait_until
from events import named_events
from loopback import serving

from rag_app.errors import EngineBusy
from rag_app.web.app import build

BODIES = [
    ("/api/ask", {"question": "roll back", "stream": True}),
    ("/api/ask", {"question": "roll back"}),
    (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "roll back"}], "stream": True},
    ),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "roll back"}]}),
]


@pytest.fixture
def slow() -> LanguageModelDouble:
    """A model that would talk for an hour."""
    return LanguageModelDouble(["word "] * 3600, pause_s=1.0)


@pytest.fixture
def box(tmp_path: Path, slow: LanguageModelDouble) -> Box:
    limits = {"max_concurrent_answers": 1, "max_waiting_questions": 1, "max_wait_s": 0.3}
    box = make_box(tmp_path, model=slow, server=limits)
    box.library.hold("manual.md", "Type aibox rollback to roll back.")
    return box


@pytest.fixture
def url(box: Box) -> Iterator[str]:
    with serving(build(box.services)) as url:
        yield url


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_a_client_that_leaves_ends_the_model(
    url: str, box: Box, slow: LanguageModelDouble, path: str, body: dict[str, object]
) -> None:
    # The model is silent for longer than this client waits for the next byte.
    with httpx.Client(trust_env=False, timeout=0.3) as client, pytest.raises(httpx.ReadTimeout):
        client.post(url + path, json=body)
    assert wait_until(lambda: slow.open == 0)
    assert len(slow.histories) == 1
    assert wait_until(lambda: box.services.admission.running == 0)


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_over_the_limit_the_box_says_when_to_come_back(
    url: str, slow: LanguageModelDouble, path: str, body: dict[str, object]
) -> None:
    with httpx.Client(trust_env=False) as client:
        with client.stream("POST", f"{url}/api/ask", json=BODIES[0][1]):
            assert wait_until(lambda: slow.open == 1)
            response = client.post(url + path, json=body)
        assert response.status_code == 503
        error = response.json()["error"]
        assert error["reference"] == "busy"
        assert error["retry_after_s"] == int(response.headers["retry-after"]) > 0
        assert error.get("type", "server_error") == "server_error"
        assert wait_until(lambda: slow.open == 0)


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_who_leaves_the_queue_leaves_it_to_others(
    url: str, box: Box, slow: LanguageModelDouble, path: str, body: dict[str, object]
) -> None:
    box.services.admission._wait_s = 60.0
    with httpx.Client(trust_env=False, timeout=0.3) as client:
        with client.stream("POST", f"{url}/api/ask", json=BODIES[0][1]):
            assert wait_until(lambda: slow.open == 1)
            with pytest.raises(httpx.ReadTimeout):
                client.post(url + path, json=body)
            assert wait_until(lambda: box.services.admission.waiting == 0)
        assert wait_until(lambda: box.services.admission.running == 0)


@pytest.mark.parametrize(("path", "body"), BODIES)
def test_an_engine_that_is_full_is_told_on_before_a_word_is_written(
    tmp_path: Path, path: str, body: dict[str, object]
) -> None:
    full = LanguageModelDouble([], EngineBusy("It is full.", 7))
    box = make_box(tmp_path, model=full)
    box.library.hold("manual.md", "Type aibox rollback to roll back.")
    with serving(build(box.services)) as url, httpx.Client(trust_env=False) as client:
        response = client.post(url + path, json=body)
    if path == "/api/ask" and body.get("stream"):
        # What was found is shown at once; the stream itself says then when to come back.
        assert response.status_code == 200
        (name, told) = named_events(response.text)[-1]
        assert (name, told["error"]["reference"]) == ("error", "busy")
        assert told["error"]["retry_after_s"] == 7
    else:
        assert (response.status_code, response.headers["retry-after"]) == (503, "7")
        assert response.json()["error"]["message"] == "It is full."
