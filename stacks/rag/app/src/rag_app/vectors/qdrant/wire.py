"""What is said to a Qdrant server, and what its answers mean; pure.

Source of the forms: the server's own OpenAPI description, from version 1.19 on.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import orjson

from rag_app.errors import (
    VectorsCollectionUnfit,
    VectorsKeyRefused,
    VectorsUnavailable,
    VectorsUnreachable,
    VectorsVersionUnfit,
)
from rag_app.interfaces import Hit, Hits, Point, SparseVector

SPARSE = "bm25"
DENSE = "dense"
DOCUMENT = "document"
# Kept in the collection's metadata: the name of the index, and when a writer opened it last.
INDEX_KEY = "rag_index"
USED_KEY = "rag_used"
# Before 1.19.0: requests without a key that the server did not refuse, paths out of its folders.
VERSION_MIN = (1, 19)
VERSION_BELOW = (2, 0)
# A third of what the server takes at once as it is delivered (32 MB).
MOST_BYTES = 10_000_000
_MOST_DOCUMENTS = 10_000_000
_MOST_REASON = 200
_PREFIX = "aibox-rag-"
_NAME = re.compile(rf"{_PREFIX}[0-9a-f]{{16}}")
_TRY_AGAIN = frozenset({408, 429, 502, 503, 504})

Json = Any


@dataclass(frozen=True, slots=True)
class Call:
    """One request; every one of them may be repeated."""

    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class CollectionState:
    """What matters of a collection: the index in it, and whether documents can be told apart."""

    index: str
    failed: bool
    documents_indexed: bool


class CollectionMissing(VectorsUnavailable):
    """There is no such collection (yet)."""


class TryAgain(VectorsUnreachable):
    """The server is busy or starting; `after_s` is how long it asks to be left alone."""

    def __init__(self, message: str, after_s: float) -> None:
        super().__init__(message)
        self.after_s = after_s


VERSION = Call("GET", "/")
COLLECTIONS = Call("GET", "/collections")


def collection_name(signature: str) -> str:
    """The collection of a signature."""
    return f"{_PREFIX}{signature}"


def describe(name: str) -> Call:
    """Ask for what `read_state` reads."""
    return Call("GET", f"/collections/{name}")


def create(name: str, dimension: int, index: str) -> Call:
    """Make the collection; `dimension` 0 means that there are no dense vectors.

    One shard, so that the IDF is counted over all points.
    """
    dense = {DENSE: {"size": dimension, "distance": "Cosine"}} if dimension else {}
    body = {
        "vectors": dense,
        "sparse_vectors": {SPARSE: {"modifier": "idf"}},
        "shard_number": 1,
        "metadata": {INDEX_KEY: index},
    }
    return Call("PUT", f"/collections/{name}", orjson.dumps(body))


def index_documents(name: str) -> Call:
    """Make documents countable and deletable without looking at every point."""
    body = {"field_name": DOCUMENT, "field_schema": "keyword"}
    return Call("PUT", f"/collections/{name}/index?wait=true", orjson.dumps(body))


def mark_used(name: str, seconds: int) -> Call:
    """Remember when a writer opened the collection last (seconds since 1970)."""
    return Call("PATCH", f"/collections/{name}", orjson.dumps({"metadata": {USED_KEY: seconds}}))


def drop(name: str) -> Call:
    """Remove a collection."""
    return Call("DELETE", f"/collections/{name}")


def upserts(name: str, points: Sequence[Point], most_bytes: int = MOST_BYTES) -> Iterator[Call]:
    """Insert or replace the points, in as few calls as their size allows."""
    group: list[orjson.Fragment] = []
    size = 0
    for encoded in map(_point, points):
        if group and size + len(encoded) > most_bytes:
            yield _upsert(name, group)
            group, size = [], 0
        group.append(orjson.Fragment(encoded))
        size += len(encoded)
    if group:
        yield _upsert(name, group)


def delete(name: str, documents: Sequence[str], keep: Sequence[int]) -> Call:
    """Delete the points of these documents but those in `keep`."""
    chosen: dict[str, Json] = {"must": [{"key": DOCUMENT, "match": {"any": list(documents)}}]}
    if keep:
        chosen["must_not"] = [{"has_id": list(keep)}]
    return Call(
        "POST", f"/collections/{name}/points/delete?wait=true", orjson.dumps({"filter": chosen})
    )


def count(name: str) -> Call:
    """Number of points."""
    return Call("POST", f"/collections/{name}/points/count", orjson.dumps({"exact": True}))


def facet(name: str) -> Call:
    """Number of points of each document."""
    body = {"key": DOCUMENT, "limit": _MOST_DOCUMENTS, "exact": True}
    return Call("POST", f"/collections/{name}/facet", orjson.dumps(body))


def search(
    name: str,
    sparse: SparseVector | None,
    dense: Sequence[float] | None,
    limit: int,
    timeout_s: float,
) -> Call:
    """Ask the lanes that are given, in one request."""
    lanes: list[Json] = []
    if sparse:
        vector = {"indices": sparse.indices, "values": sparse.values}
        lanes.append({"query": vector, "using": SPARSE, "limit": limit})
    if dense:
        lanes.append({"query": list(dense), "using": DENSE, "limit": limit})
    seconds = max(1, math.ceil(timeout_s))
    path = f"/collections/{name}/points/query/batch?timeout={seconds}"
    return Call("POST", path, orjson.dumps({"searches": lanes}))


def result(status: int, body: bytes, retry_after: str = "") -> Json:
    """The `result` of an answer; raises the kind of `VectorsUnavailable` that it amounts to."""
    if status != 200:
        _refuse(status, body, retry_after)
    try:
        return orjson.loads(body)["result"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _not_qdrant() from error


def check_version(status: int, body: bytes, retry_after: str = "") -> None:
    """Raise `VectorsVersionUnfit` unless `GET /` was answered by a version that will do."""
    if status != 200:
        _refuse(status, body, retry_after)
    try:
        said = str(orjson.loads(body)["version"])
        numbers = tuple(int(part) for part in said.split("-")[0].split(".")[:2])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise _not_qdrant() from error
    if not VERSION_MIN <= numbers < VERSION_BELOW:
        least, below = (".".join(map(str, version)) for version in (VERSION_MIN, VERSION_BELOW))
        raise VectorsVersionUnfit(
            f"Qdrant {said} is served; {least} or newer, below {below}, is needed"
        )


def read_state(name: str, described: Json, dimension: int) -> CollectionState:
    """The state of a collection; raises `VectorsCollectionUnfit` if `create` makes another one."""
    try:
        config = described["config"]
        found = _shape(config["params"])
        index = str((config.get("metadata") or {}).get(INDEX_KEY) or "")
        document = (described.get("payload_schema") or {}).get(DOCUMENT) or {}
        failed = described["status"] == "red"
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _not_qdrant() from error
    wanted = {SPARSE: "idf"} | ({DENSE: [dimension, "Cosine"]} if dimension else {})
    if found != wanted:
        raise _unfit(name, f"has the vectors {found}, not {wanted}")
    if not index:
        raise _unfit(name, f"was not made by this application (no {INDEX_KEY} in its metadata)")
    return CollectionState(index, failed, document.get("data_type") == "keyword")


def read_used(described: Json) -> int:
    """When a writer opened the collection last; 0 where nobody has said."""
    return int((described["config"].get("metadata") or {}).get(USED_KEY) or 0)


def own_collections(listed: Json) -> list[str]:
    """Names of the collections that are ours by their names."""
    names = (str(entry["name"]) for entry in listed["collections"])
    return [name for name in names if _NAME.fullmatch(name)]


def read_hits(answers: Json, sparse: bool, dense: bool) -> Hits:
    """The hits of each lane that was asked, out of the result of `search`."""
    lanes = iter(answers)
    return Hits(_hits(next(lanes)) if sparse else (), _hits(next(lanes)) if dense else ())


def read_counts(answer: Json) -> Mapping[str, int]:
    """Points of each document that has any, out of the result of `facet`."""
    # The engine goes on naming documents whose points were all deleted.
    return {str(hit["value"]): int(hit["count"]) for hit in answer["hits"] if hit["count"]}


def _point(point: Point) -> bytes:
    sparse = point.sparse
    vector: dict[str, Json] = {SPARSE: {"indices": sparse.indices, "values": sparse.values}}
    if point.dense:
        vector[DENSE] = point.dense
    body = {"id": point.id, "vector": vector, "payload": {DOCUMENT: point.document_id}}
    return orjson.dumps(body)


def _upsert(name: str, points: Sequence[orjson.Fragment]) -> Call:
    path = f"/collections/{name}/points?wait=true"
    return Call("PUT", path, orjson.dumps({"points": points}))


def _hits(answer: Json) -> tuple[Hit, ...]:
    return tuple(Hit(int(found["id"]), float(found["score"])) for found in answer["points"])


def _shape(params: Json) -> dict[str, Json]:
    """Each vector of a collection with what makes scores of it."""
    sparse = {name: about.get("modifier") for name, about in params["sparse_vectors"].items()}
    dense = params.get("vectors") or {}
    return sparse | {name: [about["size"], about["distance"]] for name, about in dense.items()}


def _unfit(name: str, what: str) -> VectorsCollectionUnfit:
    return VectorsCollectionUnfit(
        f"the collection {name} {what}; remove it, and it is made again from the documents"
    )


def _not_qdrant() -> VectorsVersionUnfit:
    return VectorsVersionUnfit("what answers at vectors.url is not Qdrant")


def _refuse(status: int, body: bytes, retry_after: str) -> NoReturn:
    reason = _reason(body)
    if status in {401, 403}:
        raise VectorsKeyRefused(
            f"Qdrant refuses the key of vectors.api_key_file (HTTP {status}: {reason})"
        )
    if status == 404:
        raise CollectionMissing("the search index has not been made yet")
    said = f"Qdrant refused with HTTP {status}: {reason}"
    if status in _TRY_AGAIN:
        raise TryAgain(said, _seconds(retry_after))
    raise VectorsUnavailable(said)


def _reason(body: bytes) -> str:
    """The server's own words: JSON mostly, plain text where the key is refused."""
    try:
        text = str(orjson.loads(body)["status"]["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        text = body.decode("utf-8", "replace")
    return " ".join(text.split())[:_MOST_REASON]


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0
