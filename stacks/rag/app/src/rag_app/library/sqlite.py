"""The library: `rag_app.interfaces.Library` over one SQLite file, and what the indexer needs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from rag_app.interfaces import Claim
from rag_app.library.chunks import Draft, reserve_ids
from rag_app.library.database import Database
from rag_app.library.documents import DocumentTables, is_current
from rag_app.model import DocumentState

_CORPUS = "corpus"


class SqliteLibrary(DocumentTables):
    """`folder` is `storage.data`; holds `library.sqlite` and `files/`. Raises `LibraryUnusable`."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.database = Database(folder / "library.sqlite")

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def reserve(self, number: int, claims: Sequence[Claim] = ()) -> int:
        """The first of `number` ids for chunks; the claimed documents become INDEXING."""
        with self.database.transaction() as connection:
            for claim in claims:
                self.put_state(connection, claim, DocumentState.INDEXING)
            return reserve_ids(connection, number)

    def publish(
        self, signature: str, drafts: Sequence[Draft], average_length: float
    ) -> list[Draft]:
        """Make all drafts searchable at once, in place of what was; gives those that are refused.

        Refused is what belongs to a document that was replaced or removed since. Documents with
        a `reading` get its text and become READY.
        """
        wanted: list[Draft] = []
        refused: list[Draft] = []
        with self.database.transaction() as connection:
            for draft in drafts:
                (wanted if _is_wanted(connection, draft) else refused).append(draft)
            for draft in wanted:
                if draft.reading:
                    self.put_text(connection, draft.reading)
            self.put_drafts(connection, signature, wanted, average_length)
        return refused

    def frequencies(
        self, signature: str
    ) -> Callable[[Sequence[int]], tuple[Mapping[int, int], int]]:
        """A function from terms to how many chunks hold each, and the number of all chunks."""
        return lambda terms: (
            self.term_frequencies(signature, terms),
            self.statistics(signature).chunks,
        )

    def corpus_ready(self, corpus: str, signature: str, index: str) -> bool:
        """Whether `mark_corpus_ready` was called with exactly these values last."""
        row = self.database.connection.execute(
            "SELECT value FROM marks WHERE key = ?", (_CORPUS,)
        ).fetchone()
        return bool(row) and orjson.loads(row[0]) == [corpus, signature, index]

    def mark_corpus_ready(self, corpus: str, signature: str, index: str) -> None:
        """Remember that all documents of this corpus are searchable in this index."""
        value = orjson.dumps([corpus, signature, index]).decode()
        with self.database.transaction() as connection:
            connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (_CORPUS, value))


def _is_wanted(connection: sqlite3.Connection, draft: Draft) -> bool:
    if draft.reading:
        return is_current(connection, draft.reading.claim)
    return bool(
        connection.execute(
            "SELECT 1 FROM texts WHERE document_id = ?", (draft.document_id,)
        ).fetchone()
    )
