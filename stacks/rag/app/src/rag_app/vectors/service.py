"""The HTTP API of the vector index, on a unix socket that only the owner may use.

    GET  /readyz                     200 or 503 with `rag_app.interfaces.Readiness`
    POST /upsert  [[id, document, indices, values, dense or null], …]
    POST /delete  {"documents", "keep"}
    POST /search  {"sparse": [indices, values] or null, "dense": […] or null, "limit"}
    GET  /counts  {"<document>": points}          GET /count  points

Each request names its signature; one for another index is refused with 409.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rag_app.config import Config
from rag_app.errors import ConfigError, VectorsUnavailable
from rag_app.vectors.folder import IndexLock
from rag_app.vectors.maintenance import Maintenance
from rag_app.vectors.signature import SIGNATURE_HEADER, index_signature

INDEX_FOLDER = "index"
# Clients keep their connections; one closed under them costs a failed request.
KEEP_ALIVE_S = 3600

_Call = Callable[[Any], Awaitable[Any]]


class VectorsApi:
    """Routes over the index that `maintenance` keeps open."""

    def __init__(self, signature: str, maintenance: Maintenance) -> None:
        self._signature = signature
        self._index = maintenance

    def application(self) -> Starlette:
        """The ASGI application."""
        return Starlette(
            routes=[
                Route("/readyz", self.readyz),
                self._route("/upsert", lambda points: self._index.write("upsert", points), "POST"),
                self._route("/delete", self._delete, "POST"),
                self._route("/search", self._search, "POST"),
                self._route("/counts", lambda _: self._index.read("counts")),
                self._route("/count", lambda _: self._index.read("count")),
            ]
        )

    async def readyz(self, _request: Request) -> Response:
        """Answers at once, whatever the engine is doing."""
        state = self._index.readiness()
        return _json({"signature": self._signature, **state}, 200 if state["ready"] else 503)

    async def _delete(self, body: Any) -> Any:
        return await self._index.write("delete", body["documents"], body["keep"])

    async def _search(self, body: Any) -> Any:
        return await self._index.read("search", body["sparse"], body["dense"], body["limit"])

    def _route(self, path: str, call: _Call, method: str = "GET") -> Route:
        async def endpoint(request: Request) -> Response:
            asked = request.headers.get(SIGNATURE_HEADER, "")
            if asked != self._signature:
                reason = f"the index {self._signature} is served, not {asked or '(none named)'}"
                return _json({"error": reason}, 409)
            body = await request.body()
            try:
                return _json(await call(orjson.loads(body) if body else None))
            except VectorsUnavailable as error:
                return _json({"error": str(error)}, 503)
            except (orjson.JSONDecodeError, KeyError, TypeError) as error:
                return _json({"error": f"malformed request: {error}"}, 400)

        return Route(path, endpoint, methods=[method])


def run(config: Config) -> int:
    """Serve until told to stop; the exit status of the process.

    Raises `ConfigError` where the index is in a server: then there is nothing to serve here.
    """
    if config.vectors.kind != "embedded":
        raise ConfigError('vectors.kind is "server": the index is there, and needs no process here')
    try:
        lock = IndexLock(config.storage.data / INDEX_FOLDER)
        listener = listen(config.storage.vectors_socket)
    except VectorsUnavailable as error:
        sys.stderr.write(f"vectors: {error}\n")
        return 1
    # The server passes a signal on when it has stopped, and the engine must still be closed then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(config, listener))
    finally:
        lock.release()


async def serve(config: Config, listener: socket.socket) -> int:
    """Open the index and answer on `listener`; 1 if the engine ended by itself."""
    signature = index_signature(config.tuning, config.embedding)
    dimension = config.embedding.dimension if config.embedding else 0
    maintenance = Maintenance(config.storage.data / INDEX_FOLDER, signature, dimension)
    api = VectorsApi(signature, maintenance).application()
    server = uvicorn.Server(
        uvicorn.Config(
            api,
            http="httptools",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
    )
    # The socket answers /readyz from the first moment, also while a large index is being loaded.
    keeping = asyncio.create_task(maintenance.run())
    keeping.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await server.serve(sockets=[listener])
    failed = keeping.done()
    if failed and (error := keeping.exception()):
        sys.stderr.write(f"vectors: {error}\n")
    keeping.cancel()
    with suppress(asyncio.CancelledError, VectorsUnavailable):
        await keeping
    await maintenance.stop()
    return 1 if failed else 0


def listen(path: Path) -> socket.socket:
    """A listening unix socket of mode 0600; one left by a dead process is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        raise VectorsUnavailable(f"cannot listen on {path}: {error}") from error
    finally:
        os.umask(before)
    listener.listen(128)
    return listener


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
