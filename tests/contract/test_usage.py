"""What the application counts is what `aibox tco` reads, over HTTP and by the same names."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from aibox.assistant import Assistant
from aibox.errors import Failed
from aibox.tco import measured
from rag_app.engines.openai import Usage
from rag_app.model import Answer
from rag_app.web.metrics import Metrics

ANSWER = Answer("It is.", True, (), "vllm", "r1", "en")


@contextmanager
def serving(status: int, body: Callable[[], object]) -> Iterator[Assistant]:
    """A double of the web process that knows one address."""

    class Double(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/api/usage"
            content = json.dumps(body()).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Double) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Assistant(server.server_port)
        server.shutdown()


def test_the_counts_of_the_application_are_understood() -> None:
    metrics = Metrics()
    with serving(200, metrics.usage) as box:
        assert "answered nothing since it started" in measured.read(box.usage()).reasons[0]
        metrics.answered(ANSWER, Usage(1000, 200))
        metrics.answered(ANSWER, Usage(2000, 400))
        metrics.answered(ANSWER)
        found = measured.read(box.usage())
    assert (found.answers, found.tokens_in, found.tokens_out) == (3, 1500, 300)
    assert found.requests_per_day is None


def test_a_release_that_does_not_count_is_told_from_one_that_counted_nothing() -> None:
    with serving(404, dict) as box, pytest.raises(Failed) as refused:
        box.usage()
    assert refused.value.reference == "usage-not-counted"


def test_whatever_else_answers_is_not_a_box() -> None:
    with serving(200, list) as box, pytest.raises(Failed) as refused:
        box.usage()
    assert refused.value.reference == "not-a-box"
