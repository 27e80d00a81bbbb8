"""Client of an OpenAI-compatible `/v1/embeddings` endpoint, for the dense lane."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import orjson

from rag_app.config import Embedding
from rag_app.errors import EmbeddingFailed
from rag_app.key_file import read_key

BATCH = 64
MAX_CHARACTERS = 8000
"""Of a text, what is beyond is left out: an endpoint refuses what is longer than its model reads
(8192 tokens for bge-m3, which makes no more than one of a character), and a document with an
endless heading would be tried for ever."""
_INGEST_TIMEOUT_S = 120.0
_QUESTION_TIMEOUT_S = 5.0


class EmbeddingClient:
    """Vectors of texts; `config.url` ends before `/embeddings`. Raises `EmbeddingFailed`.

    Making one raises `ConfigError` for a key file that others can read.
    """

    def __init__(self, config: Embedding) -> None:
        self._config = config
        self._url = f"{config.url.rstrip('/')}/embeddings"
        # No proxy out of the environment: what rag.toml says is all that counts.
        headers = _headers(config)
        self._async = httpx.AsyncClient(
            timeout=_QUESTION_TIMEOUT_S, trust_env=False, headers=headers
        )
        self._sync = httpx.Client(timeout=_INGEST_TIMEOUT_S, trust_env=False, headers=headers)

    def passages(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """One vector of `config.dimension` numbers for each text, in batches of `BATCH`."""
        vectors: list[tuple[float, ...]] = []
        for first in range(0, len(texts), BATCH):
            batch = texts[first : first + BATCH]
            try:
                response = self._sync.post(self._url, content=self._body(batch))
            except httpx.HTTPError as error:
                raise EmbeddingFailed("the embedding model cannot be reached") from error
            vectors.extend(self._vectors(response, len(batch)))
        return vectors

    async def question(self, text: str) -> tuple[float, ...]:
        """The vector of a question."""
        try:
            response = await self._async.post(self._url, content=self._body([text]))
        except httpx.HTTPError as error:
            raise EmbeddingFailed("the embedding model cannot be reached") from error
        return self._vectors(response, 1)[0]

    @property
    def similarity(self) -> tuple[float, float]:
        """Cosine similarities that are no evidence and full evidence."""
        return self._config.similarity_floor, self._config.similarity_ceiling

    async def close(self) -> None:
        """Close the connections."""
        self._sync.close()
        await self._async.aclose()

    def _body(self, texts: Sequence[str]) -> bytes:
        read = [text[:MAX_CHARACTERS] for text in texts]
        return orjson.dumps({"model": self._config.model, "input": read})

    def _vectors(self, response: httpx.Response, number: int) -> list[tuple[float, ...]]:
        if response.status_code != httpx.codes.OK:
            raise EmbeddingFailed(f"the embedding model refused with HTTP {response.status_code}")
        try:
            data: list[dict[str, Any]] = orjson.loads(response.content)["data"]
            ordered = sorted(data, key=lambda item: int(item.get("index", 0)))
            vectors = [tuple(float(value) for value in item["embedding"]) for item in ordered]
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise EmbeddingFailed("the embedding model sent something malformed") from error
        if [len(vector) for vector in vectors] != [self._config.dimension] * number:
            raise EmbeddingFailed(
                f"the embedding model did not send {number} vectors of {self._config.dimension}"
            )
        return vectors


def _headers(config: Embedding) -> dict[str, str]:
    # vLLM refuses a body whose type is not said.
    headers = {"content-type": "application/json"}
    if config.api_key_file is not None:
        key = read_key(config.api_key_file, "embedding.api_key_file")
        headers["authorization"] = f"Bearer {key}"
    return headers
