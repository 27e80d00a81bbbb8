"""Requests a second of the application, and what it adds to a language model's own time.

Usage: python benchmarks/app_requests.py [--requests 2000] [--seconds 15] [--tokens 200]

The real web, vector and ingest processes run over this repository's manual. The language model
is a double in a process of its own: it streams `--tokens` events as fast as it can, so that what
is left is our time; it is also asked directly, in the same run, as the peer to compare with.
Every row ends after `--requests` requests or `--seconds` seconds, whatever comes first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import uvloop

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "stacks/rag/app/tests/support"))

from http_load import exchange, processor_seconds, quantile  # noqa: E402
from processes import running_box  # noqa: E402

QUESTIONS = (
    "How do I roll back a failed upgrade?",
    "실패한 업그레이드를 어떻게 되돌리나요?",
    "What happens if the power fails during an install?",
    "문서를 어떻게 추가합니까?",
)


@dataclass
class Load:
    """What is sent: one of `bodies` in turn to `path`, over `connections` kept connections."""

    name: str
    port: int
    path: str
    bodies: list[bytes]
    connections: int


@dataclass
class Row:
    """What was measured; latencies in milliseconds to the last byte."""

    load: Load
    seconds: float
    latencies: list[float]
    first_bytes: list[float]

    def line(self) -> str:
        count = len(self.latencies)
        p50, p99 = quantile(self.latencies, 0.5), quantile(self.latencies, 0.99)
        first = quantile(self.first_bytes, 0.5)
        return (
            f"{self.load.name:<44}{self.load.connections:>6}{count:>9}{count / self.seconds:>9.0f}"
            f"{first:>11.2f}{p50:>9.2f}{p99:>9.2f}"
        )


def request(port: int, path: str, body: bytes) -> bytes:
    """One HTTP/1.1 request, ready to send."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


async def measure(load: Load, requests: int, seconds: float) -> Row:
    """Send as fast as the answers come, on every connection."""
    sent = [request(load.port, load.path, body) for body in load.bodies]
    deadline = time.perf_counter() + seconds
    latencies: list[float] = []
    firsts: list[float] = []
    started = 0

    async def work() -> None:
        nonlocal started
        reader, writer = await asyncio.open_connection("127.0.0.1", load.port, limit=2**22)
        while started < requests and time.perf_counter() < deadline:
            started += 1
            first, last = await exchange(reader, writer, sent[started % len(sent)])
            firsts.append(first * 1000)
            latencies.append(last * 1000)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(load.connections)))
    return Row(load, time.perf_counter() - began, latencies, firsts)


def serve_model(listener: socket.socket, tokens: int) -> None:
    """The language model's double: the same stream of `tokens` events for every request."""
    piece = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
    cited = {"choices": [{"index": 0, "delta": {"content": "[1]."}, "finish_reason": "stop"}]}
    events = [f"data: {json.dumps(piece)}\n\n".encode()] * (tokens - 1)
    events += [f"data: {json.dumps(cited)}\n\n".encode(), b"data: [DONE]\n\n"]

    async def app(scope, receive, send):  # type: ignore[no-untyped-def]
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for event in events:
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(
        app, loop="uvloop", http="httptools", log_level="error", lifespan="off", access_log=False
    )
    uvicorn.Server(config).run([listener])


@contextmanager
def model_double(tokens: int) -> Iterator[int]:
    """The double in a process of its own; gives its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    process = multiprocessing.get_context("fork").Process(
        target=serve_model, args=(listener, tokens), daemon=True
    )
    process.start()
    try:
        yield port
    finally:
        process.terminate()
        process.join()


def peak_megabytes(pid: int) -> float:
    """The most memory a process has held, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def loads(box: int, model: int) -> list[Load]:
    """What is measured, in order."""
    searches = [json.dumps({"query": question}).encode() for question in QUESTIONS]
    asks = [json.dumps({"question": question}).encode() for question in QUESTIONS]

    def chats(stream: bool) -> list[bytes]:
        return [
            json.dumps(
                {"stream": stream, "messages": [{"role": "user", "content": question}]}
            ).encode()
            for question in QUESTIONS
        ]

    chat = "/v1/chat/completions"
    return [
        Load("/api/search", box, "/api/search", searches, 1),
        Load("/api/search", box, "/api/search", searches, 16),
        Load("/api/ask, through the engine", box, "/api/ask", asks, 1),
        Load("engine's double alone, streaming (peer)", model, chat, chats(True), 1),
        Load(f"{chat}, streaming", box, chat, chats(True), 1),
        Load("engine's double alone, streaming (peer)", model, chat, chats(True), 16),
        Load(f"{chat}, streaming", box, chat, chats(True), 16),
        Load(chat, box, chat, chats(False), 16),
    ]


async def warm(load: Load) -> None:
    """A few requests that are not counted."""
    await measure(load, 20, 5.0)


def report(rows: list[Row], used: list[float], tokens: int) -> None:
    """The table, and what follows from it."""
    print(
        f"{'':<44}{'conn.':>6}{'requests':>9}{'req/s':>9}{'first ms':>11}{'p50 ms':>9}{'p99 ms':>9}"
    )
    for row in rows:
        print(row.line())
    alone, ours = rows[3], rows[4]
    search = statistics.median(rows[0].latencies)
    added = statistics.median(ours.latencies) - statistics.median(alone.latencies)
    print(f"\nadded to one streamed answer of {tokens} tokens (p50): {added:.2f} ms,")
    print(f"  of which finding the passages: about {search:.2f} ms")
    streamed = rows[6]
    events = len(streamed.latencies) * tokens
    print(
        f"streamed tokens handled: {events / streamed.seconds:,.0f} a second,"
        f" {used[6] / events * 1e6:.1f} µs of the web process each"
    )
    for index in (1, 6):
        spent = used[index] / len(rows[index].latencies) * 1000
        print(
            f"processor time of the web process: {spent:.2f} ms a request, {rows[index].load.path}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="at most, for each row")
    parser.add_argument("--seconds", type=float, default=15.0, help="at most, for each row")
    parser.add_argument("--tokens", type=int, default=200, help="events of a streamed answer")
    chosen = parser.parse_args()
    manual = {
        f"{path.parent.name}-{path.name}": path.read_text(encoding="utf-8")
        for folder in ("docs/manual", "docs/manual/ko")
        for path in sorted((REPOSITORY / folder).glob("*.md"))
    }
    with tempfile.TemporaryDirectory() as root, model_double(chosen.tokens) as model:
        engine = f'[engine]\nkind = "openai"\nurl = "http://127.0.0.1:{model}/v1"\nmodel = "double"'
        with running_box(Path(root), manual, engine=engine, answers=64) as box:
            web = box.pids["web"]
            rows, used = [], []
            for load in loads(int(box.url.rsplit(":", 1)[1]), model):
                uvloop.run(warm(load))
                before = processor_seconds(web)
                rows.append(uvloop.run(measure(load, chosen.requests, chosen.seconds)))
                used.append(processor_seconds(web) - before)
            print(f"{os.cpu_count()} processors, shared with the load and the engine's double\n")
            report(rows, used, chosen.tokens)
            for name, pid in box.pids.items():
                print(f"peak memory of {name}: {peak_megabytes(pid):.0f} MiB")


if __name__ == "__main__":
    main()
