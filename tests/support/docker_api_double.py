"""A double of Docker Engine's HTTP interface on a Unix socket: the few requests the box makes."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = {"Version": "26.1.5", "ApiVersion": "1.45", "MinAPIVersion": "1.24"}
INFO = {"DockerRootDir": "/var/lib/docker", "DriverStatus": [["Backing Filesystem", "extfs"]]}


@dataclass
class DockerApiDouble:
    """`answers` maps "VERB /path" to (status, document); what is not there is 404.

    A document that is bytes is sent as it is, a list as a stream of JSON lines. What `in_turn`
    has for a request is answered before that, one after the other.
    """

    socket: Path
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    in_turn: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    body: bytes = b""
    read_body: Callable[[Any], bytes] | None = None

    def __post_init__(self) -> None:
        self.answers.setdefault("GET /version", (200, VERSION))
        self.answers.setdefault("GET /info", (200, INFO))


@contextmanager
def serving(double: DockerApiDouble) -> Iterator[DockerApiDouble]:
    """The double answers for the length of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer()

        do_POST = do_DELETE = do_GET  # noqa: N815

        def answer(self) -> None:
            split = urllib.parse.urlsplit(self.path)
            path = split.path
            if path.startswith("/v1."):
                path = "/" + path.split("/", 2)[2]
            double.asked.append(f"{self.command} {path}?{urllib.parse.unquote_plus(split.query)}")
            if self.headers.get("Transfer-Encoding") == "chunked":
                double.body = (double.read_body or chunked)(self.rfile)
            elif length := int(self.headers.get("Content-Length", 0)):
                double.body = self.rfile.read(length)
            absent = (404, {"message": f"No such thing: {path}"})
            request = f"{self.command} {path}"
            waiting = double.in_turn.get(request)
            self.reply(*(waiting.pop(0) if waiting else double.answers.get(request, absent)))
            if path.startswith("/exec/") and path.endswith("/start"):
                self.close_connection = True  # That is how Docker says that a program has ended.

        def reply(self, status: int, document: Any) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if isinstance(document, list) and document and document[0] == "stream":
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for one in document[1:]:
                    line = json.dumps(one).encode() + b"\r\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.write(b"0\r\n\r\n")
                return
            data = document if isinstance(document, bytes) else json.dumps(document).encode()
            data = b"" if status == 204 else data
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if "/exec/" in self.path:
                time.sleep(0.05)  # A program says nothing before Docker has answered.
            self.wfile.write(data)

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: Any) -> None:
            pass

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(double.socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield double
        finally:
            server.shutdown()
            thread.join()


def chunked(stream: Any) -> bytes:
    """A body in chunks (RFC 9112, 7.1)."""
    found = b""
    while size := int(stream.readline(), 16):
        found += stream.read(size)
        stream.readline()
    stream.readline()
    return found
