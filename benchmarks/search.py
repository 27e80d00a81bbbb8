"""Search and indexing speed of the embedded vector index, over its own process and socket.

    python benchmarks/search.py [--chunks 10000 100000] [--searches 300]

Texts are made up: words drawn by Zipf's law from 50,000 words, half of them Korean, about 600
characters to a chunk and 100 chunks to a document. Times are what a caller sees: "index" is one
request over the unix socket to the vectors process, "search" is the whole search of the web
process with library and evidence. Memory is the peak of each process (VmHWM).
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

APPLICATION = Path(__file__).parents[1] / "stacks" / "rag" / "app" / "src"
sys.path.insert(0, str(APPLICATION))

from rag_app.chunking import chunk_document  # noqa: E402
from rag_app.config import Config, load  # noqa: E402
from rag_app.indexing import ChunkIndexer  # noqa: E402
from rag_app.interfaces import Point, Reading  # noqa: E402
from rag_app.library import SqliteLibrary  # noqa: E402
from rag_app.model import Origin, ParsedDocument, Segment  # noqa: E402
from rag_app.retrieval import HybridSearcher  # noqa: E402
from rag_app.retrieval.evidence import distinct_words  # noqa: E402
from rag_app.retrieval.searcher import sparse_query  # noqa: E402
from rag_app.vectors.client import VectorReaderClient, VectorWriterClient  # noqa: E402
from rag_app.vectors.signature import index_signature  # noqa: E402

CHUNKS_PER_DOCUMENT = 100
VOCABULARY = 50_000
CONFIG = """
release = "benchmark"
[tuning]
chunk_size = 600
chunk_overlap = 0
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
system = "unused"
context = "unused"
no_evidence_en = "unused"
no_evidence_ko = "unused"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """One row of the table."""

    chunks: int
    terms_per_chunk: float
    ingest_per_s: float
    upsert_per_s: float
    index_ms: tuple[float, float]
    search_ms: tuple[float, float]
    open_s: float
    memory_mib: tuple[float, float, float]
    disk_mib: float


