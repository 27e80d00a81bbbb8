"""The vector engine itself, for one process and one thread; nothing else imports it.

Run as `python -m rag_app.vectors.engine FOLDER SIGNATURE DIMENSION`, it opens the index and then
answers frames (`rag_app.vectors.frames`) on its standard input until that ends. Every write is
on disk before it is answered. `python -m rag_app.vectors.engine --optimise SHARD DIMENSION`
optimises a shard that nobody uses, and ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from rag_app.vectors import frames
from rag_app.vectors.folder import IndexFolder, IndexState
from rag_app.vectors.signature import KEPT_SIGNATURES

SPARSE = "bm25"
DENSE = "dense"
DOCUMENT = "document"
# A killed predecessor lets go of its files within moments.
_LOCK_PATIENCE_S = 10.0
_MOST_DOCUMENTS = 10_000_000

Json = Any


class EdgeIndex:
    """An open shard. `dimension` 0 means that there are no dense vectors."""

    def __init__(self, shard: edge.EdgeShard) -> None:
        self._shard = shard

    @classmethod
    def create(cls, path: Path, dimension: int) -> EdgeIndex:
        """Make an empty shard in a folder that does not exist yet."""
        path.mkdir(parents=True)
        shard = edge.EdgeShard.create(str(path), _config(dimension))
        keyword = edge.PayloadSchemaType.Keyword
        shard.update(edge.UpdateOperation.create_field_index(DOCUMENT, keyword))
        shard.flush()
        return cls(shard)

    @classmethod
    def load(cls, path: Path, dimension: int) -> EdgeIndex:
        """Open a shard; raises whatever the engine raises when it cannot."""
        return cls(edge.EdgeShard.load(str(path), _config(dimension)))

    def upsert(self, points: Sequence[Sequence[Json]]) -> None:
        """Insert or replace `[id, document, indices, values, dense or None]`, durably."""
        self._write(edge.UpdateOperation.upsert_points([_point(*point) for point in points]))

    def delete(self, documents: Sequence[str], keep: Sequence[int]) -> None:
        """Delete the points of these documents but those in `keep`, durably."""
        of_these = edge.FieldCondition(DOCUMENT, match=edge.MatchAny(list(documents)))
        chosen = edge.Filter(must=[of_these], must_not=[edge.HasIdCondition(set(keep))])
        self._write(edge.UpdateOperation.delete_points_by_filter(chosen))

    def search(self, sparse: Json, dense: Json, limit: int) -> dict[str, list[tuple[int, float]]]:
        """Ranked `(id, score)` of each lane that is asked."""
        found: dict[str, list[tuple[int, float]]] = {"sparse": [], "dense": []}
        if sparse:
            found["sparse"] = self._nearest(edge.SparseVector(*sparse), SPARSE, limit)
        if dense:
            found["dense"] = self._nearest(dense, DENSE, limit)
        return found

    def counts(self) -> dict[str, int]:
        """Number of points of each document."""
        request = edge.FacetRequest(DOCUMENT, limit=_MOST_DOCUMENTS, exact=True)
        # The engine goes on naming documents whose points were all deleted.
        hits = self._shard.facet(request).hits
        return {str(hit.value): hit.count for hit in hits if hit.count}

    def count(self) -> int:
        """Number of points."""
        return int(self._shard.count(edge.CountRequest(exact=True)))

    def optimise(self) -> None:
        """Rebuild the segments for searching; holds the interpreter for seconds to minutes."""
        self._shard.optimize()
        self._shard.flush()

    def close(self) -> None:
        """Let go of the files."""
        self._shard.close()

    def _write(self, operation: edge.UpdateOperation) -> None:
        self._shard.update(operation)
        self._shard.flush()

    def _nearest(self, vector: Json, lane: str, limit: int) -> list[tuple[int, float]]:
        query = edge.Query.Nearest(vector, using=lane)
        hits = self._shard.query(edge.QueryRequest(limit=limit, query=query))
        return [(int(hit.id), hit.score) for hit in hits]


def open_index(folder: IndexFolder, dimension: int) -> tuple[EdgeIndex, IndexState]:
    """The index of a folder; an empty one under a new name when there is none that loads."""
    state = folder.state()
    if state is not None:
        try:
            index = _load_patiently(folder.shard(state), dimension)
        except BaseException as error:  # A panic of the engine is not an `Exception`.
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            _say(
                f"the index does not load ({error}); moved to {folder.move_aside()}, building anew"
            )
        else:
            folder.sweep(state)
            return index, state
    elif any(folder.path.iterdir()):
        _say(f"the index is incomplete; moved to {folder.move_aside()}, building anew")
    state = folder.new_state()
    index = EdgeIndex.create(folder.shard(state), dimension)
    folder.commit(state)
    return index, state


def serve(index: EdgeIndex, state: IndexState) -> None:
    """Answer frames until the input ends."""
    # The engine may print; what is on descriptor 1 from here on must not mix with the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: dict[str, Callable[..., Json]] = {
        "upsert": index.upsert,
        "delete": index.delete,
        "search": index.search,
        "counts": index.counts,
        "count": index.count,
    }
    frames.write(answers, {"result": asdict(state)})
    while (request := frames.read(sys.stdin.buffer)) is not None:
        try:
            reply = {"result": calls[request["call"]](*request["arguments"])}
        except Exception as error:  # The caller gets every refusal.
            reply = {"error": str(error) or type(error).__name__}
        frames.write(answers, reply)
    index.close()


def main(arguments: Sequence[str]) -> None:
    """Entry point of the process; see the top of this file."""
    _die_with_parent()
    if arguments[0] == "--optimise":
        index = EdgeIndex.load(Path(arguments[1]), int(arguments[2]))
        index.optimise()
        index.close()
        return
    root, signature, dimension = arguments
    folder = IndexFolder(Path(root), signature)
    folder.prune(KEPT_SIGNATURES)
    serve(*open_index(folder, int(dimension)))


def _config(dimension: int) -> edge.EdgeConfig:
    sparse = {SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)}
    if not dimension:
        return edge.EdgeConfig(sparse_vectors=sparse)
    dense = {DENSE: edge.EdgeVectorParams(size=dimension, distance=edge.Distance.Cosine)}
    return edge.EdgeConfig(vectors=dense, sparse_vectors=sparse)


def _point(
    identity: int, document: str, indices: list[int], values: list[float], dense: Json
) -> edge.Point:
    vectors: dict[str, Json] = {SPARSE: edge.SparseVector(indices, values)}
    if dense:
        vectors[DENSE] = dense
    return edge.Point(identity, vectors, {DOCUMENT: document})


def _load_patiently(path: Path, dimension: int) -> EdgeIndex:
    deadline = time.monotonic() + _LOCK_PATIENCE_S
    while True:
        try:
            return EdgeIndex.load(path, dimension)
        except Exception as error:
            if "WouldBlock" not in str(error) or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def _die_with_parent() -> None:
    """Where the system can: never outlive the process that serves, and keep the files locked."""
    if sys.platform == "linux":
        parent_death_signal = 1
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def _say(message: str) -> None:
    sys.stderr.write(f"vectors: {message}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
