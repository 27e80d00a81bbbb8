"""The real vectors process on a box root in a temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from async_helpers import wait_until
from small_library import TUNING

from rag_app.config import Embedding
from rag_app.vectors.client import VectorWriterClient
from rag_app.vectors.signature import index_signature

SIGNATURE = index_signature(TUNING, None)
SOCKET = Path("run/vectors.sock")
PATIENCE_S = 30.0

_CONFIG = """
release = "r1"
[tuning]
{tuning}
[prompts]
system = "unused"
context = "unused"
no_evidence_en = "unused"
no_evidence_ko = "unused"
"""
_EMBEDDING = """
[embedding]
url = "http://127.0.0.1:9/v1"
model = "unused"
dimension = {dimension}
"""


def signature(dimension: int) -> str:
    """Of the index that `start` serves."""
    return index_signature(TUNING, _embedding(dimension) if dimension else None)


def write_config(root: Path, dimension: int = 0, **tuning: object) -> Path:
    """A `rag.toml` in `root`, which is the working folder of the process."""
    values = TUNING.model_dump(exclude={"languages"}, exclude_none=True) | tuning
    lines = "\n".join(f"{name} = {value}" for name, value in values.items())
    path = root / "rag.toml"
    more = _EMBEDDING.format(dimension=dimension) if dimension else ""
    path.write_text(_CONFIG.format(tuning=lines) + more, encoding="utf-8")
    return path


def start(root: Path, dimension: int = 0) -> subprocess.Popen[bytes]:
    """Start `python -m rag_app vectors` with `root` as box root; does not wait."""
    write_config(root, dimension)
    return subprocess.Popen(
        [sys.executable, "-m", "rag_app", "vectors", "--config", "rag.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stderr=subprocess.PIPE,
    )


def writer(
    root: Path, signature: str = SIGNATURE, patience_s: float = PATIENCE_S
) -> VectorWriterClient:
    """A client of the process."""
    return VectorWriterClient(root / SOCKET, signature, start_patience_s=patience_s)


@contextmanager
def serving(root: Path, dimension: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once its index is open; ended afterwards if it still runs."""
    process = start(root, dimension)
    try:
        client = writer(root, signature(dimension))
        client.ensure()
        client.close()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=PATIENCE_S)


def _embedding(dimension: int) -> Embedding:
    return Embedding(url="http://127.0.0.1:9/v1", model="unused", dimension=dimension)


def children(pid: int) -> list[int]:
    """Process ids of the children of `pid`."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def has_ended(pid: int) -> bool:
    """Whether the process is gone, or only waits to be collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def wait_for_end(pid: int) -> bool:
    """Poll until the process has ended; says whether it did in time."""
    return wait_until(lambda: has_ended(pid))
