"""Chunks and what is known of their terms, for each signature apart.

A signature names everything that decides chunks and vectors (`rag_app.vectors.signature`).
Several may be kept, so that going back to an older release finds its chunks again.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import orjson

from rag_app.errors import Superseded
from rag_app.interfaces import Statistics, StoredChunk
from rag_app.library.database import Database
from rag_app.model import Chunk
from rag_app.text.language import detect

_CHUNK = (
    "SELECT chunks.id, chunks.document_id, documents.name, chunks.language, ordinal, start, end,"
    " text, page, heading_path FROM chunks JOIN documents ON documents.id = chunks.document_id"
)
_COMPLETE = "JOIN indexed USING (document_id, signature) WHERE complete"


@dataclass(frozen=True, slots=True)
class IndexedDocument:
    """What `indexed` says: a document's chunks and the average length they were weighted with."""

    document_id: str
    chunks: int
    average_length: float
    complete: bool


class ChunkTables:
    """Chunks, and for each term the number of chunks it occurs in."""

    database: Database

    def chunks(self, ids: Sequence[int]) -> dict[int, StoredChunk]:
        """The completely indexed chunks with these ids that still exist; O(number of ids)."""
        rows = self.database.connection.execute(
            f"{_CHUNK} {_COMPLETE} AND chunks.id IN (SELECT value FROM json_each(?))",  # noqa: S608
            (orjson.dumps(list(ids)).decode(),),
        )
        return {row[0]: _stored(row) for row in rows}

    def chunks_of(self, document_id: str, signature: str) -> list[StoredChunk]:
        """All chunks of a document in order, whether indexed or not."""
        rows = self.database.connection.execute(
            f"{_CHUNK} WHERE document_id = ? AND signature = ? ORDER BY ordinal",
            (document_id, self._key(signature)),
        )
        return [_stored(row) for row in rows]

    def put_chunks(
        self,
        connection: sqlite3.Connection,
        document_id: str,
        signature: str,
        chunks: Sequence[Chunk],
    ) -> None:
        """Replace the chunks of a document for one signature; they count as not yet indexed."""
        key = _make_key(connection, signature)
        _subtract(connection, document_id, key)
        connection.execute(
            "DELETE FROM chunks WHERE document_id = ? AND signature = ?", (document_id, key)
        )
        connection.executemany(
            "INSERT INTO chunks (document_id, signature, ordinal, start, end, text, page,"
            " heading_path, language) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_values(document_id, key, chunk) for chunk in chunks),
        )
        connection.execute(
            "UPDATE documents SET chunks = ? WHERE id = ?", (len(chunks), document_id)
        )

    def count_terms(
        self, document_id: str, signature: str, chunks: Iterable[Mapping[int, int]]
    ) -> Statistics:
        """Record the terms of each of a document's chunks; the new totals of the signature.

        Raises `Superseded` if the document has lost its chunks meanwhile.
        """
        counts: Counter[int] = Counter()
        number = tokens = 0
        for terms in chunks:
            counts.update(terms.keys())
            number += 1
            tokens += sum(terms.values())
        with self.database.transaction() as connection:
            key = _make_key(connection, signature)
            _require(connection, document_id, key, number)
            _subtract(connection, document_id, key)
            connection.execute(
                "INSERT INTO indexed (document_id, signature, chunks, tokens, terms)"
                " VALUES (?, ?, ?, ?, ?)",
                (document_id, key, number, tokens, _pack(counts)),
            )
            _add(connection, key, counts, number, tokens)
        return self.statistics(signature)

    def complete(self, document_id: str, signature: str, average_length: float) -> bool:
        """Mark a document as indexed, weighted with this length; False if it is gone."""
        with self.database.transaction() as connection:
            return self.put_complete(connection, document_id, signature, average_length)

    def put_complete(
        self,
        connection: sqlite3.Connection,
        document_id: str,
        signature: str,
        average_length: float,
    ) -> bool:
        """As `complete`, within a transaction."""
        changed = connection.execute(
            "UPDATE indexed SET complete = 1, average_length = ?"
            " WHERE document_id = ? AND signature = ?",
            (average_length, document_id, self._key(signature)),
        ).rowcount
        return bool(changed)

    def indexed(self, signature: str) -> dict[str, IndexedDocument]:
        """Every document that has a text, with what is known of its chunks."""
        rows = self.database.connection.execute(
            "SELECT texts.document_id, indexed.chunks, average_length, complete FROM texts"
            " LEFT JOIN indexed ON indexed.document_id = texts.document_id"
            " AND signature = ?",
            (self._key(signature),),
        )
        return {
            row[0]: IndexedDocument(row[0], row[1] or 0, row[2] or 0.0, bool(row[3]))
            for row in rows
        }

    def statistics(self, signature: str) -> Statistics:
        """Number and length of all chunks of a signature."""
        row = self.database.connection.execute(
            "SELECT chunks, tokens FROM signatures WHERE signature = ?", (signature,)
        ).fetchone()
        return Statistics(*row) if row else Statistics(0, 0)

    def term_frequencies(self, signature: str, terms: Sequence[int]) -> dict[int, int]:
        """In how many chunks each of these terms occurs; terms in none are left out."""
        rows = self.database.connection.execute(
            "SELECT term, chunks FROM terms"
            " WHERE signature = ? AND term IN (SELECT value FROM json_each(?))",
            (self._key(signature), orjson.dumps(list(terms)).decode()),
        )
        return dict(rows.fetchall())

    def use_signature(self, signature: str, kept: int) -> None:
        """Note that this signature is in use; forget all but the `kept` last used ones."""
        with self.database.transaction() as connection:
            key = _make_key(connection, signature)
            connection.execute(
                "UPDATE signatures SET last_used = ? WHERE key = ?", (time.time_ns(), key)
            )
            old = connection.execute(
                "SELECT key FROM signatures ORDER BY last_used DESC LIMIT -1 OFFSET ?", (kept,)
            ).fetchall()
            for (unused,) in old:
                connection.execute("DELETE FROM chunks WHERE signature = ?", (unused,))
                connection.execute("DELETE FROM indexed WHERE signature = ?", (unused,))
                connection.execute("DELETE FROM terms WHERE signature = ?", (unused,))
                connection.execute("DELETE FROM signatures WHERE key = ?", (unused,))

    def forget_chunks(self, connection: sqlite3.Connection, document_id: str) -> None:
        """Drop the chunks of a document for all signatures."""
        keys = connection.execute(
            "SELECT signature FROM indexed WHERE document_id = ?", (document_id,)
        ).fetchall()
        for (key,) in keys:
            _subtract(connection, document_id, key)
        connection.execute("DELETE FROM chunks WHERE document_id = ?", (document_id,))
        connection.execute("UPDATE documents SET chunks = 0 WHERE id = ?", (document_id,))

    def _key(self, signature: str) -> int:
        """The key of a signature; 0, which no row has, for an unknown one."""
        row = self.database.connection.execute(
            "SELECT key FROM signatures WHERE signature = ?", (signature,)
        ).fetchone()
        return int(row[0]) if row else 0


