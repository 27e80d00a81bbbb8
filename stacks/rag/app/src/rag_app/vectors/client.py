"""Reader and writer of the vector index, over the unix socket of `rag_app.vectors.service`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from rag_app.errors import VectorsUnavailable
from rag_app.interfaces import Hit, Hits, Point, Readiness, SparseVector
from rag_app.vectors.connections import Connections, to_socket
from rag_app.vectors.signature import SIGNATURE_HEADER

START_PATIENCE_S = 60.0
_POLL_S = 0.1
_WRITE_TIMEOUT_S = 120.0
_SEARCH_TIMEOUT_S = 5.0
_READY_TIMEOUT_S = 2.0
_CONNECTIONS = 16
# The host is not used: the socket decides who is spoken to.
_BASE = "http://vectors"


class VectorWriterClient:
    """`rag_app.interfaces.VectorWriter`; one thread at a time."""

    def __init__(
        self, path: Path, signature: str, *, start_patience_s: float = START_PATIENCE_S
    ) -> None:
        self._start_patience_s = start_patience_s
        self._client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path), retries=1),
            base_url=_BASE,
            headers={SIGNATURE_HEADER: signature},
            timeout=_WRITE_TIMEOUT_S,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ensure(self) -> str:
        """Wait until the index is open, at most `start_patience_s`; its name."""
        deadline = time.monotonic() + self._start_patience_s
        while True:
            readiness = self._readiness()
            if readiness.ready:
                self.count()  # Refused when the index of another release is served.
                return readiness.index
            if time.monotonic() > deadline:
                raise VectorsUnavailable(readiness.reason)
            time.sleep(_POLL_S)

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert or replace points, durably."""
        self._call("/upsert", [_point(point) for point in points])

    def delete(self, document_ids: list[str], keep: Sequence[int] = ()) -> None:
        """Delete the points of these documents but those in `keep`, durably."""
        self._call("/delete", {"documents": document_ids, "keep": list(keep)})

    def counts(self) -> Mapping[str, int]:
        """Number of points of each document that has any."""
        counts: dict[str, int] = self._call("/counts")
        return counts

    def count(self) -> int:
        """Number of points."""
        return int(self._call("/count"))

    def _readiness(self) -> Readiness:
        try:
            return _ready(self._client.get("/readyz", timeout=_READY_TIMEOUT_S).content)
        except httpx.HTTPError as error:
            return _unreachable(error)

    def _call(self, path: str, body: Any = None) -> Any:
        method = "GET" if body is None else "POST"
        content = None if body is None else orjson.dumps(body)
        try:
            response = self._client.request(method, path, content=content)
        except httpx.HTTPError as error:
            raise VectorsUnavailable(_unreachable(error).reason) from error
        return _result(response.status_code, response.content)


class VectorReaderClient:
    """`rag_app.interfaces.VectorReader`; for one event loop."""

    def __init__(self, path: Path, signature: str) -> None:
        headers = {"host": "vectors", SIGNATURE_HEADER: signature}
        self._connections = Connections(to_socket(path), headers, _CONNECTIONS)

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.close()

    async def search(
        self, sparse: SparseVector | None, dense: Sequence[float] | None, limit: int
    ) -> Hits:
        """The best `limit` points of each lane that is asked."""
        wanted = [sparse.indices, sparse.values] if sparse else None
        found = await self._call("/search", {"sparse": wanted, "dense": dense, "limit": limit})
        return Hits(_hits(found["sparse"]), _hits(found["dense"]))

    async def delete(self, document_id: str) -> None:
        """Delete all points of a document."""
        await self._call("/delete", {"documents": [document_id], "keep": []})

    async def count(self) -> int:
        """Number of points."""
        return int(await self._call("/count"))

    async def ready(self) -> Readiness:
        """Whether a search could be answered now; never raises."""
        try:
            _, body = await self._connections.exchange("/readyz", None, _READY_TIMEOUT_S)
        except (OSError, EOFError) as error:
            return _unreachable(error)
        return _ready(body)

    async def _call(self, path: str, body: Any = None) -> Any:
        content = None if body is None else orjson.dumps(body)
        try:
            status, answer = await self._connections.exchange(path, content, _SEARCH_TIMEOUT_S)
        except (OSError, EOFError) as error:
            raise VectorsUnavailable(_unreachable(error).reason) from error
        return _result(status, answer)


def _point(point: Point) -> list[Any]:
    sparse = point.sparse
    return [point.id, point.document_id, sparse.indices, sparse.values, point.dense]


def _hits(found: Sequence[Sequence[Any]]) -> tuple[Hit, ...]:
    return tuple(Hit(identity, score) for identity, score in found)


def _result(status: int, answer: bytes) -> Any:
    body = orjson.loads(answer)
    if status != httpx.codes.OK:
        raise VectorsUnavailable(str(body["error"]))
    return body


def _ready(answer: bytes) -> Readiness:
    body = orjson.loads(answer)
    return Readiness(body["ready"], body["reason"], body.get("pending", 0), body["index"])


def _unreachable(error: Exception) -> Readiness:
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return Readiness(False, "the search index does not answer in time")
    return Readiness(False, "the search index cannot be reached")