class Words:
    """Words by Zipf's law; the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._words = [self._word(number) for number in range(VOCABULARY)]
        self._cumulative = list(itertools.accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))

    def text(self, characters: int) -> str:
        """Sentences of ten words, at least so many characters."""
        parts: list[str] = []
        length = 0
        while length < characters:
            chosen = self._random.choices(self._words, cum_weights=self._cumulative, k=10)
            parts.append(" ".join(chosen) + ". ")
            length += len(parts[-1])
        return "".join(parts)

    def question(self) -> str:
        """Five words, the most common ones left out as a question would."""
        first = 20
        return " ".join(
            self._random.choices(
                self._words[first:],
                cum_weights=[
                    weight - self._cumulative[first - 1] for weight in self._cumulative[first:]
                ],
                k=5,
            )
        )

    def _word(self, number: int) -> str:
        if number % 2:
            return "".join(self._random.choices("bdfghjklmnprstvz", k=1)) + "".join(
                self._random.choices("aeiou", k=1) + self._random.choices("bcdfgklmnprst", k=4)
            )
        syllables = self._random.randrange(2, 5)
        return "".join(chr(0xAC00 + self._random.randrange(11172)) for _ in range(syllables))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--searches", type=int, default=300)
    arguments = parser.parse_args()
    results = []
    for chunks in arguments.chunks:
        with TemporaryDirectory() as folder:
            os.chdir(folder)
            results.append(measure(Path(folder), chunks, arguments.searches))
            os.chdir("/")
    print_table(results)


def measure(root: Path, chunks: int, searches: int) -> Result:
    """Fill an index with so many chunks, restart its process, search."""
    (root / "rag.toml").write_text(CONFIG, encoding="utf-8")
    config = load(root / "rag.toml")
    signature = index_signature(config.tuning, None)
    words = Words(seed=1)
    library = SqliteLibrary(config.storage.data)
    process, _ = start(config, signature)
    ingest_per_s, upsert_per_s = fill(config, library, signature, words, chunks)
    stop(process)
    process, open_s = start(config, signature)
    questions = [words.question() for _ in range(searches)]
    index_ms, search_ms = asyncio.run(search(config, library, signature, questions))
    statistics = library.statistics(signature)
    memory = (*sorted(map(peak_mib, family(process.pid))), peak_mib(os.getpid()))
    stop(process)
    return Result(
        statistics.chunks,
        statistics.average_length,
        ingest_per_s,
        upsert_per_s,
        index_ms,
        search_ms,
        open_s,
        (memory[0], memory[-2], memory[-1]),
        folder_mib(config.storage.data / "index"),
    )


def fill(
    config: Config, library: SqliteLibrary, signature: str, words: Words, chunks: int
) -> tuple[float, float]:
    """Chunks per second of the whole way in, and of the requests to the index alone."""
    tuning = config.tuning
    vectors = TimedWriter(config.storage.vectors_socket, signature)
    indexer = ChunkIndexer(
        library,
        vectors,
        signature,
        lambda parsed: chunk_document(parsed, tuning.chunk_size, tuning.chunk_overlap),
        k1=tuning.bm25_k1,
        b=tuning.bm25_b,
    )
    spent = 0.0
    while library.statistics(signature).chunks < chunks:
        text = words.text(tuning.chunk_size * CHUNKS_PER_DOCUMENT)
        started = time.perf_counter()
        add(library, indexer, text)
        spent += time.perf_counter() - started
    done = library.statistics(signature).chunks
    return done / spent, done / vectors.spent_s


def add(library: SqliteLibrary, indexer: ChunkIndexer, text: str) -> None:
    """One document, from its text to the index."""
    name = f"document {time.monotonic_ns()}"
    library.add(name, Origin.RELEASE, Path(name), "0", len(text))
    (claim,) = library.claim(1, 0, 1)
    indexer.index_many([Reading(claim, ParsedDocument(text, (Segment(0, len(text)),)))])


class TimedWriter(VectorWriterClient):
    """Adds up the time of its upserts."""

    spent_s = 0.0

    def upsert(self, points: Sequence[Point]) -> None:
        started = time.perf_counter()
        super().upsert(points)
        self.spent_s += time.perf_counter() - started


async def search(
    config: Config, library: SqliteLibrary, signature: str, questions: Sequence[str]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """p50 and p99 in milliseconds of the index alone, and of the whole search."""
    reader = VectorReaderClient(config.storage.vectors_socket, signature)
    searcher = HybridSearcher(library, reader, signature, config.tuning)

    async def index_alone(question: str) -> object:
        query = sparse_query(distinct_words(question))
        return await reader.search(query, None, config.tuning.candidates)

    async def whole(question: str) -> object:
        return await searcher.search(question, config.tuning.top_k)

    timed = await timings(index_alone, questions), await timings(whole, questions)
    await reader.close()
    return timed


async def timings(
    call: Callable[[str], Awaitable[object]], questions: Sequence[str]
) -> tuple[float, float]:
    """p50 and p99 in milliseconds, after one call to warm up."""
    await call(questions[0])
    taken = []
    for question in questions:
        started = time.perf_counter()
        await call(question)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    return taken[len(taken) // 2], taken[min(len(taken) - 1, len(taken) * 99 // 100)]


def start(config: Config, signature: str) -> tuple[subprocess.Popen[bytes], float]:
    """The vectors process, and seconds until its index was open."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "rag_app", "vectors", "--config", "rag.toml"],
        env={**os.environ, "PYTHONPATH": str(APPLICATION)},
    )
    client = VectorWriterClient(config.storage.vectors_socket, signature)
    client.ensure()
    client.close()
    return process, time.perf_counter() - started


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it and wait."""
    process.terminate()
    process.wait(timeout=60)


def family(pid: int) -> Iterator[int]:
    """The process and its children."""
    yield pid
    yield from map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def peak_mib(pid: int) -> float:
    """The most memory the process ever held, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def folder_mib(folder: Path) -> float:
    """Disk blocks in use below a folder, in MiB."""
    files = (file.stat() for file in folder.rglob("*") if file.is_file())
    return sum(status.st_blocks * 512 for status in files) / 2**20


def print_table(results: Sequence[Result]) -> None:
    """One row for each size."""
    heads = (
        "chunks",
        "terms/chunk",
        "ingest/s",
        "upsert/s",
        "index p50/p99 ms",
        "search p50/p99 ms",
        "open s",
        "MiB api/engine/caller",
        "disk MiB",
    )
    print(" | ".join(heads))
    for row in results:
        cells = (
            f"{row.chunks:,}",
            f"{row.terms_per_chunk:.0f}",
            f"{row.ingest_per_s:,.0f}",
            f"{row.upsert_per_s:,.0f}",
            f"{row.index_ms[0]:.2f} / {row.index_ms[1]:.2f}",
            f"{row.search_ms[0]:.2f} / {row.search_ms[1]:.2f}",
            f"{row.open_s:.1f}",
            " / ".join(f"{amount:.0f}" for amount in row.memory_mib),
            f"{row.disk_mib:.0f}",
        )
        print(" | ".join(cell.rjust(len(head)) for cell, head in zip(cells, heads, strict=True)))


if __name__ == "__main__":
    main()
