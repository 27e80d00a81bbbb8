"""Reader and writer of a vector index in a Qdrant server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from rag_app.config import Vectors
from rag_app.errors import VectorsUnavailable
from rag_app.interfaces import Hits, Point, Readiness, SparseVector
from rag_app.vectors.qdrant import wire
from rag_app.vectors.qdrant.transport import AsyncTransport, SyncTransport
from rag_app.vectors.qdrant.wire import Call, CollectionMissing, CollectionState
from rag_app.vectors.signature import KEPT_SIGNATURES

# The worker asks again anyway, and looks in between whether it was told to stop.
_WRITE_DEADLINE_S = 3.0
_WRITE_TIMEOUT_S = 120.0
_READY_DEADLINE_S = 2.0


class QdrantWriter:
    """`rag_app.interfaces.VectorWriter`; one thread at a time. `dimension` 0: no dense vectors."""

    def __init__(self, config: Vectors, signature: str, dimension: int) -> None:
        self._name = wire.collection_name(signature)
        self._dimension = dimension
        self._transport = SyncTransport(config, _WRITE_DEADLINE_S, _WRITE_TIMEOUT_S)
        self._opened = ""

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def ensure(self) -> str:
        """Make the collection exist as it has to be; the name of the index in it."""
        self._transport.ask(wire.VERSION, wire.check_version)
        state = self._state() or self._create()
        if not state.documents_indexed:
            self._transport.ask(wire.index_documents(self._name))
        if state.index != self._opened:
            self._transport.ask(wire.mark_used(self._name, int(time.time())))
            self._prune()
            self._opened = state.index
        return state.index

    def upsert(self, points: Sequence[Point]) -> None:
        """Insert or replace points, durably."""
        for call in wire.upserts(self._name, points):
            self._ask(call)

    def delete(self, document_ids: list[str], keep: Sequence[int] = ()) -> None:
        """Delete the points of these documents but those in `keep`, durably."""
        if document_ids:
            self._ask(wire.delete(self._name, document_ids, keep))

    def counts(self) -> Mapping[str, int]:
        """Number of points of each document that has any."""
        return wire.read_counts(self._ask(wire.facet(self._name)))

    def count(self) -> int:
        """Number of points."""
        return int(self._ask(wire.count(self._name))["count"])

    def _ask(self, call: Call) -> Any:
        """Ask; a collection that somebody removed is made again first, under a new index name."""
        try:
            return self._transport.ask(call)
        except CollectionMissing:
            self.ensure()
            return self._transport.ask(call)

    def _state(self) -> CollectionState | None:
        try:
            described = self._transport.ask(wire.describe(self._name))
        except CollectionMissing:
            return None
        return wire.read_state(self._name, described, self._dimension)

    def _create(self) -> CollectionState:
        """Make the collection; whoever else made it in the same moment is as good."""
        try:
            self._transport.ask(wire.create(self._name, self._dimension, uuid.uuid4().hex[:16]))
        except VectorsUnavailable:
            if (state := self._state()) is None:
                raise
            return state
        state = self._state()
        if state is None:
            raise VectorsUnavailable("Qdrant does not know the collection that it has just made")
        return state

    def _prune(self) -> None:
        """Remove the collections of other signatures but the last used ones."""
        used = {name: self._last_used(name) for name in self._others()}
        newest_first = sorted(used, key=lambda name: used[name], reverse=True)
        for name in newest_first[KEPT_SIGNATURES - 1 :]:
            self._transport.ask(wire.drop(name))

    def _others(self) -> list[str]:
        listed = wire.own_collections(self._transport.ask(wire.COLLECTIONS))
        return [name for name in listed if name != self._name]

    def _last_used(self, name: str) -> int:
        return wire.read_used(self._transport.ask(wire.describe(name)))


class QdrantReader:
    """`rag_app.interfaces.VectorReader`; for one event loop. `dimension` as for the writer."""

    def __init__(self, config: Vectors, signature: str, dimension: int) -> None:
        self._name = wire.collection_name(signature)
        self._dimension = dimension
        self._timeout_s = config.timeout_s
        self._transport = AsyncTransport(config, config.timeout_s)
        self._looking = AsyncTransport(config, min(config.timeout_s, _READY_DEADLINE_S))

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()
        await self._looking.close()

    async def search(
        self, sparse: SparseVector | None, dense: Sequence[float] | None, limit: int
    ) -> Hits:
        """The best `limit` points of each lane that is asked."""
        if not sparse and not dense:
            return Hits()
        call = wire.search(self._name, sparse, dense, limit, self._timeout_s)
        return wire.read_hits(await self._transport.ask(call), bool(sparse), bool(dense))

    async def delete(self, document_id: str) -> None:
        """Delete all points of a document."""
        await self._transport.ask(wire.delete(self._name, [document_id], ()))

    async def count(self) -> int:
        """Number of points."""
        return int((await self._transport.ask(wire.count(self._name)))["count"])

    async def ready(self) -> Readiness:
        """Whether a search could be answered now; never raises."""
        try:
            await self._looking.ask(wire.VERSION, wire.check_version)
            described: Any = await self._looking.ask(wire.describe(self._name))
            state = wire.read_state(self._name, described, self._dimension)
        except VectorsUnavailable as error:
            return Readiness(False, str(error))
        if state.failed:
            return Readiness(False, f"the collection {self._name} is damaged, says Qdrant")
        return Readiness(True, index=state.index)
