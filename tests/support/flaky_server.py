"""A file server on loopback that breaks on demand, and remembers what it was asked."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK_BYTES = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: the connection ends with RST


@dataclass
class Faults:
    """What goes wrong with bodies; every count goes down when it is used."""

    drop_after: int = 0
    """Bytes of a body after which the connection breaks, `drops` times."""
    drops: int = 0
    reset: bool = False
    """Breaks lose what is under way (RST instead of FIN)."""
    statuses: list[int] = field(default_factory=list)
    """Answers given instead of the first ones asked for."""
    retry_after: str = ""
    ignore_range: bool = False
    shift_range: int = 0
    """Bytes by which a 206 starts too late."""
    wrong_bytes: bool = False
    extra_bytes: int = 0
    hide_length: bool = False
    new_tag_each_time: bool = False
    stop_after: int = 0
    """Bytes of a body after which nothing comes until `go_on` is set; `stopped` tells it."""
    stopped: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    range: str
    headers: dict[str, str]


class FlakyServer(ThreadingHTTPServer):
    """Serves `files` (path to bytes or file) and follows `moved` (path to address)."""

    daemon_threads = True

    def __init__(self, handler: type[FileHandler] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), handler or FileHandler)
        self.files: dict[str, bytes | Path] = {}
        self.moved: dict[str, str] = {}
        self.faults = Faults()
        self.asked: list[Asked] = []
        self.sent = 0
        self.turn = threading.Lock()

    def address(self, path: str = "") -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def put(self, path: str, data: bytes | Path) -> str:
        """Serve `data` below `path`; returns its address."""
        self.files[path] = data
        return self.address(path)

    def ranges(self) -> list[str]:
        """The ranges asked for, in order; empty text for a whole file."""
        return [asked.range for asked in self.asked]

    def handle_error(self, *_arguments: object) -> None:
        """Clients that go away are part of the game."""


class FileHandler(BaseHTTPRequestHandler):
    """Whole files and parts of them."""

    protocol_version = "HTTP/1.1"
    server: FlakyServer

    def do_GET(self) -> None:
        with self.server.turn:
            asked = Asked(self.path, self.headers.get("Range", ""), dict(self.headers))
            self.server.asked.append(asked)
            self.faults = faults = self.server.faults
            status = faults.statuses.pop(0) if faults.statuses else 0
        if status:
            extra = {"Retry-After": faults.retry_after} if faults.retry_after else {}
            self.answer(status, b"not now", extra)
        else:
            self.serve(self.path.partition("?")[0])

    def serve(self, path: str) -> None:
        """Answer for a path without query."""
        if path in self.server.moved:
            self.answer(302, b"", {"Location": self.server.moved[path]})
        elif path in self.server.files:
            self.send_file(self.server.files[path], {})
        else:
            self.answer(404, b"no such file", {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def send_file(self, content: bytes | Path, headers: dict[str, str]) -> None:
        faults = self.faults
        total = content.stat().st_size if isinstance(content, Path) else len(content)
        start, end, status = self._part(total)
        if status == 416:
            self.answer(416, b"", {"Content-Range": f"bytes */{total}"})
            return
        self.send_response(status)
        length = end - start + faults.extra_bytes
        if faults.hide_length:
            self.close_connection = True
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
        for name, value in {"ETag": self._tag(content), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self._send_body(content, start, end)

    def _part(self, total: int) -> tuple[int, int, int]:
        """First byte, byte after the last, status."""
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None or self.faults.ignore_range or self._is_stale():
            return 0, total, 200
        start = int(asked[1]) + self.faults.shift_range
        if start >= total:
            return 0, 0, 416
        return start, min(int(asked[2]) + 1, total) if asked[2] else total, 206

    def _is_stale(self) -> bool:
        return self.faults.new_tag_each_time and "If-Range" in self.headers

    def _tag(self, content: bytes | Path) -> str:
        if self.faults.new_tag_each_time:
            return f'"{len(self.server.asked)}"'
        name = str(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        return f'"{name}"'

    def _send_body(self, content: bytes | Path, start: int, end: int) -> None:
        sent = 0
        for chunk in _chunks(content, start, end):
            for piece in self._pieces(chunk, sent):
                # Counted first: whoever has all of it may ask at once how much was sent.
                sent += len(piece)
                self.server.sent += len(piece)
                self.wfile.write(self._twisted(piece))
                if self._breaks(sent):
                    return
        self.wfile.write(b"x" * self.faults.extra_bytes)

    def _pieces(self, chunk: bytes, sent: int) -> Iterator[bytes]:
        """Cut where something is to happen."""
        faults = self.faults
        for mark in sorted({faults.drop_after, faults.stop_after}):
            if sent < mark < sent + len(chunk):
                yield chunk[: mark - sent]
                chunk, sent = chunk[mark - sent :], mark
        yield chunk

    def _breaks(self, sent: int) -> bool:
        faults = self.faults
        if faults.stop_after and sent >= faults.stop_after:
            self.wfile.flush()
            faults.stopped.set()
            faults.go_on.wait(60)
        if not (faults.drops and sent >= faults.drop_after):
            return False
        with self.server.turn:
            faults.drops -= 1
        if faults.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close_connection = True
        return True

    def _twisted(self, piece: bytes) -> bytes:
        if not self.faults.wrong_bytes or not piece:
            return piece
        return bytes([piece[0] ^ 1]) + piece[1:]

    def log_message(self, *_arguments: object) -> None:
        """Silent."""


@contextmanager
def serving(server: FlakyServer) -> Iterator[FlakyServer]:
    """Answers in threads of its own until the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.faults.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _chunks(content: bytes | Path, start: int, end: int) -> Iterator[bytes]:
    if not isinstance(content, Path):
        for position in range(start, end, _CHUNK_BYTES):
            yield content[position : min(position + _CHUNK_BYTES, end)]
        return
    with content.open("rb") as file:
        file.seek(start)
        while start < end:
            chunk = file.read(min(_CHUNK_BYTES, end - start))
            start += len(chunk)
            yield chunk
