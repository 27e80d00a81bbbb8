"""A double of a container registry on loopback, with the faults that real ones have.

It keeps what it was asked, so that a test can say which header went to whom. Blobs are served by
the registry itself or, with `storage=True`, by a second server that it redirects to.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from image_maker import Image, sha256

USER, PASSWORD = "ann", "s3cret: with a colon"
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
_PIECE = 64 << 10


@dataclass(frozen=True)
class Asked:
    """One request; `server` is "registry", "storage" or "token"."""

    server: str
    path: str
    headers: dict[str, str]

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")


@dataclass
class RegistryDouble:
    """What the registry holds and how it behaves; tests change the fields while it runs.

    `authentication`: "", "basic" or "bearer". `token_uses` is how often a token is taken before
    it ends, whatever `expires_in` promised. `drops`: after how many bytes of a longer blob the
    connection is cut, once for each. `token_status`: what the token server answers before it is
    well again.
    """

    authentication: str = ""
    anonymous: bool = True
    storage: bool = False
    token_uses: int | None = None
    expires_in: int | None = 300
    scheme_of_realm: str = "http"
    retry_after: str = ""
    status: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, bytes] = field(default_factory=dict)
    drops: list[int] = field(default_factory=list)
    token_status: list[int] = field(default_factory=list)
    header_digest: str = ""
    content_types: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.asked: list[Asked] = []
        self.tokens: dict[str, int] = {}
        self.ports: dict[str, int] = {}
        self.turn = threading.Lock()
        self.ended = False

    @property
    def registry(self) -> str:
        return f"127.0.0.1:{self.ports['registry']}"

    def hold(self, image: Image, *names: str, repository: str = "demo/app") -> None:
        """Take in an image under tags, and by its digest."""
        self.blobs.update(image.blobs)
        self.hold_manifest(image.manifest, *names, repository=repository)

    def hold_manifest(self, data: bytes, *names: str, repository: str = "demo/app") -> None:
        for name in (*names, f"sha256:{sha256(data)}"):
            self.manifests[f"{repository}/manifests/{name}"] = data

    def asked_for(self, server: str, part: str) -> list[Asked]:
        return [one for one in self.asked if one.server == server and part in one.path]

    def allows(self, authorization: str | None) -> bool:
        """Whether a request may pass, counting the uses of a token."""
        if not self.authentication:
            return True
        if self.authentication == "basic":
            return authorization == BASIC
        token = (authorization or "").removeprefix("Bearer ")
        with self.turn:
            left = self.tokens.get(token, 0)
            self.tokens[token] = left - 1
            return left > 0

    def new_token(self, authorization: str | None) -> dict[str, Any] | None:
        if not self.anonymous and authorization != BASIC:
            return None
        with self.turn:
            token = f"token-{len(self.tokens) + 1}"
            self.tokens[token] = self.token_uses or 1 << 30
        life = {} if self.expires_in is None else {"expires_in": self.expires_in}
        return {"token": token, **life}


@contextmanager
def registry_double(**behaviour: Any) -> Iterator[RegistryDouble]:
    """A running double; the fields of `RegistryDouble` say how it behaves."""
    double = RegistryDouble(**behaviour)
    servers = []
    for name in ("registry", "storage", "token"):
        handler = type(
            f"{name.title()}Handler", (_Handler,), {"double": double, "server_name": name}
        )
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        double.ports[name] = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
    try:
        yield double
    finally:
        double.ended = True
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    double: RegistryDouble
    server_name: str
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Else every small answer waits 40 ms for an acknowledgement.

    def do_GET(self) -> None:
        if self.double.ended:  # Connections that were kept open end with the server.
            raise ConnectionAbortedError
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.double.turn:
            self.double.asked.append(Asked(self.server_name, self.path, headers))
        {"registry": self._registry, "storage": self._storage, "token": self._token}[
            self.server_name
        ]()

    def _registry(self) -> None:
        double, path = self.double, urlsplit(self.path).path
        for part, status in double.status.items():
            if part in path:
                extra = {"Retry-After": double.retry_after} if double.retry_after else {}
                code = "TOOMANYREQUESTS" if status == 429 else "UNKNOWN"
                self._json(status, {"errors": [{"code": code, "message": "as told"}]}, extra)
                return
        if not double.allows(self.headers.get("Authorization")):
            self._json(401, {"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}, self._asks())
        elif path == "/v2/":
            self._json(200, {})
        elif "/blobs/" in path and double.storage:
            place = f"http://127.0.0.1:{double.ports['storage']}/store/{path.rpartition(':')[2]}"
            self._say(307, b"", {"Location": f"{place}?signature=secret"})
        elif "/blobs/" in path:
            self._blob(path.rpartition(":")[2])
        else:
            self._manifest(path.removeprefix("/v2/"))

    def _storage(self) -> None:
        # As S3 does: a request that is signed twice is refused.
        if self.headers.get("Authorization"):
            self._json(400, {"errors": [{"code": "UNSUPPORTED", "message": "signed twice"}]})
        else:
            self._blob(urlsplit(self.path).path.rpartition("/")[2])

    def _token(self) -> None:
        if self.double.token_status:
            self._json(self.double.token_status.pop(0), {})
            return
        query = parse_qs(urlsplit(self.path).query)
        scopes = query.get("scope", [""])
        token = self.double.new_token(self.headers.get("Authorization"))
        if token is None or not scopes[0].endswith(":pull"):
            self._json(401, {"errors": [{"code": "DENIED", "message": "who are you"}]})
        else:
            self._json(200, token)

    def _asks(self) -> dict[str, str]:
        if self.double.authentication == "basic":
            return {"WWW-Authenticate": 'Basic realm="double"'}
        realm = f"{self.double.scheme_of_realm}://127.0.0.1:{self.double.ports['token']}/token"
        return {"WWW-Authenticate": f'Bearer realm="{realm}",service="double, of one"'}

    def _manifest(self, name: str) -> None:
        data = self.double.manifests.get(name)
        if data is None:
            self._json(404, {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no such"}]})
            return
        kind = self.double.content_types.get(name) or json.loads(data).get("mediaType")
        digest = self.double.header_digest or f"sha256:{sha256(data)}"
        data = self.double.wrong.get(sha256(data), data)
        self._say(
            200,
            data,
            {"Content-Type": kind or "application/json", "Docker-Content-Digest": digest},
        )

    def _blob(self, digest: str) -> None:
        data = self.double.wrong.get(digest, self.double.blobs.get(digest))
        if data is None:
            self._json(404, {"errors": [{"code": "BLOB_UNKNOWN", "message": "no such"}]})
            return
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(match[1]) if match else 0
        self.send_response(206 if match else 200)
        if match:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self._pour(data[start:])

    def _pour(self, data: bytes) -> None:
        with self.double.turn:
            drops = self.double.drops
            cut = drops.pop(0) if drops and drops[0] < len(data) else None
        end = len(data) if cut is None else cut
        for start in range(0, end, _PIECE):
            self.wfile.write(data[start : min(start + _PIECE, end)])
        if cut is not None:
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError

    def _json(self, status: int, value: Any, extra: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json"}
        self._say(status, json.dumps(value).encode(), {**kind, **(extra or {})})

    def _say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):
            return

    def log_message(self, *arguments: object) -> None:
        pass
