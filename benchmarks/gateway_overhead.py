"""What the gateway adds in front of an engine, and the application too, with 1 to 1,000 streams.

Usage: python benchmarks/gateway_overhead.py [--streams 1 10 100 1000] [--seconds 12]

Three ways to the same answers, one after another in the same run: straight to the engine; through
the real gateway (Caddy with the box's own rendered configuration, TLS included); through the
gateway and the real application. The engine is a double in a process of its own: each of its
answers is `--tokens` events, one every `--pace-ms`, as a real engine's are, and the streams begin
spread over the length of an answer, as people's questions do. The last rows have answers of one
piece, as fast as they come (the application always streams from its engine, so it has none).
Connections are opened before the clock starts.
Load, double, gateway and application share this machine's processors: with many streams a row
tells more of that than of the gateway, and the share of the processors that each used stands
beside it. Needs `caddy` on the PATH (Debian's package of that name).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import cast

import uvloop

REPOSITORY = Path(__file__).resolve().parents[1]
for folder in ("installer", "tests/support", "stacks/rag/app/tests/support"):
    sys.path.insert(0, str(REPOSITORY / folder))

from http_load import exchange, length_of, processor_seconds, quantile  # noqa: E402
from processes import free_port, running_box  # noqa: E402

import stack_examples  # noqa: E402

CHAT = "/v1/chat/completions"
QUESTION = "How do I roll back a failed upgrade?"
OPEN_FILES = 16384  # a connection at the load, two at the gateway, one at the double
STARTED_WITHIN_S = 30.0


@dataclass
class Way:
    """A way to the answers: where to connect, and the processes in between, by name."""

    name: str
    port: int
    encrypted: bool = False
    pids: dict[str, int] = field(default_factory=dict)


@dataclass
class Measured:
    """Milliseconds to the first and to the last byte of every answer, and what it cost."""

    firsts: list[float] = field(default_factory=list)
    lasts: list[float] = field(default_factory=list)
    seconds: float = 0.0
    processor_s: dict[str, float] = field(default_factory=dict)

    def rate(self) -> float:
        """Answers a second."""
        return len(self.lasts) / self.seconds


class EngineDouble(asyncio.Protocol):
    """A double of an engine: `tokens` events for every request, one every `pace_s`."""

    def __init__(self, tokens: int, pace_s: float) -> None:
        piece = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
        self._event = chunk(f"data: {json.dumps(piece)}\n\n".encode())
        cited = {"choices": [{"index": 0, "delta": {"content": "[1]."}, "finish_reason": "stop"}]}
        self._last = chunk(f"data: {json.dumps(cited)}\n\n".encode())
        self._last += chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        self._tokens, self._pace_s = tokens, pace_s
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._loop = asyncio.get_running_loop()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or len(body) < length_of(head):
            return
        self._received = b""
        if b'"stream": true' in body or b'"stream":true' in body:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                b"transfer-encoding: chunked\r\n\r\n"
            )
            self._send(self._tokens)
        else:
            self._transport.write(WHOLE)

    def _send(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if left <= 1:
            self._transport.write(self._last)
            return
        self._transport.write(self._event)
        if self._pace_s:
            self._loop.call_later(self._pace_s, self._send, left - 1)
        else:
            self._send(left - 1)


_ANSWER = json.dumps(
    {
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word [1]."},
                "finish_reason": "stop",
            }
        ]
    }
).encode()
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    % len(_ANSWER)
    + _ANSWER
)


def chunk(data: bytes) -> bytes:
    """A piece of a body of unknown length."""
    return b"%x\r\n%s\r\n" % (len(data), data)


def serve_double(listener: socket.socket, tokens: int, pace_s: float) -> None:
    """Answer until ended."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: EngineDouble(tokens, pace_s), sock=listener, backlog=4096
        )
        await server.serve_forever()

    uvloop.run(serve())


