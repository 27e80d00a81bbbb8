"""Chunks and what is known of their terms, for each signature apart.

New chunks come in one transaction, in which those they replace go. Their points are written
before, under ids that were reserved: a search shows what the library holds and nothing else.

A signature names everything that decides chunks and vectors (`rag_app.vectors.signature`).
Several may be kept, so that going back to an older release finds its chunks again.
"""

from __future__ import annotations

import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import orjson

from rag_app.interfaces import Reading, Statistics, StoredChunk
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


@dataclass(frozen=True, slots=True)
class Draft:
    """The next chunks of a document, which are not in the library yet.

    Chunk i gets the id `first_id` + i. `terms` says in how many of the chunks each term occurs,
    `tokens` how long they are together. `reading` is the text they were cut from; without one it
    is the text that the library holds.
    """

    document_id: str
    chunks: Sequence[Chunk]
    first_id: int
    terms: Mapping[int, int]
    tokens: int
    reading: Reading | None = None


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

    def chunk_ids(self, document_ids: Collection[str], signature: str) -> list[int]:
        """The ids of all chunks of these documents."""
        rows = self.database.connection.execute(
            "SELECT id FROM chunks WHERE signature = ?"
            " AND document_id IN (SELECT value FROM json_each(?))",
            (self._key(signature), _list(document_ids)),
        )
        return [row[0] for row in rows]

    def indexed_among(self, document_ids: Collection[str], signature: str) -> set[str]:
        """Which of these documents have chunks of this signature, and so points."""
        rows = self.database.connection.execute(
            "SELECT document_id FROM indexed WHERE signature = ?"
            " AND document_id IN (SELECT value FROM json_each(?))",
            (self._key(signature), _list(document_ids)),
        )
        return {row[0] for row in rows}

    def put_drafts(
        self,
        connection: sqlite3.Connection,
        signature: str,
        drafts: Sequence[Draft],
        average_length: float,
    ) -> None:
        """Replace the chunks of documents for one signature; they count as indexed.

        `average_length` is the one that their points were weighted with.
        """
        key = _make_key(connection, signature)
        counts: Counter[int] = Counter()
        for draft in drafts:
            _subtract(connection, draft.document_id, key)
            _replace_chunks(connection, key, draft)
            connection.execute(
                "INSERT INTO indexed VALUES (?, ?, ?, ?, ?, ?, 1)",
                (
                    draft.document_id,
                    key,
                    len(draft.chunks),
                    draft.tokens,
                    _pack(draft.terms),
                    average_length,
                ),
            )
            counts.update(draft.terms)
        number, tokens = _size(drafts)
        _add(connection, key, counts, number, tokens)

    def weighted(self, document_ids: Collection[str], signature: str, average: float) -> None:
        """Record that the points of these documents were weighted with this average length."""
        with self.database.transaction() as connection:
            connection.execute(
                "UPDATE indexed SET average_length = ? WHERE signature = ?"
                " AND document_id IN (SELECT value FROM json_each(?))",
                (average, self._key(signature), _list(document_ids)),
            )

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

    def statistics_with(self, signature: str, drafts: Sequence[Draft]) -> Statistics:
        """As `statistics`, as it will be when the drafts have replaced what is there now."""
        now = self.statistics(signature)
        replaced = self.database.connection.execute(
            "SELECT coalesce(sum(chunks), 0), coalesce(sum(tokens), 0) FROM indexed"
            " WHERE signature = ? AND document_id IN (SELECT value FROM json_each(?))",
            (self._key(signature), _list([draft.document_id for draft in drafts])),
        ).fetchone()
        number, tokens = _size(drafts)
        return Statistics(now.chunks - replaced[0] + number, now.tokens - replaced[1] + tokens)

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


def _replace_chunks(connection: sqlite3.Connection, key: int, draft: Draft) -> None:
    connection.execute(
        "DELETE FROM chunks WHERE document_id = ? AND signature = ?", (draft.document_id, key)
    )
    connection.executemany(
        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (identity, *_values(draft.document_id, key, chunk))
            for identity, chunk in enumerate(draft.chunks, start=draft.first_id)
        ),
    )
    connection.execute(
        "UPDATE documents SET chunks = ? WHERE id = ?", (len(draft.chunks), draft.document_id)
    )


def reserve_ids(connection: sqlite3.Connection, number: int) -> int:
    """The first of `number` ids that no chunk ever had or will get otherwise.

    Takes them from the counter of AUTOINCREMENT, which may be changed like any table (SQLite's
    documentation, "SQLite Autoincrement", section 2).
    """
    connection.execute(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'chunks', 0"
        " WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'chunks')"
    )
    row = connection.execute(
        "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'chunks' RETURNING seq", (number,)
    ).fetchone()
    return int(row[0]) - number + 1


def _size(drafts: Sequence[Draft]) -> tuple[int, int]:
    return sum(len(draft.chunks) for draft in drafts), sum(draft.tokens for draft in drafts)


def _list(values: Collection[str]) -> str:
    """For `json_each`: one parameter, however many values there are."""
    return orjson.dumps(list(values)).decode()


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
