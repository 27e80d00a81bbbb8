"""The library: `rag_app.interfaces.Library` over one SQLite file, and what the indexer needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import orjson

from rag_app.errors import Superseded
from rag_app.interfaces import Claim, StoredChunk
from rag_app.library.database import Database
from rag_app.library.documents import DocumentTables
from rag_app.model import Chunk, DocumentState, ParsedDocument

_CORPUS = "corpus"


class SqliteLibrary(DocumentTables):
    """`folder` is `storage.data`; holds `library.sqlite` and `files/`. Raises `LibraryUnusable`."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "files"
        self.database = Database(folder / "library.sqlite")

    def close(self) -> None:
        """Close all connections."""
        self.database.close()

    def store(
        self, claim: Claim, parsed: ParsedDocument, signature: str, chunks: Sequence[Chunk]
    ) -> list[StoredChunk]:
        """See `rag_app.interfaces.Library.store`."""
        with self.database.transaction() as connection:
            self.put_text(connection, claim, parsed)
            self.put_chunks(connection, claim.document.id, signature, chunks)
        return self.chunks_of(claim.document.id, signature)

    def store_chunks(
        self, document_id: str, signature: str, chunks: Sequence[Chunk]
    ) -> list[StoredChunk]:
        """See `rag_app.interfaces.Library.store_chunks`."""
        with self.database.transaction() as connection:
            if self.get(document_id) is None:
                raise Superseded(f"document {document_id} was removed meanwhile")
            self.put_chunks(connection, document_id, signature, chunks)
        return self.chunks_of(document_id, signature)

    def finish(self, claim: Claim, signature: str, average_length: float) -> bool:
        """Mark a claimed document as indexed and READY; False if it was replaced or removed."""
        with self.database.transaction() as connection:
            return self.put_complete(
                connection, claim.document.id, signature, average_length
            ) and self.put_state(connection, claim, DocumentState.READY)

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
