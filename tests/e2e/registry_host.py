"""A real registry on loopback (`docker-registry`), skopeo as a judge, and a wire that can stall."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .journey import free_port, wait_until

USER, PASSWORD = "ann", "s3cret: with a colon"
HTPASSWD = f"{USER}:$2b$10$CeZ2vbQxKD4ssNJDfyJ50.yAVUZFzPuqcKVcGXAM3QFF9ZmygcVBu\n"
_LINE = re.compile(r'"GET (/v2/\S+) HTTP/1\.1" (\d+) (\d+)')
_PIECE = 64 << 10


def why_not() -> str:
    """Why there can be no registry here and what would enable it, or nothing."""
    missing = [name for name in ("docker-registry", "skopeo") if shutil.which(name) is None]
    return f"not found: apt-get install {' '.join(missing)}" if missing else ""


@dataclass(frozen=True)
class RealRegistry:
    """A running registry; `log` is its access log."""

    port: int
    log: Path

    def name(self, path: str, port: int | None = None) -> str:
        return f"127.0.0.1:{port or self.port}/{path}"

    def answers(self, part: str) -> list[tuple[int, int]]:
        """Status and bytes of every answer to a GET of an address with `part` in it."""
        lines = _LINE.findall(self.log.read_text(errors="replace"))
        return [(int(status), int(size)) for path, status, size in lines if part in path]


@contextlib.contextmanager
def registry(folder: Path, *, guarded: bool = False) -> Iterator[RealRegistry]:
    """A registry that keeps everything below `folder`; `guarded`: only for `USER`."""
    folder.mkdir()
    port, settings, log = free_port(), folder / "config.json", folder / "log"
    configuration: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    if guarded:
        (folder / "htpasswd").write_text(HTPASSWD)
        path = str(folder / "htpasswd")
        configuration["auth"] = {"htpasswd": {"realm": "test", "path": path}}
    settings.write_text(json.dumps(configuration))  # JSON is YAML.
    command = ["docker-registry", "serve", str(settings)]
    # Variables of this name are settings for the registry, and ours for credentials is one.
    own = {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}
    with (
        log.open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=said, env=own) as process,
    ):
        try:
            wait_until(lambda: _answers(port) or process.poll() is not None, 20, "a registry")
            assert process.poll() is None, log.read_text()
            yield RealRegistry(port, log)
        finally:
            process.terminate()


def skopeo(*words: str, given: str | None = None) -> str:
    """What skopeo says; it must succeed."""
    done = subprocess.run(["skopeo", *words], input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"skopeo {words}:\n{done.stderr}"
    return done.stdout


def push(folder: Path, target: str, *options: str) -> None:
    """Put an image that lies in a folder (`dir:`) into a registry without TLS."""
    skopeo("copy", "--dest-tls-verify=false", *options, f"dir:{folder}", f"docker://{target}")


@dataclass
class Wire:
    """A way to a port that lets `limit` bytes of the answers pass, and then nothing more."""

    port: int = 0
    limit: int | None = None
    passed: int = 0
    _turn: threading.Condition = field(default_factory=threading.Condition)

    def open(self) -> None:
        """Let everything pass from now on."""
        with self._turn:
            self.limit = None
            self._turn.notify_all()

    def let_through(self, wanted: int) -> int:
        """How many of `wanted` bytes may pass now; waits while it would be none."""
        with self._turn:
            self._turn.wait_for(lambda: self.limit is None or self.passed < self.limit)
            left = wanted if self.limit is None else min(wanted, self.limit - self.passed)
            self.passed += left
            return left


@contextlib.contextmanager
def wire(target: int, limit: int | None) -> Iterator[Wire]:
    """A running wire to a port of this host."""
    made = Wire(limit=limit)
    with socket.create_server(("127.0.0.1", 0)) as server:
        made.port = server.getsockname()[1]
        threading.Thread(target=_accept, args=(server, target, made), daemon=True).start()
        yield made
        made.open()


def _accept(server: socket.socket, target: int, made: Wire) -> None:
    with contextlib.suppress(OSError):
        while True:
            near, _ = server.accept()
            far = socket.create_connection(("127.0.0.1", target))
            for source, sink, counted in ((near, far, None), (far, near, made)):
                threading.Thread(target=_pour, args=(source, sink, counted), daemon=True).start()


def _pour(source: socket.socket, sink: socket.socket, counted: Wire | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            while data:
                count = counted.let_through(len(data)) if counted else len(data)
                sink.sendall(data[:count])
                data = data[count:]
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
