"""Prometheus metrics of the web process; one registry per application."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag_app.engines.openai import Usage
from rag_app.model import Answer, Document, DocumentState

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_OTHER = "other"


class Metrics:
    """What is counted. Labels hold routes, never paths: a path would make a series per visitor."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "rag_requests", "Requests by route, method and status", ("route", "method", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "rag_request_seconds", "Seconds from request to the end of the response", ("route",),
            buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.answers = Counter(
            "rag_answers", "Answers by engine, and whether grounded and degraded",
            ("engine", "grounded", "degraded"), registry=self.registry,
        )  # fmt: skip
        self.routes = Counter(
            "rag_routed_answers", "Answers by engine, and why this one wrote them",
            ("engine", "reason"), registry=self.registry,
        )  # fmt: skip
        self.first_piece = Histogram(
            "rag_answer_first_piece_seconds", "Seconds from question to the first piece of answer",
            ("engine",), buckets=_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self.tokens = Counter(
            "rag_tokens", "Tokens as the engine counted them: of its prompts, of its answers",
            ("kind",), registry=self.registry,
        )  # fmt: skip
        self.counted = Counter(
            "rag_answers_counted", "Answers whose engine counted its tokens", registry=self.registry
        )
        self._started = time.monotonic()
        self.running = Gauge(
            "rag_answers_running", "Answers being written now", registry=self.registry
        )
        self.waiting = Gauge(
            "rag_questions_waiting", "Questions that wait for their turn", registry=self.registry
        )
        self.documents = Gauge(
            "rag_documents", "Documents by state", ("state",), registry=self.registry
        )
        self.passages = Gauge("rag_passages", "Passages that can be found", registry=self.registry)

    def answered(self, answer: Answer, usage: Usage | None = None) -> None:
        """Count one finished answer; `usage` only if its engine counted tokens."""
        self.answers.labels(
            answer.engine, str(answer.grounded).lower(), str(bool(answer.degraded)).lower()
        ).inc()
        if answer.route:
            self.routes.labels(answer.engine, answer.route).inc()
        if first := answer.timings.get("first_piece_ms"):
            self.first_piece.labels(answer.engine).observe(first / 1000)
        if usage:
            self.counted.inc()
            self.tokens.labels("prompt").inc(usage.prompt_tokens)
            self.tokens.labels("completion").inc(usage.completion_tokens)

    def usage(self) -> dict[str, object]:
        """What was counted since the start: `seconds` long, answers and their tokens in sums.

        `engines` and `routes` are how many answers each engine wrote, and for which reason it
        and no other; tokens are those of the answers that were given.
        """
        return {
            "seconds": round(time.monotonic() - self._started, 1),
            "answers": _sum(self.answers),
            "counted": _sum(self.counted),
            "prompt_tokens": _sum(self.tokens, "prompt"),
            "completion_tokens": _sum(self.tokens, "completion"),
            "engines": _by(self.answers, "engine"),
            "routes": _by(self.routes, "reason"),
        }

    def exposition(
        self, documents: Iterable[Document], passages: int | None, running: int, waiting: int
    ) -> bytes:
        """The text that Prometheus reads; `passages` None leaves the last known number."""
        tally = Tally(document.state for document in documents)
        for state in DocumentState:
            self.documents.labels(state.value).set(tally[state])
        if passages is not None:
            self.passages.set(passages)
        self.running.set(running)
        self.waiting.set(waiting)
        return generate_latest(self.registry)


def _sum(counter: Counter, kind: str | None = None) -> int:
    """The sum over all labels, or over those of a kind."""
    samples = [sample for family in counter.collect() for sample in family.samples]
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name.endswith("_total") and kind in (None, sample.labels.get("kind"))
        )
    )


def _by(counter: Counter, label: str) -> dict[str, int]:
    """The sums over all other labels."""
    found: Tally[str] = Tally()
    for family in counter.collect():
        for sample in family.samples:
            if sample.name.endswith("_total"):
                found[sample.labels[label]] += int(sample.value)
    return dict(sorted(found.items()))


class MeasureRequests:
    """Pure ASGI middleware: counts requests and their time, by the route that served them."""

    def __init__(self, app: ASGIApp, metrics: Metrics, routes: Mapping[Any, str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 499  # As nginx says it: the client left before there was a status.

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            # Starlette's router leaves the endpoint that it chose in the scope.
            route = self._routes.get(scope.get("endpoint"), _OTHER)
            self._metrics.requests.labels(route, _method(scope), str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - started)


def _method(scope: Scope) -> str:
    method: str = scope["method"]
    return method if method in {"GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"} else _OTHER
