"""A double of the vector index: the engine's scores in plain Python, and faults on order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from rag_app.errors import VectorsUnavailable
from rag_app.interfaces import Hit, Hits, Point, Readiness, SparseVector


class VectorsDouble:
    """Both vector protocols over a dictionary. `fail_at(n)` makes the n-th write fail (from 1)."""

    def __init__(self) -> None:
        self.points: dict[int, Point] = {}
        self.index = "first"
        self.largest_batch = 0
        self.upserts = self.deletes = 0
        self._writes = 0
        self._failing: Callable[[int], bool] = lambda _write: False

    def fail_at(self, write: int) -> None:
        """Fail that write from now on, before it changes anything."""
        self._writes = 0
        self._failing = lambda number: number == write

    def lose_everything(self) -> None:
        """As an index that did not load and was built anew."""
        self.points.clear()
        self.index = "second"

    def ensure(self) -> str:
        return self.index

    def upsert(self, points: Sequence[Point]) -> None:
        self._count_write()
        self.upserts += 1
        self.largest_batch = max(self.largest_batch, len(points))
        self.points.update((point.id, point) for point in points)

    def delete(self, document_ids: list[str], keep: Sequence[int] = ()) -> None:
        self._count_write()
        self.deletes += 1
        kept = set(keep)
        for identity, point in list(self.points.items()):
            if point.document_id in document_ids and identity not in kept:
                del self.points[identity]

    def counts(self) -> Mapping[str, int]:
        counts: dict[str, int] = {}
        for point in self.points.values():
            counts[point.document_id] = counts.get(point.document_id, 0) + 1
        return counts

    def _count_write(self) -> None:
        self._writes += 1
        if self._failing(self._writes):
            raise VectorsUnavailable("the double fails on order")

    def best_sparse(self, query: SparseVector, limit: int) -> tuple[Hit, ...]:
        """BM25 with the IDF `ln(1 + (N - n + 0.5) / (n + 0.5))`."""
        held = {
            identity: dict(zip(point.sparse.indices, point.sparse.values, strict=True))
            for identity, point in self.points.items()
        }
        scores: dict[int, float] = {}
        for term, weight in zip(query.indices, query.values, strict=True):
            having = [identity for identity, terms in held.items() if term in terms]
            idf = math.log(1 + (len(held) - len(having) + 0.5) / (len(having) + 0.5))
            for identity in having:
                scores[identity] = scores.get(identity, 0) + weight * idf * held[identity][term]
        ranked = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
        return tuple(Hit(identity, score) for identity, score in ranked[:limit])

    def best_dense(self, query: Sequence[float], limit: int) -> tuple[Hit, ...]:
        """Cosine similarity."""
        hits = [
            Hit(identity, _cosine(query, point.dense))
            for identity, point in self.points.items()
            if point.dense
        ]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.id))[:limit])


class VectorReaderDouble:
    """The reading side of a `VectorsDouble`."""

    def __init__(self, vectors: VectorsDouble) -> None:
        self.vectors = vectors
        self.readiness = Readiness(True, "", 0, "first")

    async def search(
        self, sparse: SparseVector | None, dense: Sequence[float] | None, limit: int
    ) -> Hits:
        return Hits(
            self.vectors.best_sparse(sparse, limit) if sparse else (),
            self.vectors.best_dense(dense, limit) if dense else (),
        )

    async def delete(self, document_id: str) -> None:
        self.vectors.delete([document_id])

    async def count(self) -> int:
        return len(self.vectors.points)

    async def ready(self) -> Readiness:
        return self.readiness


def _cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))
