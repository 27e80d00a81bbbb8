"""The real processes, killed as a power cut would: nothing is lost, nothing stands twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from document_files import written
from ingest_doubles import wait_until

from rag_app.config import load
from rag_app.library import SqliteLibrary
from rag_app.model import DocumentState
from rag_app.vectors.client import VectorWriterClient
from rag_app.vectors.signature import index_signature

# Several batches, so that each kill finds work undone.
DOCUMENTS = 150
RAG_TOML = """
release = "r1"
[corpus]
path = "documents"
[tuning]
chunk_size = 300
chunk_overlap = 40
top_k = 5
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


@pytest.fixture
def root(tmp_path):
    """A box root with a space and Hangul in its path, and documents."""
    root = tmp_path / "상자 1"
    (root / "documents").mkdir(parents=True)
    (root / "run").mkdir()
    written(root, "rag.toml", RAG_TOML)
    for number in range(DOCUMENTS):
        written(root / "documents", f"문서 {number}.md", f"# {number}\n\n" + "A sentence. " * 60)
    return root


class Processes:
    """Starts processes of the application in `root`; kills what is left."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, command: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(filter(None, sys.path))
        process = subprocess.Popen(
            [sys.executable, "-m", "rag_app", command, "--config", "rag.toml"],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.started.append(process)
        return process


@pytest.fixture
def processes(root):
    made = Processes(root)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def number(library, state):
    return sum(found.state is state for found in library.documents())


def test_a_worker_killed_again_and_again_finishes_the_corpus(root, processes, monkeypatch):
    monkeypatch.chdir(root)
    config = load(root / "rag.toml")
    library = SqliteLibrary(config.storage.data)
    signature = index_signature(config.tuning, None)
    processes.start("vectors")
    for state in (DocumentState.INDEXING, DocumentState.READY):
        worker = processes.start("ingest")
        wait_until(lambda state=state: number(library, state))
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert library.pending() > 0
    worker = processes.start("ingest")
    client = VectorWriterClient(config.storage.vectors_socket, signature)
    index = client.ensure()
    wait_until(lambda: library.corpus_ready("r1", signature, index))
    documents = library.documents()
    assert number(library, DocumentState.READY) == DOCUMENTS
    assert client.counts() == {document.id: document.chunks for document in documents}
    client.close()
    worker.terminate()
    assert worker.wait(20) == 0


def test_a_wrong_configuration_is_said_in_one_line(root, processes):
    written(root, "rag.toml", RAG_TOML.replace("top_k", "top_kk"))
    done = subprocess.run(
        [sys.executable, "-m", "rag_app", "ingest", "--config", "rag.toml"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "rag_app ingest: rag.toml: tuning.top_k: Field required\n"