def _make_key(connection: sqlite3.Connection, signature: str) -> int:
    connection.execute("INSERT OR IGNORE INTO signatures (signature) VALUES (?)", (signature,))
    row = connection.execute(
        "SELECT key FROM signatures WHERE signature = ?", (signature,)
    ).fetchone()
    return int(row[0])


def _require(connection: sqlite3.Connection, document_id: str, key: int, number: int) -> None:
    row = connection.execute(
        "SELECT count(*) FROM chunks WHERE document_id = ? AND signature = ?", (document_id, key)
    ).fetchone()
    if row[0] != number:
        raise Superseded(f"document {document_id} was replaced or removed meanwhile")


def _add(
    connection: sqlite3.Connection, key: int, counts: Mapping[int, int], number: int, tokens: int
) -> None:
    # In the order of the primary key: neighbouring rows lie on the same page.
    connection.executemany(
        "INSERT INTO terms VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET chunks = chunks + excluded.chunks",
        ((key, term, count) for term, count in sorted(counts.items())),
    )
    connection.execute(
        "UPDATE signatures SET chunks = chunks + ?, tokens = tokens + ? WHERE key = ?",
        (number, tokens, key),
    )


def _subtract(connection: sqlite3.Connection, document_id: str, key: int) -> None:
    """Undo what `_add` did for a document, if it did; the row of `indexed` goes with it."""
    row = connection.execute(
        "DELETE FROM indexed WHERE document_id = ? AND signature = ?"
        " RETURNING chunks, tokens, terms",
        (document_id, key),
    ).fetchone()
    if row is None:
        return
    counts = _unpack(row[2])
    connection.executemany(
        "UPDATE terms SET chunks = chunks - ? WHERE signature = ? AND term = ?",
        ((count, key, term) for term, count in counts.items()),
    )
    connection.executemany(
        "DELETE FROM terms WHERE signature = ? AND term = ? AND chunks <= 0",
        ((key, term) for term in counts),
    )
    connection.execute(
        "UPDATE signatures SET chunks = chunks - ?, tokens = tokens - ? WHERE key = ?",
        (row[0], row[1], key),
    )


def _pack(counts: Mapping[int, int]) -> bytes:
    """Two runs of unsigned 32-bit numbers: the terms in order, then their counts."""
    terms = sorted(counts)
    return array("I", terms).tobytes() + array("I", [counts[term] for term in terms]).tobytes()


def _unpack(stored: bytes) -> dict[int, int]:
    numbers = array("I", stored)
    half = len(numbers) // 2
    return dict(zip(numbers[:half], numbers[half:], strict=True))


def _values(document_id: str, key: int, chunk: Chunk) -> tuple[object, ...]:
    path = orjson.dumps(chunk.heading_path).decode()
    place = (chunk.ordinal, chunk.start, chunk.end, chunk.text, chunk.page, path)
    return (document_id, key, *place, detect(chunk.text))


def _stored(row: tuple[object, ...]) -> StoredChunk:
    chunk_id, document_id, name, language, ordinal, start, end, text, page, path = row
    chunk = Chunk(ordinal, start, end, text, page, tuple(orjson.loads(path)))  # type: ignore[arg-type]
    return StoredChunk(chunk_id, document_id, name, language, chunk)  # type: ignore[arg-type]
