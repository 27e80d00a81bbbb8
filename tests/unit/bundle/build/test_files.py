"""Single files: pinned by what lies at their address."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pin_examples as pins
from aibox import digest
from aibox.bundle.build import files
from aibox.bundle.build.cache import BlobCache
from aibox.pins import FilePin, Redistribution, State

DATA = b"#!/bin/sh\nexit 0\n"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(DATA)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/driver.run"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pinned(folder: Path, previous: FilePin | None = None) -> FilePin:
    with served() as address:
        wish = pins.file_wish(address=address)
        return files.resolve(wish, previous, BlobCache(folder), lambda _: None)


def test_a_file_is_pinned_by_what_came_and_stays_in_the_cache(tmp_path: Path) -> None:
    pin = pinned(tmp_path)
    assert (pin.size, pin.sha256) == (len(DATA), digest.of_bytes(DATA))
    assert pin.state is State.RESOLVED
    assert BlobCache(tmp_path).find(digest.of_bytes(DATA), len(DATA)) is not None


def test_nothing_tells_the_licence_of_a_new_file(tmp_path: Path) -> None:
    pin = pinned(tmp_path)
    assert (pin.licence, pin.owner) == ("unknown", "unknown")
    assert pin.redistribution is Redistribution.OPERATOR_ONLY


def test_what_people_wrote_into_a_pin_stays_when_it_is_completed(tmp_path: Path) -> None:
    known = pins.file(state=State.UNRESOLVED, size=None, sha256=None, address=None)
    pin = pinned(tmp_path, known)
    assert (pin.licence, pin.owner, pin.source) == (known.licence, known.owner, known.source)
    assert pin.sha256 == digest.of_bytes(DATA)
