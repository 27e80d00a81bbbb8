"""A double of the application's processes: says yes to everything, so that only a gateway says no.

`python -m rag_app web` answers any request with what arrived, and with the number of streams that
were left in the middle; `/api/ask` streams five events, one every 0.3 s; `/api/full` is busy.
`ingest` does nothing. It stands where the release has the application.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENTS, PAUSE_S = 5, 0.3
left: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        rest = size
        while rest and (data := self.rfile.read(min(rest, 1 << 20))):
            rest -= len(data)
        if self.path == "/api/ask":
            self.stream()
            return
        if self.path == "/api/full":
            self.turn_away()
            return
        seen = {"method": self.command, "path": self.path, "size": size - rest, "left": len(left)}
        body = json.dumps({**seen, "headers": dict(self.headers.items())}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("x-powered-by", "a double")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def turn_away(self) -> None:
        body = b'{"error":{"reference":"busy"}}'
        self.send_response(503)
        self.send_header("retry-after", "7")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        try:
            for number in range(EVENTS):
                self.wfile.write(f"data: {number}\n\n".encode())
                self.wfile.flush()
                time.sleep(PAUSE_S)
        except OSError:
            left.append(self.path)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if sys.argv[1] == "web":
        ThreadingHTTPServer(("0.0.0.0", 8642), Handler).serve_forever()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
