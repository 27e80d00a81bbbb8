"""A DOUBLE of a Qdrant server: the part of its REST interface that the application uses.

The results are real, because Qdrant's engine (`qdrant-edge-py`) makes them in this process. All
around it is a stand-in: no cluster, no snapshots, no optimiser, one request at a time. What the
double does not know it refuses with 400 or 404 and never passes over in silence.

For wiring tests, in a process of its own as well:

    python qdrant_double.py --host 0.0.0.0 --port 6333 --api-key-file FILE --storage FOLDER
"""

from __future__ import annotations

import argparse
import hmac
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import qdrant_edge as edge
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

VERSION = "1.19.0"
OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz"})
_DISTANCES = {"Cosine": edge.Distance.Cosine, "Dot": edge.Distance.Dot}

Json = Any
_Answer = Callable[[Request, Json], Json]


class Refused(Exception):
    """A request that the server answers with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Collection:
    """A collection in a folder: `config.json` and the engine's shard."""

    def __init__(self, folder: Path, shard: edge.EdgeShard, config: dict[str, Json]) -> None:
        self.folder = folder
        self.config = config
        self._shard = shard

    @classmethod
    def create(cls, folder: Path, config: dict[str, Json]) -> Collection:
        """Make it in a folder that does not exist yet."""
        made = _edge_config(config)
        (folder / "shard").mkdir(parents=True)
        collection = cls(folder, edge.EdgeShard.create(str(folder / "shard"), made), config)
        collection._flush()
        return collection

    @classmethod
    def load(cls, folder: Path) -> Collection:
        """Open what `create` made."""
        config = orjson.loads((folder / "config.json").read_bytes())
        return cls(folder, edge.EdgeShard.load(str(folder / "shard"), _edge_config(config)), config)

    def change_metadata(self, changes: Mapping[str, Json]) -> None:
        """Merge; null takes a key away."""
        merged = self.config["metadata"] | changes
        self.config["metadata"] = {key: value for key, value in merged.items() if value is not None}
        self._flush()

    def index(self, field: str) -> None:
        """Index a payload field by its words."""
        keyword = edge.PayloadSchemaType.Keyword
        self._shard.update(edge.UpdateOperation.create_field_index(field, keyword))
        self.config["fields"][field] = "keyword"
        self._flush()

    def upsert(self, points: list[Json]) -> None:
        """Insert or replace; all or nothing."""
        made = [self._point(point) for point in points]
        self._shard.update(edge.UpdateOperation.upsert_points(made))
        self._flush()

    def delete(self, chosen: Json) -> None:
        """Delete what a filter chooses."""
        self._shard.update(edge.UpdateOperation.delete_points_by_filter(_filter(chosen)))
        self._flush()

    def count(self) -> int:
        """Number of points."""
        return int(self._shard.count(edge.CountRequest(exact=True)))

    def facet(self, key: str, limit: int) -> list[dict[str, Json]]:
        """Number of points by the values of an indexed field."""
        if key not in self.config["fields"]:
            raise Refused(400, f"Bad request: Index required but not found for {key}")
        hits = self._shard.facet(edge.FacetRequest(key, limit=limit, exact=True)).hits
        return [{"value": hit.value, "count": hit.count} for hit in hits]

    def query(self, wanted: Json) -> list[dict[str, Json]]:
        """The nearest points of one vector."""
        _only(wanted, {"query", "using", "limit"})
        asked = wanted["query"]
        if isinstance(asked, dict) and asked.keys() == {"nearest"}:
            asked = asked["nearest"]  # The longer way to say the same.
        query = edge.Query.Nearest(self._vector(wanted["using"], asked), wanted["using"])
        hits = self._shard.query(edge.QueryRequest(limit=wanted.get("limit", 10), query=query))
        return [{"id": hit.id, "version": hit.version, "score": hit.score} for hit in hits]

    def described(self) -> dict[str, Json]:
        """As `GET /collections/{name}` describes it."""
        points = self.count()
        params = {name: self.config[name] for name in ("vectors", "sparse_vectors")}
        fields = self.config["fields"].items()
        return {
            "status": "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": 0,
            "points_count": points,
            "segments_count": 1,
            "config": {
                "params": params | {"shard_number": 1, "on_disk_payload": True},
                "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000},
                "optimizer_config": {
                    "deleted_threshold": 0.2,
                    "vacuum_min_vector_number": 1000,
                    "default_segment_number": 0,
                    "flush_interval_sec": 5,
                },
                "metadata": self.config["metadata"],
            },
            "payload_schema": {
                name: {"data_type": kind, "points": points} for name, kind in fields
            },
        }

    def close(self) -> None:
        """Let go of the files."""
        self._shard.close()

    def _flush(self) -> None:
        self._shard.flush()
        (self.folder / "config.json").write_bytes(orjson.dumps(self.config))

    def _point(self, point: Json) -> edge.Point:
        _only(point, {"id", "vector", "payload"})
        vectors = {name: self._vector(name, value) for name, value in point["vector"].items()}
        return edge.Point(point["id"], vectors, point.get("payload"))

    def _vector(self, name: str, value: Json) -> Json:
        if name in self.config["sparse_vectors"]:
            _only(value, {"indices", "values"})
            return edge.SparseVector(value["indices"], value["values"])
        if name not in self.config["vectors"]:
            raise Refused(400, f"Wrong input: Not existing vector name error: {name}")
        size = self.config["vectors"][name]["size"]
        if len(value) != size:
            raise Refused(
                400,
                f"Wrong input: Vector dimension error: expected dim: {size}, got {len(value)}",
            )
        return value


