"""Client of a `/rerank` endpoint, as vLLM and Jina have it: how well passages answer a question."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import httpx
import orjson

from rag_app.config import Rerank
from rag_app.errors import RerankFailed
from rag_app.key_file import read_key

MAX_CHARACTERS = 8000
"""Of a question and a text together; of the text, what is beyond is left out. An endpoint refuses
all texts where one is longer than its model reads."""
# A part of the box is connected at once or not at all.
_CONNECT_TIMEOUT_S = 1.0


class RerankClient:
    """Scores of texts; for one event loop. Making one raises `ConfigError` for an open key file."""

    def __init__(self, config: Rerank) -> None:
        self._config = config
        self._url = f"{config.url.rstrip('/')}/rerank"
        self._client = httpx.AsyncClient(
            headers=_headers(config),
            timeout=httpx.Timeout(
                config.timeout_s, connect=min(_CONNECT_TIMEOUT_S, config.timeout_s)
            ),
            # No proxy out of the environment: what rag.toml says is all that counts.
            trust_env=False,
        )

    @property
    def candidates(self) -> int:
        """How many texts to give it for one question."""
        return self._config.candidates

    async def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        """A number in 0..1 for each text, in their order; raises `RerankFailed`."""
        left = max(0, MAX_CHARACTERS - len(question))
        read = [text[:left] for text in texts]
        body = {"model": self._config.model, "query": question, "documents": read}
        try:
            response = await self._client.post(self._url, content=orjson.dumps(body))
        except httpx.TimeoutException as error:
            raise RerankFailed("The reranking model did not answer in time.") from error
        except httpx.HTTPError as error:
            raise RerankFailed("The reranking model cannot be reached.") from error
        if response.status_code != httpx.codes.OK:
            raise RerankFailed(f"The reranking model refused with HTTP {response.status_code}.")
        return _scores(response.content, len(texts))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _scores(content: bytes, number: int) -> list[float]:
    try:
        found = {
            int(item["index"]): float(item["relevance_score"])
            for item in orjson.loads(content)["results"]
        }
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise RerankFailed("The reranking model sent something malformed.") from error
    if set(found) != set(range(number)) or not all(map(isfinite, found.values())):
        raise RerankFailed("The reranking model did not send a score for every passage.")
    return [min(1.0, max(0.0, found[index])) for index in range(number)]


def _headers(config: Rerank) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if config.api_key_file is not None:
        key = read_key(config.api_key_file, "rerank.api_key_file")
        headers["authorization"] = f"Bearer {key}"
    return headers
