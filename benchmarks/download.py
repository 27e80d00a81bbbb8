"""Fetching into the download cache against curl and plain httpx from the same server on loopback.

    python benchmarks/download.py [--size 1] [--folder DIR] [--rounds 3]

One file of `size` gigabytes, then four of a quarter each. curl and httpx only write; `curl+sha256`
also reads the files again to hash them, as one must without us; ours hashes while writing, makes
the files durable and gives them their names. The server answers with sendfile(2) in a process of
its own, every fetch runs in a process of its own (which gives the peak of its memory), and the
rows take turns. The ratio is the row's speed by that of `curl+sha256`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import mkdtemp

ROOT = Path(__file__).parents[1]
BLOCK = 1 << 20

OURS = """
import sys
from pathlib import Path
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch
folder, address, size, *digests = sys.argv[1:]
requests = [Request(f"{address}/{n}", d, int(size), f"{n}") for n, d in enumerate(digests)]
fetch(requests, BlobCache(Path(folder)), lambda _: None, step="fetch")
"""
HTTPX = """
import sys, httpx
from concurrent.futures import ThreadPoolExecutor
folder, address, size, *digests = sys.argv[1:]
client = httpx.Client()
def get(n):
    with client.stream("GET", f"{address}/{n}") as answer, open(f"{folder}/{n}", "wb") as file:
        for chunk in answer.iter_raw():
            file.write(chunk)
list(ThreadPoolExecutor(4).map(get, range(len(digests))))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=float, default=1, help="gigabytes in all")
    parser.add_argument("--folder", type=Path, help="where to make files (default: temporary)")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    folder = Path(mkdtemp(prefix="aibox-download-", dir=arguments.folder))
    try:
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(f"{'files':>5} {'what':12} {'seconds':>8} {'MB/s':>7} {'ratio':>6} {'MiB RSS':>8}")
        for count in (1, 4):
            _measure(folder, count, int(arguments.size * 10**9) // count, arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, count: int, size: int, rounds: int) -> None:
    source, target = folder / "source", folder / "target"
    digests = _make(source, count, size)
    server, address = _serve(source)
    urls = [f"{address}/{n}" for n in range(count)]
    curl = ["curl", "--no-progress-meter", "--fail", "--parallel"]
    for n, url in enumerate(urls):
        curl += ["--output", str(target / str(n)), url]
    hashing = " & ".join(f"sha256sum {target}/{n}" for n in range(count)) + " & wait"
    facts = [str(target), address, str(size), *digests]
    rows = {
        "curl": curl,
        "httpx": [sys.executable, "-c", HTTPX, *facts],
        "curl+sha256": ["sh", "-c", f"{' '.join(curl)} && ({hashing}) > {target}/sums"],
        "ours": [sys.executable, "-c", OURS, *facts],
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in rows}
    try:
        for _ in range(rounds):
            for name, command in rows.items():
                found[name].append(_timed(command, target))
    finally:
        server.kill()
        server.wait()
    reference = median(seconds for seconds, _ in found["curl+sha256"])
    for name, runs in found.items():
        seconds, memory = median(s for s, _ in runs), max(m for _, m in runs)
        speed = count * size / seconds / 1e6
        print(
            f"{count:5} {name:12} {seconds:8.2f} {speed:7.0f} {reference / seconds:6.2f} "
            f"{memory / 1024:8.0f}"
        )


def _timed(command: list[str], target: Path) -> tuple[float, int]:
    """Seconds, and the peak of resident memory in KiB (with the interpreter's own)."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    os.sync()
    started = time.perf_counter()
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "installer")})
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, command
    return time.perf_counter() - started, usage.ru_maxrss


def _make(folder: Path, count: int, size: int) -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    digests = []
    for n in range(count):
        block, state = os.urandom(BLOCK), hashlib.sha256()
        with (folder / str(n)).open("wb") as file:
            for start in range(0, size, BLOCK):
                piece = block[: min(BLOCK, size - start)]
                file.write(piece)
                state.update(piece)
        digests.append(state.hexdigest())
    return digests


def _serve(folder: Path) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, __file__, "--server", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    return server, server.stdout.readline().strip()


def _server(folder: Path) -> None:
    """Whole files by sendfile(2), a process for each connection."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            _answer(connection, folder)
            os._exit(0)
        connection.close()


def _answer(connection: socket.socket, folder: Path) -> None:
    while found := re.match(rb"GET /(\d+) ", connection.recv(65536)):
        with (folder / found[1].decode()).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            connection.sendfile(file)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--server"]:
        _server(Path(sys.argv[2]))
    else:
        main()
