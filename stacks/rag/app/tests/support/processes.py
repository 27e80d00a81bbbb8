"""The real processes of the application, over a box root of their own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

SOURCE = Path(__file__).parents[2] / "src"
PROMPTS = Path(__file__).parents[4] / "prompts"
READY_DEADLINE_S = 90.0
STOP_DEADLINE_S = 20.0

SETTINGS = """\
release = "sha256:real-processes"
[server]
{server}
port = {port}
max_concurrent_answers = {answers}
[corpus]
path = "documents"
[tuning]
chunk_size = 600
chunk_overlap = 80
top_k = 6
candidates = 60
fusion_k = 60
weight_sparse = 1.0
weight_dense = 0.7
bm25_k1 = 1.2
bm25_b = 0.75
evidence_threshold = 0.5
max_quotes = 3
[prompts]
system = "{prompts}/system.txt"
context = "{prompts}/context.txt"
no_evidence_en = "{prompts}/no_evidence.en.txt"
no_evidence_ko = "{prompts}/no_evidence.ko.txt"
{engine}
"""
ALL = ("vectors", "ingest", "web")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def settings(port: int, *, server: str = "", sections: str = "", answers: int = 32) -> str:
    """A `rag.toml`; `server` are more lines of `[server]`, `sections` stand at the end."""
    return SETTINGS.format(
        port=port, server=server, prompts=PROMPTS, engine=sections, answers=answers
    )


class RunningBox:
    """The processes of a box; `pids` by name of process."""

    def __init__(self, root: Path, url: str, processes: dict[str, subprocess.Popen[bytes]]) -> None:
        self.root = root
        self.url = url
        self.pids = {name: process.pid for name, process in processes.items()}
        self._processes = processes

    def wait_until_ready(self) -> None:
        """Poll /readyz; says what the processes logged if it never comes."""
        deadline = time.monotonic() + READY_DEADLINE_S
        while not self._ready():
            dead = [name for name, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                raise AssertionError(f"not ready; ended: {dead}\n{self.logs()}")
            time.sleep(0.1)

    def stop(self, name: str) -> tuple[int, float]:
        """Tell a process to end, as a container's engine does; its status and the seconds."""
        begun = time.monotonic()
        self._processes[name].terminate()
        return self._processes[name].wait(STOP_DEADLINE_S), time.monotonic() - begun

    def logs(self) -> str:
        """What the processes wrote."""
        logs = sorted((self.root / "logs").iterdir())
        return "\n".join(f"== {log.name}\n{log.read_text(encoding='utf-8')}" for log in logs)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running_box(
    root: Path,
    documents: dict[str, str],
    *,
    engine: str = "",
    answers: int = 32,
    server: str = "",
    names: Sequence[str] = ALL,
    within: Sequence[str] = (),
    wait: bool = True,
) -> Iterator[RunningBox]:
    """Start a box whose release carries `documents`; ready when it is given, if we `wait`.

    `engine` are more sections of its settings, `server` lines of `[server]`, `names` its
    processes, and `within` is a command that gets theirs as arguments.
    """
    for folder in ("run", "logs", "data", "documents"):
        (root / folder).mkdir()
    for name, text in documents.items():
        (root / "documents" / name).write_text(text, encoding="utf-8")
    port = free_port()
    text = settings(port, server=server, sections=engine, answers=answers)
    (root / "rag.toml").write_text(text, encoding="utf-8")
    with ExitStack() as stack:
        processes = {name: stack.enter_context(_process(root, name, within)) for name in names}
        box = RunningBox(root, f"http://127.0.0.1:{port}", processes)
        if wait:
            box.wait_until_ready()
        yield box


@contextmanager
def _process(root: Path, name: str, within: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    with (root / "logs" / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            [*within, sys.executable, "-m", "rag_app", name, "--config", "rag.toml"],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
