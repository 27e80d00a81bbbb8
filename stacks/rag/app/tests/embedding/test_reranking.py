"""The client of the reranking endpoint, against a server that the test serves itself."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from async_helpers import run
from loopback import serving
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rag_app.config import Rerank
from rag_app.errors import ConfigError, RerankFailed
from rag_app.reranking import MAX_CHARACTERS, RerankClient


class EndpointDouble:
    """Says of each text its length over 10, best first as vLLM does; or misbehaves."""

    def __init__(self, reply: Response | None = None, pause_s: float = 0.0) -> None:
        self.keys: list[str | None] = []
        self.bodies: list[dict[str, object]] = []
        self.reply = reply
        self.pause_s = pause_s

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        if request.headers.get("content-type") != "application/json":  # As vLLM does.
            return JSONResponse({"error": "Unsupported Media Type"}, 400)
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization"))
        await asyncio.sleep(self.pause_s)
        results = [
            {"index": index, "relevance_score": len(text) / 10, "document": {"text": text}}
            for index, text in enumerate(body["documents"])
        ]
        results.sort(key=lambda item: -item["relevance_score"])
        return self.reply or JSONResponse({"id": "r", "results": results})

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/rerank", self.__call__, methods=["POST"])])


def settings(url: str, **values: object) -> Rerank:
    return Rerank.model_validate(
        {"url": f"{url}/v1/", "model": "m", "candidates": 9, "timeout_s": 20, **values}
    )


def scores(endpoint: EndpointDouble, texts: list[str], **values: object) -> list[float]:
    async def asked(url: str) -> list[float]:
        client = RerankClient(settings(url, **values))
        try:
            return await client.scores("q", texts)
        finally:
            await client.close()

    with serving(endpoint.application()) as url:
        return run(asked(url))


def test_scores_come_in_the_order_of_the_texts_and_lie_within_0_and_1() -> None:
    endpoint = EndpointDouble()
    assert scores(endpoint, ["xx", "x" * 30, ""]) == [0.2, 1.0, 0.0]
    assert endpoint.bodies == [{"model": "m", "query": "q", "documents": ["xx", "x" * 30, ""]}]


def test_a_question_and_a_text_are_no_longer_than_the_model_reads() -> None:
    endpoint = EndpointDouble()
    scores(endpoint, ["x" * 100_000, "short"])
    (body,) = endpoint.bodies
    assert [len(text) for text in body["documents"]] == [MAX_CHARACTERS - len("q"), 5]  # type: ignore[attr-defined]


def test_the_key_comes_from_a_file_that_is_closed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123\n")
    key.chmod(0o600)
    endpoint = EndpointDouble()
    scores(endpoint, ["x"], api_key_file=key)
    scores(endpoint, ["x"])
    assert endpoint.keys == ["Bearer 0123", None]
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"rerank\.api_key_file"):
        RerankClient(settings("http://127.0.0.1:9", api_key_file=key))


def results(*pairs: tuple[object, object]) -> Response:
    items = [{"index": index, "relevance_score": score} for index, score in pairs]
    return JSONResponse({"results": items})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (JSONResponse({"error": "no"}, 503), "HTTP 503"),
        (PlainTextResponse("not json"), "malformed"),
        (PlainTextResponse("[]"), "malformed"),
        (JSONResponse({"results": [{"index": 0}]}), "malformed"),
        (results((0, "x"), (1, 1)), "malformed"),
        (results((0, 0.5)), "a score for every passage"),
        (results((0, 0.5), (2, 0.5)), "a score for every passage"),
        (PlainTextResponse('{"results": [{"index": 0, "relevance_score": NaN}]}'), "malformed"),
    ],
)
def test_a_misbehaving_endpoint_is_a_failure_in_words(reply: Response, reason: str) -> None:
    with pytest.raises(RerankFailed, match=reason):
        scores(EndpointDouble(reply), ["a", "b"])


def test_one_that_is_slow_is_not_waited_for() -> None:
    with pytest.raises(RerankFailed, match="in time"):
        scores(EndpointDouble(pause_s=3.0), ["a", "b"], timeout_s=0.5)


def test_no_endpoint_is_a_failure_in_words() -> None:
    with pytest.raises(RerankFailed, match="cannot be reached"):
        run(RerankClient(settings("http://127.0.0.1:9")).scores("q", ["a"]))
