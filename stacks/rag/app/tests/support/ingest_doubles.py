"""Doubles and helpers around the ingest worker."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from app_doubles import make_config

from rag_app.errors import VectorsUnavailable
from rag_app.ingest.worker import Worker, make_indexer
from rag_app.interfaces import Point
from rag_app.library import SqliteLibrary
from rag_app.model import Document, DocumentState
from rag_app.parsing.jail import Jails
from rag_app.vectors.signature import index_signature

DEADLINE_S = 30.0
DONE = frozenset({DocumentState.READY, DocumentState.FAILED})


class VectorWriterDouble:
    """Points in memory. `away` makes every call fail; `before` is told each call and may raise."""

    def __init__(self) -> None:
        self.points: dict[int, Point] = {}
        self.index = "index-1"
        self.away = False
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda _: None

    def ensure(self) -> str:
        self._called("ensure")
        return self.index

    def upsert(self, points: Sequence[Point]) -> None:
        self._called("upsert")
        self.points |= {point.id: point for point in points}

    def delete(self, document_ids: list[str], keep: Sequence[int] = ()) -> None:
        self._called("delete")
        self.points = {
            number: point
            for number, point in self.points.items()
            if point.document_id not in document_ids or number in keep
        }

    def counts(self) -> Mapping[str, int]:
        self._called("counts")
        return Counter(point.document_id for point in self.points.values())

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.before(name)
        if self.away:
            raise VectorsUnavailable("the double is away")


class LastingJails(Jails):
    """Real jails that several workers use one after the other; `end` closes them."""

    def close(self) -> None:
        """A worker that ends leaves them to the next one."""

    def end(self) -> None:
        """Kill zygote and jails."""
        super().close()


class IngestBox:
    """A box root with a library, the double of the vectors, and a worker to start and stop."""

    def __init__(self, folder: Path, jails: Jails, **tuning: int) -> None:
        self.jails = jails
        self.corpus = folder / "documents"
        self.corpus.mkdir(exist_ok=True)
        config = make_config(folder, corpus={"path": self.corpus})
        self.config = config.model_copy(update={"tuning": config.tuning.model_copy(update=tuning)})
        self.signature = index_signature(self.config.tuning, None)
        self.library = SqliteLibrary(self.config.storage.data)
        self.vectors = VectorWriterDouble()

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker runs in here; on leaving it is stopped as by SIGTERM."""
        stop = threading.Event()
        indexer = make_indexer(self.config, self.library, self.vectors, self.signature)
        worker = Worker(self.config, self.library, self.vectors, indexer, self.jails, stop)
        thread = threading.Thread(target=worker.run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(DEADLINE_S)
            assert not thread.is_alive()

    def run(self) -> dict[str, Document]:
        """Work until every document is READY or FAILED and the corpus is marked; all, by name."""
        before = len(self.vectors.calls)
        with self.working():
            # "counts" is the reconciliation, which follows the look at the corpus.
            wait_until(lambda: "counts" in self.vectors.calls[before:] and self.settled())
        return {document.name: document for document in self.library.documents()}

    def settled(self) -> bool:
        """Whether nothing is left to do."""
        marked = self.library.corpus_ready(self.config.release, self.signature, self.vectors.index)
        return marked and all(found.state in DONE for found in self.library.documents())

    def state(self, name: str) -> DocumentState | None:
        """Where the document stands, or None when it is not known (yet)."""
        states = {found.name: found.state for found in self.library.documents()}
        return states.get(name)


def wait_until(condition: Callable[[], bool]) -> None:
    """Poll `condition` until it holds; fails after `DEADLINE_S`."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)
