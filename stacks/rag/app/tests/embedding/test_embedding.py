"""The client of the embedding endpoint, against a server that the test serves itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from async_helpers import run
from loopback import serving
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from rag_app.config import Embedding
from rag_app.embedding import BATCH, MAX_CHARACTERS, EmbeddingClient
from rag_app.errors import ConfigError, EmbeddingFailed


def client(url: str, dimension: int = 2) -> EmbeddingClient:
    return EmbeddingClient(Embedding(url=f"{url}/v1/", model="m", dimension=dimension))


class EndpointDouble:
    """Embeds a text as its length and 1, in reverse order; or misbehaves."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.keys: list[str | None] = []
        self.reply: Response | None = None

    async def __call__(self, request: Request) -> Response:
        body = await request.json()
        if request.headers.get("content-type") != "application/json":  # As vLLM does.
            return JSONResponse({"error": "Unsupported Media Type"}, 400)
        self.keys.append(request.headers.get("authorization"))
        assert body["model"] == "m"
        self.batches.append(len(body["input"]))
        data = [
            {"index": index, "embedding": [len(text), 1]}
            for index, text in enumerate(body["input"])
        ]
        return self.reply or JSONResponse({"data": data[::-1]})

    def application(self) -> Starlette:
        return Starlette(routes=[Route("/v1/embeddings", self.__call__, methods=["POST"])])


def test_passages_are_embedded_in_batches_and_in_their_order() -> None:
    endpoint = EndpointDouble()
    texts = ["x" * length for length in range(BATCH + 3)]
    with serving(endpoint.application()) as url:
        vectors = client(url).passages(texts)
    assert vectors == [(float(length), 1.0) for length in range(BATCH + 3)]
    assert endpoint.batches == [BATCH, 3]


def test_no_text_is_longer_than_the_model_reads() -> None:
    with serving(EndpointDouble().application()) as url:
        (vector,) = client(url).passages(["x" * 100_000])
    assert vector == (float(MAX_CHARACTERS), 1.0)


def test_a_question_is_one_vector() -> None:
    with serving(EndpointDouble().application()) as url:
        assert run(client(url).question("four")) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (JSONResponse({"error": "no"}, 500), "HTTP 500"),
        (PlainTextResponse("not json"), "malformed"),
        (JSONResponse({"data": [{"embedding": ["x", 1]}]}), "malformed"),
        (JSONResponse({"data": []}), "did not send 1 vectors"),
        (JSONResponse({"data": [{"embedding": [1, 2, 3]}]}), "did not send 1 vectors of 2"),
    ],
)
def test_a_misbehaving_endpoint_is_a_failure_in_words(reply: Response, reason: str) -> None:
    endpoint = EndpointDouble()
    endpoint.reply = reply
    with serving(endpoint.application()) as url, pytest.raises(EmbeddingFailed, match=reason):
        client(url).passages(["text"])


def test_the_key_comes_from_a_file_that_is_closed(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123\n")
    key.chmod(0o600)
    endpoint = EndpointDouble()
    with serving(endpoint.application()) as url:
        config = Embedding(url=f"{url}/v1", model="m", dimension=2, api_key_file=key)
        both = EmbeddingClient(config)
        both.passages(["text"])
        run(both.question("text"))
        client(url).passages(["text"])
    assert endpoint.keys == ["Bearer 0123", "Bearer 0123", None]
    key.chmod(0o644)
    with pytest.raises(ConfigError, match=r"embedding\.api_key_file"):
        EmbeddingClient(config)


def test_no_endpoint_is_a_failure_in_words() -> None:
    nobody = client("http://127.0.0.1:9")
    with pytest.raises(EmbeddingFailed, match="cannot be reached"):
        nobody.passages(["text"])
    with pytest.raises(EmbeddingFailed, match="cannot be reached"):
        run(nobody.question("text"))


def test_similarities_that_are_no_evidence_lie_below_those_that_are() -> None:
    with pytest.raises(ValidationError, match="similarity_floor must be below"):
        Embedding(url="u", model="m", dimension=1, similarity_floor=0.8, similarity_ceiling=0.8)
