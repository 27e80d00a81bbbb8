"""Admission and leaving, over a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from app_doubles import Box, LanguageModelDouble, make_box
from async_helpers import wait_until
from loopback import serving

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
    box = make_box(tmp_path, model=slow, server={"max_concurrent_answers": 1})
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
        assert response.status_code == 429
        assert response.headers["retry-after"] == "2"
        error = response.json()["error"]
        assert error["reference"] == "busy"
        assert error.get("type", "rate_limit_error") == "rate_limit_error"
        assert wait_until(lambda: slow.open == 0)
