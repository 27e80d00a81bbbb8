"""Real servers on loopback for tests: an ASGI application under uvicorn, and a canary."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

START_DEADLINE_S = 20.0


@contextmanager
def serving(
    app: ASGIApp, port: int = 0, certificate: tuple[Path, Path] | None = None
) -> Iterator[str]:
    """Serve `app` in a thread; gives `http://127.0.0.1:PORT`.

    With files of a certificate for localhost and of its key it is `https://localhost:PORT`.
    """
    listener = socket.create_server(("127.0.0.1", port))
    secured, key = certificate or (None, None)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_level="error",
        timeout_graceful_shutdown=2,
        ssl_certfile=secured,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    deadline = time.monotonic() + START_DEADLINE_S
    while not server.started:
        if time.monotonic() > deadline or not thread.is_alive():
            raise RuntimeError("the server did not start")
        time.sleep(0.01)
    try:
        name = "https://localhost" if certificate else "http://127.0.0.1"
        yield f"{name}:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


class Canary:
    """A server that nobody may call; `requests` holds the paths of those who did."""

    def __init__(self, port: int, requests: list[str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.requests = requests


@contextmanager
def canary() -> Iterator[Canary]:
    """A server that records every request."""
    requests: list[str] = []

    class Record(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(204)
            self.end_headers()

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Record)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Canary(server.server_address[1], requests)
    finally:
        server.shutdown()
        server.server_close()