class QdrantDouble:
    """The server over a storage folder. `api_key` empty means that nobody needs one."""

    def __init__(self, storage: Path, api_key: str = "", version: str = VERSION) -> None:
        self._storage = storage / "collections"
        self._storage.mkdir(parents=True, exist_ok=True)
        self._api_key = api_key
        self._version = version
        folders = (path.parent for path in self._storage.glob("*/config.json"))
        self.collections = {folder.name: Collection.load(folder) for folder in folders}

    def application(self) -> Starlette:
        """The ASGI application."""
        one = "/collections/{name}"
        return Starlette(
            routes=[
                Route("/", self._about),
                *(Route(path, self._alive) for path in sorted(OPEN_PATHS - {"/"})),
                self._route("GET", "/collections", self._list),
                self._route("GET", one, self._describe),
                self._route("PUT", one, self._create),
                self._route("PATCH", one, self._update),
                self._route("DELETE", one, self._drop),
                self._route("PUT", f"{one}/index", self._index),
                self._route("PUT", f"{one}/points", self._upsert),
                self._route("POST", f"{one}/points/delete", self._delete),
                self._route("POST", f"{one}/points/count", self._count),
                self._route("POST", f"{one}/points/query/batch", self._query),
                self._route("POST", f"{one}/facet", self._facet),
            ]
        )

    def close(self) -> None:
        """Let go of the files."""
        for collection in self.collections.values():
            collection.close()

    async def _about(self, _request: Request) -> Response:
        title = "qdrant - vector search engine (a DOUBLE for tests)"
        return _json({"title": title, "version": self._version, "commit": "0" * 40})

    async def _alive(self, _request: Request) -> Response:
        return PlainTextResponse("healthz check passed (by a DOUBLE)")

    def _list(self, _request: Request, _body: Json) -> Json:
        return {"collections": [{"name": name} for name in sorted(self.collections)]}

    def _describe(self, request: Request, _body: Json) -> Json:
        return self._of(request).described()

    def _create(self, request: Request, body: Json) -> Json:
        name = request.path_params["name"]
        if name in self.collections:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        _only(body, {"vectors", "sparse_vectors", "shard_number", "metadata"})
        kept = {key: body.get(key) or {} for key in ("vectors", "sparse_vectors", "metadata")}
        self.collections[name] = Collection.create(self._storage / name, kept | {"fields": {}})
        return True

    def _update(self, request: Request, body: Json) -> Json:
        _only(body, {"metadata"})
        self._of(request).change_metadata(body["metadata"])
        return True

    def _drop(self, request: Request, _body: Json) -> Json:
        collection = self.collections.pop(request.path_params["name"], None)
        if collection:
            collection.close()
            shutil.rmtree(collection.folder)
        return collection is not None

    def _index(self, request: Request, body: Json) -> Json:
        _only(body, {"field_name", "field_schema"})
        if body["field_schema"] != "keyword":
            raise Refused(400, "the double indexes keywords only")
        self._of(request).index(body["field_name"])
        return self._updated(request)

    def _upsert(self, request: Request, body: Json) -> Json:
        _only(body, {"points"})
        self._of(request).upsert(body["points"])
        return self._updated(request)

    def _delete(self, request: Request, body: Json) -> Json:
        _only(body, {"filter"})
        self._of(request).delete(body["filter"])
        return self._updated(request)

    def _count(self, request: Request, body: Json) -> Json:
        _only(body, {"exact"})
        return {"count": self._of(request).count()}

    def _query(self, request: Request, body: Json) -> Json:
        _only(body, {"searches"})
        collection = self._of(request)
        return [{"points": collection.query(wanted)} for wanted in body["searches"]]

    def _facet(self, request: Request, body: Json) -> Json:
        _only(body, {"key", "limit", "exact"})
        return {"hits": self._of(request).facet(body["key"], body.get("limit", 10))}

    def _of(self, request: Request) -> Collection:
        name = request.path_params["name"]
        if name not in self.collections:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return self.collections[name]

    def _updated(self, request: Request) -> Json:
        if parse_qs(request.url.query).get("wait") != ["true"]:
            raise Refused(400, "the double only does what is waited for (wait=true)")
        return {"operation_id": 0, "status": "completed"}

    def _route(self, method: str, path: str, answer: _Answer) -> Route:
        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            if refusal := self._judge_key(request):
                return PlainTextResponse(refusal, 401)
            try:
                body = orjson.loads(await request.body() or b"null")
                result, status, code = answer(request, body), "ok", 200
            except Refused as error:
                result, status, code = None, {"error": error.message}, error.status
            except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
                result, status, code = None, {"error": f"Format error in JSON body: {error}"}, 400
            took = time.perf_counter() - started
            return _json({"result": result, "status": status, "time": took}, code)

        return Route(path, endpoint, methods=[method])

    def _judge_key(self, request: Request) -> str:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        said = request.headers.get("api-key") or bearer
        if not self._api_key or hmac.compare_digest(said.encode(), self._api_key.encode()):
            return ""
        if not said:
            return "Must provide an API key or an Authorization bearer token"
        return "Invalid API key or JWT"