@contextmanager
def engine_double(tokens: int, pace_s: float) -> Iterator[tuple[int, int]]:
    """The double in a process of its own; gives its port and its process."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    process = multiprocessing.get_context("fork").Process(
        target=serve_double, args=(listener, tokens, pace_s), daemon=True
    )
    process.start()
    try:
        yield listener.getsockname()[1], process.pid or 0
    finally:
        process.terminate()
        process.join()


def caddyfile(folder: Path, upstream: int) -> tuple[str, int]:
    """The box's own configuration of its gateway, for this upstream; the port that it serves."""
    text = stack_examples.rendered().files["config/Caddyfile"].decode()
    taken = free_port()
    for old, new in (
        ("8443", str(taken)),
        ("http_port 8081", f"http_port {free_port()}"),
        ("http://127.0.0.1:8080", f"http://127.0.0.1:{free_port()}"),
        ("file_system /state", f"file_system {folder}/state"),
    ):
        assert old in text, old
        text = text.replace(old, new)
    line = next(line for line in text.splitlines() if "reverse_proxy" in line)
    return text.replace(line, f"\treverse_proxy 127.0.0.1:{upstream} {{"), taken


@contextmanager
def gateway(upstream: int, name: str) -> Iterator[Way]:
    """The real gateway before `upstream`."""
    with tempfile.TemporaryDirectory() as folder:
        text, port = caddyfile(Path(folder), upstream)
        file = Path(folder, "Caddyfile")
        file.write_text(text, encoding="utf-8")
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                ["caddy", "run", "--config", str(file), "--adapter", "caddyfile"],
                stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": folder},
            )
            try:
                wait_for(port, process, Path(folder, "log"))
                yield Way(name, port, encrypted=True, pids={"gateway": process.pid})
            finally:
                process.terminate()
                process.wait(30)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the gateway takes connections; what it wrote, where it never does."""
    deadline = time.monotonic() + STARTED_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 1) as plain,
                unverified().wrap_socket(plain, server_hostname="localhost"),
            ):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the gateway does not start:\n{log.read_text(encoding='utf-8')}")


@cache
def unverified() -> ssl.SSLContext:
    """TLS with whoever answers: the authority is the gateway's own, of a minute ago."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def request(stream: bool) -> bytes:
    """One question, ready to send."""
    body = json.dumps({"stream": stream, "messages": [{"role": "user", "content": QUESTION}]})
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


async def connect(way: Way) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the way's first server."""
    if not way.encrypted:
        return await asyncio.open_connection("127.0.0.1", way.port, limit=2**20)
    return await asyncio.open_connection(
        "127.0.0.1", way.port, limit=2**20, ssl=unverified(), server_hostname="localhost"
    )


