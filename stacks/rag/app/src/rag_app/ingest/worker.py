"""The ingest process: takes documents from the queue, has them read, and indexes them.

Reading happens in jails, several at a time; everything else in this one thread, which is the
only writer of the index. Held in memory are one document for each reader, and a few more where
they are small.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

from rag_app.chunking import chunk_document
from rag_app.config import Config
from rag_app.embedding import EmbeddingClient
from rag_app.ending import end_after
from rag_app.errors import DocumentRefused, EmbeddingFailed, VectorsUnavailable
from rag_app.indexing import ChunkIndexer
from rag_app.ingest.corpus import reconcile_corpus
from rag_app.interfaces import Claim, Indexer, Library, Reading, VectorWriter
from rag_app.library import SqliteLibrary
from rag_app.model import DocumentState, Origin, ParsedDocument
from rag_app.parsing import PARSING_VERSION
from rag_app.parsing.jail import Jails
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import refused
from rag_app.vectors.connect import open_writer
from rag_app.vectors.signature import index_signature

log = logging.getLogger(__name__)

# A document that was being read or indexed when the worker died is tried twice more.
MAX_ATTEMPTS = 3
POLL_S = 0.2
RETRY_S = 1.0
INDEX_CHECK_S = 5.0
_MOST_READERS = 8
# Small documents are claimed and indexed many at a time, because each transaction of the library
# and each call of the index waits for the disk. These bound what is held in memory for it.
READ_AHEAD = 64
READ_AHEAD_BYTES = 1024 * 1024
TOGETHER_CHARACTERS = 200_000
# How long a document that was read waits for others at most.
TOGETHER_S = 0.5
# How long the worker may take to end after it was told to stop.
STOP_PATIENCE_S = 5.0

_Found = TypeVar("_Found")


class Stopped(Exception):
    """The worker was told to stop; not an error."""


def run(config: Config) -> None:
    """Work until SIGTERM or SIGINT. Raises `LibraryUnusable`."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    stop = threading.Event()
    threading.Thread(target=_end_in_time, args=(stop,), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    library = SqliteLibrary(config.storage.data)
    signature = index_signature(config.tuning, config.embedding)
    vectors = open_writer(config, RETRY_S)
    indexer = make_indexer(config, library, vectors, signature)
    limits = replace(Limits(), file_bytes=config.server.max_upload_bytes)
    with Jails(limits) as jails:
        Worker(config, library, vectors, indexer, jails, stop).run()
    vectors.close()
    library.close()


def _end_in_time(stop: threading.Event) -> None:
    """A call may wait for minutes for an index that does not answer.

    What is at work then is queued again at the next start, as after a crash; the jails end with
    their socket. In a thread, because a signal's handler must not start one.
    """
    stop.wait()
    end_after(STOP_PATIENCE_S)


def make_indexer(
    config: Config, library: SqliteLibrary, vectors: VectorWriter, signature: str
) -> ChunkIndexer:
    """The indexer as `config` tunes it."""
    tuning = config.tuning
    return ChunkIndexer(
        library,
        vectors,
        signature,
        lambda parsed: chunk_document(parsed, tuning.chunk_size, tuning.chunk_overlap),
        k1=tuning.bm25_k1,
        b=tuning.bm25_b,
        embedding=EmbeddingClient(config.embedding) if config.embedding else None,
    )


def reader_count() -> int:
    """How many documents are read at once: one for each processor this process may use."""
    return min(len(os.sched_getaffinity(0)), _MOST_READERS)


class Worker:
    """One ingest process. `stop` ends it at the next document or batch of chunks."""

    def __init__(
        self,
        config: Config,
        library: Library,
        vectors: VectorWriter,
        indexer: Indexer,
        jails: Jails,
        stop: threading.Event,
    ) -> None:
        self._config = config
        self._library = library
        self._vectors = vectors
        self._indexer = indexer
        self._jails = jails
        self._stop = stop
        self._readers = reader_count()
        self._pool = ThreadPoolExecutor(self._readers)
        self._reading: dict[Future[ParsedDocument], Claim] = {}
        self._read: list[Reading] = []
        self._index_by = 0.0
        self._release_queued = True
        self._marked_ready = False
        self._index = ""
        self._next_check = 0.0

    def run(self) -> None:
        """Work until `stop` is set; what is unfinished then goes back into the queue."""
        try:
            self._prepare()
            while not self._stop.is_set():
                self._step()
        except Stopped:
            pass
        finally:
            self._jails.close()
            self._pool.shutdown(cancel_futures=True)
        self._library.hand_back(self._at_work())

    def _prepare(self) -> None:
        log.info("documents are read in jails with: %s", ", ".join(self._jails.start()))
        interrupted = self._library.requeue_interrupted()
        again = self._library.use_readers(PARSING_VERSION)
        changes = reconcile_corpus(self._config.corpus.path, self._library)
        log.info(
            "corpus of the release: %s; %d interrupted documents, %d to be read again",
            changes,
            interrupted,
            again,
        )
        self._tend_index()

    def _step(self) -> None:
        self._claim_more()
        if self._reading:
            done, _ = wait(self._reading, POLL_S, FIRST_COMPLETED)
            if done and not self._read:
                self._index_by = time.monotonic() + TOGETHER_S
            for future in done:
                self._settle(future)
        else:
            self._stop.wait(POLL_S)
        if self._is_worth_indexing():
            self._index_read()
        self._tend_index()
        if not self._marked_ready and self._release_is_done():
            self._patiently(lambda: self._indexer.mark_ready(self._config.corpus_id))
            self._marked_ready = True
            log.info("the corpus %s can be searched", self._config.corpus_id)

    def _claim_more(self) -> None:
        """Keep every reader busy. Looks before it claims: looking does not lock the library."""
        at_work = self._at_work()
        last_tries = any(claim.attempt >= MAX_ATTEMPTS for claim in at_work)
        if last_tries or len(self._reading) > READ_AHEAD // 2:
            return
        room = READ_AHEAD_BYTES - sum(claim.document.size for claim in at_work)
        if room <= 0 and len(self._reading) >= self._readers:
            return
        waiting = self._library.pending() > len(at_work)
        most = READ_AHEAD - len(self._reading) if room > 0 else 1
        claims = self._library.claim(most, room, MAX_ATTEMPTS) if waiting else []
        # The release's documents are claimed first, so a user's one means none is left.
        self._release_queued = bool(claims) and claims[-1].document.origin is Origin.RELEASE
        for claim in claims:
            self._begin(claim)

    def _begin(self, claim: Claim) -> None:
        if claim.attempt > MAX_ATTEMPTS:
            self._fail(claim, refused("parser-crashed"))
        else:
            self._reading[self._pool.submit(self._jails.parse, claim.source)] = claim

    def _settle(self, future: Future[ParsedDocument]) -> None:
        claim = self._reading.pop(future)
        try:
            self._read.append(Reading(claim, future.result()))
        except DocumentRefused as refusal:
            self._fail(claim, refusal)

    def _is_worth_indexing(self) -> bool:
        """Whether what was read is enough for one go, or nothing will be added to it soon."""
        if not self._read:
            return False
        enough = sum(len(item.parsed.text) for item in self._read) >= TOGETHER_CHARACTERS
        return enough or not self._reading or time.monotonic() >= self._index_by

    def _index_read(self) -> None:
        superseded = self._patiently(lambda: self._indexer.index_many(self._read, self._progress))
        for claim in superseded:
            log.info("document %s changed while it was read", claim.document.id)
        # Only now: documents that are stopped on the way have to go back into the queue.
        self._read.clear()

    def _at_work(self) -> list[Claim]:
        return [*self._reading.values(), *(item.claim for item in self._read)]

    def _fail(self, claim: Claim, refusal: DocumentRefused) -> None:
        cause = f" ({refusal.__cause__})" if refusal.__cause__ else ""
        log.warning("document %s refused: %s%s", claim.document.id, refusal.reference, cause)
        reason = f"{refusal.reference}: {refusal}"
        if self._library.set_state(claim, DocumentState.FAILED, reason) and claim.document.chunks:
            # If this cannot be done now, the next reconciliation does it.
            with suppress(VectorsUnavailable):
                self._vectors.delete([claim.document.id])

    def _progress(self, done: int, total: int) -> None:
        log.debug("%d of %d chunks", done, total)
        if self._stop.is_set():
            raise Stopped

    def _release_is_done(self) -> bool:
        at_work = any(claim.document.origin is Origin.RELEASE for claim in self._at_work())
        return not at_work and not self._release_queued

    def _tend_index(self) -> None:
        """Every few seconds: when another index answers than before, bring it up to date."""
        if time.monotonic() < self._next_check:
            return
        index = self._patiently(self._vectors.ensure)
        if index != self._index:
            log.info("index %s: %s", index, self._patiently(self._indexer.reconcile))
            self._index, self._marked_ready = index, False
        self._next_check = time.monotonic() + INDEX_CHECK_S

    def _patiently(self, action: Callable[[], _Found]) -> _Found:
        """Do `action`, again and again while a service it needs is away; `Stopped` in the end."""
        while not self._stop.is_set():
            try:
                return action()
            except (VectorsUnavailable, EmbeddingFailed) as error:
                log.warning("waiting: %s", error)
                self._stop.wait(RETRY_S)
        raise Stopped
