"""The tables, and the rule for versions: an older file is brought forward, a newer one refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rag_app.errors import LibraryUnusable

SCHEMA_VERSION = 1

# `revision` counts contents of a document, so that work on an old content is noticed as such.
# `ticket` orders the queue. `chunks.id` is also the id of a point in the index: AUTOINCREMENT,
# because an id that came back would make a stale point look like a new chunk.
# `indexed` says that all chunks of a document are in the index of a signature, with its terms: an
# old text can so be subtracted from `terms` although the tokenizer has changed since.
_VERSION_1 = """
CREATE TABLE documents (
  id TEXT PRIMARY KEY,
  name TEXT NOT NULL,
  origin TEXT NOT NULL,
  source TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  size INTEGER NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL DEFAULT '',
  added TEXT NOT NULL,
  title TEXT NOT NULL DEFAULT '',
  pages INTEGER,
  chunks INTEGER NOT NULL DEFAULT 0,
  revision INTEGER NOT NULL DEFAULT 1,
  attempt INTEGER NOT NULL DEFAULT 0,
  ticket INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX documents_by_state ON documents (state, ticket);

CREATE TABLE texts (
  document_id TEXT PRIMARY KEY REFERENCES documents (id) ON DELETE CASCADE,
  text TEXT NOT NULL,
  segments TEXT NOT NULL
);

CREATE TABLE signatures (
  key INTEGER PRIMARY KEY,
  signature TEXT NOT NULL UNIQUE,
  last_used INTEGER NOT NULL DEFAULT 0,
  chunks INTEGER NOT NULL DEFAULT 0,
  tokens INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE chunks (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  document_id TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  signature INTEGER NOT NULL REFERENCES signatures (key),
  ordinal INTEGER NOT NULL,
  start INTEGER NOT NULL,
  end INTEGER NOT NULL,
  text TEXT NOT NULL,
  page INTEGER,
  heading_path TEXT NOT NULL,
  language TEXT NOT NULL
);
CREATE INDEX chunks_by_document ON chunks (document_id, signature, ordinal);

CREATE TABLE indexed (
  document_id TEXT NOT NULL REFERENCES documents (id) ON DELETE CASCADE,
  signature INTEGER NOT NULL REFERENCES signatures (key),
  chunks INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  terms BLOB NOT NULL,
  average_length REAL NOT NULL DEFAULT 0,
  complete INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (document_id, signature)
);

CREATE TABLE terms (
  signature INTEGER NOT NULL,
  term INTEGER NOT NULL,
  chunks INTEGER NOT NULL,
  PRIMARY KEY (signature, term)
) WITHOUT ROWID;

CREATE TABLE marks (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

_STEPS = (_VERSION_1,)


def prepare(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the file to `SCHEMA_VERSION`, in one transaction; `LibraryUnusable` if it is newer."""
    if _version(connection, path) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Another process may have done it between the look and the lock.
        for step in _STEPS[_version(connection, path) :]:
            _run(connection, step)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise LibraryUnusable(
            f"{path} was written by a newer version of the application (schema {version}, this one"
            f" knows {SCHEMA_VERSION}); go back to the newer release, or restore an older copy"
        )
    return version


def _run(connection: sqlite3.Connection, step: str) -> None:
    # `executescript` would commit the transaction that makes the steps all or nothing.
    for statement in step.split(";"):
        if statement.strip():
            connection.execute(statement)