async def load(way: Way, streams: int, seconds: float, stream: bool, spread_s: float) -> Measured:
    """`streams` at once for `seconds`, each asking again when it has its answer.

    They begin spread evenly over `spread_s`.
    """
    measured, sent = Measured(), request(stream)
    lanes = asyncio.Semaphore(50)  # handshakes at once

    async def opened() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with lanes:
            return await connect(way)

    connections = await asyncio.gather(*(opened() for _ in range(streams)))
    before = {name: processor_seconds(pid) for name, pid in way.pids.items()}
    own = time.process_time()
    began = time.perf_counter()

    async def work(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(spread_s * number / streams)
        while time.perf_counter() - began < seconds:
            first, last = await exchange(reader, writer, sent)
            measured.firsts.append(first * 1000)
            measured.lasts.append(last * 1000)
        writer.close()

    await asyncio.gather(*(work(number, *one) for number, one in enumerate(connections)))
    measured.seconds = time.perf_counter() - began
    used = {name: processor_seconds(pid) - before[name] for name, pid in way.pids.items()}
    measured.processor_s = {"load": time.process_time() - own, **used}
    return measured


def measure(way: Way, streams: int, seconds: float, spread_s: float) -> Measured:
    """A short warm-up that is not counted, then the load; whole answers where nothing is spread."""
    stream = spread_s > 0
    uvloop.run(load(way, min(streams, 20), 1.0, stream, 0.0))
    return uvloop.run(load(way, streams, seconds, stream, spread_s))


def line(what: str, streams: int, measured: Measured, peer: Measured) -> str:
    """One row of the table; what is added is against `peer`, of the same number of streams."""

    def added(values: list[float], others: list[float], share: float) -> str:
        if measured is peer:
            return "-"
        return f"{quantile(values, share) - quantile(others, share):+.1f}"

    columns = [what, f"{streams:,}", f"{len(measured.lasts):,}", f"{measured.rate():,.1f}"]
    columns.append(f"{measured.rate() / peer.rate():.2f}")
    for values, others in ((measured.firsts, peer.firsts), (measured.lasts, peer.lasts)):
        for share in (0.5, 0.99):
            columns.append(f"{quantile(values, share):,.1f}")
            columns.append(added(values, others, share))
    share = ", ".join(
        f"{name} {used / measured.seconds:.2f}" for name, used in measured.processor_s.items()
    )
    return "| " + " | ".join([*columns, share]) + " |"


HEADINGS = (
    *("way", "streams", "answers", "answers/s", "ratio"),
    *("first byte p50 ms", "added", "p99 ms", "added"),
    *("last byte p50 ms", "added", "p99 ms", "added", "processors used"),
)


def report(ways: list[Way], counts: list[int], seconds: float, answer_s: float) -> None:
    """Every way with every number of streams, as the rows of a table."""
    print("| " + " | ".join(HEADINGS) + " |")
    print("|---|" + "---:|" * (len(HEADINGS) - 2) + "---|")
    rows = [(way, streams, answer_s, "") for streams in counts for way in ways]
    rows += [(way, streams, 0.0, ", whole answers") for streams in (1, 64) for way in ways[:2]]
    for way, streams, spread_s, kind in rows:
        measured = measure(way, streams, seconds, spread_s)
        if way is ways[0]:
            peer = measured
        print(line(way.name + kind, streams, measured, peer), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--seconds", type=float, default=12.0, help="at least, for each row")
    parser.add_argument("--tokens", type=int, default=20, help="events of a streamed answer")
    parser.add_argument("--pace-ms", type=float, default=100.0, help="between two events")
    chosen = parser.parse_args()
    if not shutil.which("caddy"):
        raise SystemExit("caddy is not on the PATH; with Debian: apt-get install caddy")
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    manual = {
        path.name: path.read_text(encoding="utf-8")
        for path in sorted((REPOSITORY / "docs/manual").glob("*.md"))
    }
    with ExitStack() as stack:
        model, pid = stack.enter_context(engine_double(chosen.tokens, chosen.pace_ms / 1000))
        root = stack.enter_context(tempfile.TemporaryDirectory())
        engine = f'[engine]\nkind = "openai"\nurl = "http://127.0.0.1:{model}/v1"\nmodel = "double"'
        box = stack.enter_context(
            running_box(Path(root), manual, engine=engine, answers=max(chosen.streams))
        )
        alone = stack.enter_context(gateway(model, "gateway"))
        behind = int(box.url.rsplit(":", 1)[1])
        both = stack.enter_context(gateway(behind, "gateway and application"))
        both.pids.update(application=box.pids["web"], index=box.pids["vectors"])
        ways = [Way("engine's double (peer)", model), alone, both]
        for way in ways:
            way.pids["double"] = pid
        asked = subprocess.run(["caddy", "version"], capture_output=True, text=True, check=True)
        print(
            f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f},"
            f" caddy {asked.stdout.split()[0]};"
            f" {chosen.tokens} tokens, one every {chosen.pace_ms:g} ms\n"
        )
        report(ways, chosen.streams, chosen.seconds, chosen.tokens * chosen.pace_ms / 1000)


if __name__ == "__main__":
    main()
