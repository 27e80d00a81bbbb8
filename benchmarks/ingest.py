"""Ingest: documents and chunks a second, and peak memory, with the real processes.

Usage: PYTHON benchmarks/ingest.py [--documents 1000]     (PYTHON has the application's packages)

For each kind of document a fresh box root is made, `rag_app vectors` and `rag_app ingest` are
started in it, and the time is taken from the first document's start to "the release can be
searched". Jails are compared with the plain alternative, a new Python process per document.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

APPLICATION = Path(__file__).resolve().parents[1] / "stacks" / "rag" / "app"
sys.path[:0] = [str(APPLICATION / "src"), str(APPLICATION / "tests" / "support")]

import docx  # noqa: E402
from document_files import docx_bytes, pdf  # noqa: E402

from rag_app.library import SqliteLibrary  # noqa: E402
from rag_app.parsing.jail import Jails  # noqa: E402
from rag_app.parsing.limits import Limits  # noqa: E402

SENTENCES = (
    "The operator checks the state of the box before every upgrade. ",
    "A failed upgrade undoes itself and says so in the history. ",
    "개인정보처리자는 접속기록을 월 1회 이상 점검하여야 한다. ",
    "롤백은 바이트를 복사하지 않으므로 몇 초면 끝난다. ",
)
RAG_TOML = """
release = "benchmark"
[corpus]
path = "documents"
[tuning]
chunk_size = 800
chunk_overlap = 120
top_k = 8
candidates = 50
fusion_k = 60
weight_sparse = 1.0
weight_dense = 0.0
bm25_k1 = 1.2
bm25_b = 0.75
evidence_threshold = 0.3
max_quotes = 3
[prompts]
system = "p"
context = "p"
no_evidence_en = "p"
no_evidence_ko = "p"
"""
_POLL_S = 0.05
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    """What one run gave."""

    kind: str
    documents: int
    megabytes: float
    chunks: int
    seconds: float
    worker_mib: float
    jail_mib: float


def prose(seed: int, characters: int) -> str:
    """Mixed English and Korean, different for each seed."""
    words = [f"{SENTENCES[(seed + n) % len(SENTENCES)]}({seed}.{n}) " for n in range(characters)]
    text, length = [], 0
    for word in words:
        text.append(word)
        length += len(word)
        if length >= characters:
            break
    return "".join(text)


def small_markdown(seed: int) -> tuple[str, bytes]:
    parts = [f"## Section {n}\n\n{prose(seed + n, 900)}\n" for n in range(4)]
    return f"{seed}.md", (f"# Document {seed}\n\n" + "\n".join(parts)).encode()


def large_markdown(seed: int) -> tuple[str, bytes]:
    parts = [f"## Section {n}\n\n{prose(seed + n, 4000)}\n" for n in range(500)]
    return f"{seed}.md", (f"# Document {seed}\n\n" + "\n".join(parts)).encode()


def pdf_of_50_pages(seed: int) -> tuple[str, bytes]:
    lines = [prose(seed + n, 70)[:70] for n in range(40)]
    return f"{seed}.pdf", pdf(*[lines for _ in range(50)])


def word_document(seed: int) -> tuple[str, bytes]:
    document = docx.Document()
    for section in range(20):
        document.add_heading(f"Section {section}", 1)
        for paragraph in range(5):
            document.add_paragraph(prose(seed + section + paragraph, 500))
    return f"{seed}.docx", docx_bytes(document)


def measure(kind: str, make: Callable[[int], tuple[str, bytes]], number: int) -> Row:
    """Ingest `number` documents in a fresh box root."""
    with tempfile.TemporaryDirectory(prefix="ingest-benchmark-") as folder:
        root = Path(folder)
        (root / "documents").mkdir()
        (root / "run").mkdir()
        (root / "rag.toml").write_text(RAG_TOML)
        size = 0
        for seed in range(number):
            name, content = make(seed)
            (root / "documents" / name).write_bytes(content)
            size += len(content)
        return _ingested(kind, root, number, size / _MIB)


def _ingested(kind: str, root: Path, number: int, megabytes: float) -> Row:
    with process(root, "vectors"), process(root, "ingest") as worker:
        library = SqliteLibrary(root / "data" / "rag")
        until(lambda: any(item.state.value != "queued" for item in library.documents()), worker)
        began = time.monotonic()
        jail_kib = 0
        while library.pending():
            jail_kib = max(jail_kib, largest_jail_kib(worker.pid))
            time.sleep(_POLL_S)
        seconds = time.monotonic() - began
        documents = library.documents()
        assert all(item.state.value == "ready" for item in documents), documents[0]
        chunks = sum(item.chunks for item in documents)
        library.close()
        peak = status_kib(worker.pid, "VmHWM")
        return Row(kind, number, megabytes, chunks, seconds, peak / 1024, jail_kib / 1024)


@contextmanager
def process(root: Path, command: str) -> Iterator[subprocess.Popen[bytes]]:
    """One process of the application, running in here."""
    started = subprocess.Popen(
        [sys.executable, "-m", "rag_app", command, "--config", "rag.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(APPLICATION / "src")},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


def until(condition: Callable[[], bool], worker: subprocess.Popen[bytes]) -> None:
    while not condition():
        assert worker.poll() is None, "the worker ended"
        time.sleep(_POLL_S / 10)


def largest_jail_kib(worker: int) -> int:
    """The largest resident set that a living jail has had."""
    jails = [jail for zygote in children(worker) for jail in children(zygote)]
    return max((status_kib(jail, "VmHWM") for jail in jails), default=0)


def children(pid: int) -> list[int]:
    try:
        return [
            int(found) for found in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def status_kib(pid: int, field: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def milliseconds_a_document(number: int) -> tuple[float, float]:
    """Reading one small document: in a jail, and in a new Python process without any jail."""
    plain = "import sys; from rag_app.parsing.dispatch import parse; from rag_app.parsing.limits"
    plain += " import Limits; parse(open(sys.argv[1], 'rb'), '.md', Limits())"
    with tempfile.TemporaryDirectory() as folder, Jails(Limits()) as jails:
        path = Path(folder) / "a.md"
        path.write_bytes(small_markdown(1)[1])
        jails.parse(path)
        jailed = seconds_for(number, lambda: jails.parse(path))
        environment = {**os.environ, "PYTHONPATH": str(APPLICATION / "src")}
        command = [sys.executable, "-c", plain, str(path)]
        fresh = seconds_for(number, lambda: subprocess.run(command, env=environment, check=True))
    return jailed * 1000, fresh * 1000


def seconds_for(number: int, action: Callable[[], object]) -> float:
    began = time.monotonic()
    for _ in range(number):
        action()
    return (time.monotonic() - began) / number


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=1000, help="small Markdown files")
    number = parser.parse_args().documents
    few = max(1, number // 100)
    print(
        "| documents | number | MiB | chunks | s | documents/s | chunks/s | worker MiB | jail MiB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind, make, count in (
        ("Markdown, 4 KB", small_markdown, number),
        ("Markdown, 3 MB", large_markdown, max(1, few // 3)),
        ("PDF, 50 pages", pdf_of_50_pages, few),
        ("DOCX, 100 paragraphs", word_document, few * 2),
    ):
        row = measure(kind, make, count)
        print(
            f"| {row.kind} | {row.documents} | {row.megabytes:.1f} | {row.chunks} |"
            f" {row.seconds:.1f} | {row.documents / row.seconds:.1f} |"
            f" {row.chunks / row.seconds:.0f} | {row.worker_mib:.0f} | {row.jail_mib:.0f} |",
            flush=True,
        )
    jailed, fresh = milliseconds_a_document(20)
    print("\n| reading one small document | ms |\n|---|---:|")
    print(f"| in a jail | {jailed:.1f} |\n| in a new Python process, not jailed | {fresh:.1f} |")
    print(f"\na jail costs {jailed / fresh:.2f} of a new process")


if __name__ == "__main__":
    main()