def faulty(
    application: Callable[..., Awaitable[None]], fault: Callable[[str, str], Response | None]
) -> Callable[..., Awaitable[None]]:
    """The application with faults: what `fault(method, path)` returns is answered instead."""

    async def wrapped(scope: Json, receive: Json, send: Json) -> None:
        instead = fault(scope["method"], scope["path"]) if scope["type"] == "http" else None
        await (instead or application)(scope, receive, send)

    return wrapped


def _edge_config(config: Mapping[str, Json]) -> edge.EdgeConfig:
    vectors, sparse = {}, {}
    for name, about in config["vectors"].items():
        _only(about, {"size", "distance"})
        vectors[name] = edge.EdgeVectorParams(about["size"], _DISTANCES[about["distance"]])
    for name, about in config["sparse_vectors"].items():
        _only(about, {"modifier"})
        idf = about.get("modifier") == "idf"
        modifier = edge.Modifier.Idf if idf else None
        sparse[name] = edge.EdgeSparseVectorParams(modifier=modifier)
    return edge.EdgeConfig(vectors=vectors or None, sparse_vectors=sparse or None)


def _filter(chosen: Json) -> edge.Filter:
    _only(chosen, {"must", "must_not"})
    return edge.Filter(
        must=[_condition(one) for one in chosen.get("must", [])],
        must_not=[_condition(one) for one in chosen.get("must_not", [])],
    )


def _condition(one: Json) -> edge.FieldCondition | edge.HasIdCondition:
    if "has_id" in one:
        _only(one, {"has_id"})
        return edge.HasIdCondition(set(one["has_id"]))
    _only(one, {"key", "match"})
    _only(one["match"], {"any"})
    return edge.FieldCondition(one["key"], match=edge.MatchAny(one["match"]["any"]))


def _only(body: Json, known: set[str]) -> None:
    if not isinstance(body, dict):
        raise Refused(400, "Format error in JSON body: an object is expected")
    if unknown := body.keys() - known:
        raise Refused(400, f"the double does not know {sorted(unknown)}")


def _json(body: Json, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6333)
    parser.add_argument("--api-key-file", type=Path)
    parser.add_argument("--storage", type=Path, required=True)
    parser.add_argument("--version", default=VERSION, help="the version that it claims to be")
    chosen = parser.parse_args()
    key = chosen.api_key_file.read_text(encoding="ascii").strip() if chosen.api_key_file else ""
    double = QdrantDouble(chosen.storage, key, chosen.version)
    sys.stderr.write(
        f"This is a DOUBLE of a Qdrant server ({chosen.version}), for tests only;"
        f" {len(double.collections)} collections in {chosen.storage},"
        f" {'with' if key else 'WITHOUT'} a key, on {chosen.host}:{chosen.port}\n"
    )
    sys.stderr.flush()
    uvicorn.run(
        double.application(),
        host=chosen.host,
        port=chosen.port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
    )


if __name__ == "__main__":
    main()
