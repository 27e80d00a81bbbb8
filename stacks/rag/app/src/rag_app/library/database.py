"""The SQLite file: one connection for each thread, short write transactions."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rag_app.errors import LibraryUnusable
from rag_app.library import schema

BUSY_TIMEOUT_S = 20.0

# WAL lets readers go on while one process writes. FULL, because an upload that was acknowledged
# must survive a power cut; writes are few and small enough for one fsync each.
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA cache_size = -8192",
    "PRAGMA journal_size_limit = 67108864",
)


class Database:
    """Opens `path`, making it and its schema where missing; raises `LibraryUnusable`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._all: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            schema.prepare(self.connection, path)
        except sqlite3.DatabaseError as error:
            raise LibraryUnusable(
                f"{path} cannot be used ({error}); restore it from a copy, or move it away to"
                " begin with an empty library"
            ) from error

    @property
    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode."""
        existing: sqlite3.Connection | None = getattr(self._local, "connection", None)
        return existing or self._open()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; takes the write lock at once, so that nothing read in it can go stale."""
        connection = self.connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close the connections of all threads; no call may follow."""
        with self._guard:
            for connection in self._all:
                connection.close()
            self._all.clear()

    def _open(self) -> sqlite3.Connection:
        # Each thread uses its own connection only; `close` is the one call from elsewhere.
        connection = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        for pragma in _PRAGMAS:
            connection.execute(pragma)
        self._local.connection = connection
        with self._guard:
            self._all.append(connection)
        return connection
