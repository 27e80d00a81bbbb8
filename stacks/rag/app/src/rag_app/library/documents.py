"""Documents, their files and texts, and the queue of what has to be read."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256 as sha256_hash
from pathlib import Path

import orjson

from rag_app.errors import Superseded
from rag_app.interfaces import Claim, Reading
from rag_app.library.chunks import ChunkTables
from rag_app.model import Document, DocumentState, Origin, ParsedDocument, Segment

_COLUMNS = "id, name, origin, sha256, size, state, reason, added, title, pages, chunks"
_READERS = "readers"
_BUSY = (DocumentState.PARSING.value, DocumentState.INDEXING.value)


class DocumentTables(ChunkTables):
    """`files` is the folder for the files that users gave."""

    files: Path

    def add(self, name: str, origin: Origin, source: Path, sha256: str, size: int) -> Document:
        """See `rag_app.interfaces.Library.add`."""
        document_id = identify(name, origin)
        with self.database.transaction() as connection:
            before = _row(connection, document_id)
            kept, obsolete = self._keep_file(document_id, name, origin, source, sha256, before)
            if before is None:
                self._insert(connection, document_id, name, origin)
            if before is None or _needs_reading(before, sha256):
                self._requeue(connection, document_id, sha256, size)
            connection.execute(
                "UPDATE documents SET source = ? WHERE id = ?", (str(kept), document_id)
            )
        if obsolete:
            obsolete.unlink(missing_ok=True)
        return self._existing(document_id)

    def documents(self) -> list[Document]:
        """All documents, by name."""
        rows = self.database.connection.execute(
            f"SELECT {_COLUMNS} FROM documents ORDER BY name, origin"  # noqa: S608
        )
        return [_document(row) for row in rows]

    def get(self, document_id: str) -> Document | None:
        """The document, or None."""
        row = self.database.connection.execute(
            f"SELECT {_COLUMNS} FROM documents WHERE id = ?",  # noqa: S608
            (document_id,),
        ).fetchone()
        return _document(row) if row else None

    def source(self, document_id: str) -> Path | None:
        """The original file, or None for an unknown document."""
        row = _row(self.database.connection, document_id)
        return Path(row["source"]) if row else None

    def parsed(self, document_id: str) -> ParsedDocument | None:
        """The stored text with its segments, or None when there is none (yet)."""
        row = self.database.connection.execute(
            "SELECT text, segments, title, pages FROM texts"
            " JOIN documents ON documents.id = texts.document_id WHERE document_id = ?",
            (document_id,),
        ).fetchone()
        if row is None:
            return None
        text, segments, title, pages = row
        return ParsedDocument(text, _segments(segments), title, pages)

    def text(self, document_id: str) -> str | None:
        """The stored text, or None when there is none (yet)."""
        row = self.database.connection.execute(
            "SELECT text FROM texts WHERE document_id = ?", (document_id,)
        ).fetchone()
        return str(row[0]) if row else None

    def remove(self, document_id: str) -> bool:
        """Forget the document, its texts, chunks and (a user's) file; False if unknown."""
        with self.database.transaction() as connection:
            row = _row(connection, document_id)
            if row is None:
                return False
            self.forget_chunks(connection, document_id)
            connection.execute("DELETE FROM documents WHERE id = ?", (document_id,))
        if row["origin"] == Origin.USER.value:
            Path(row["source"]).unlink(missing_ok=True)
        return True

    def pending(self) -> int:
        """How many documents are queued or being worked on."""
        row = self.database.connection.execute(
            "SELECT count(*) FROM documents WHERE state IN (?, ?, ?)",
            (DocumentState.QUEUED.value, *_BUSY),
        ).fetchone()
        return int(row[0])

    def claim(self, most: int, most_bytes: int, alone_from: int) -> list[Claim]:
        """See `rag_app.interfaces.Library.claim`."""
        with self.database.transaction() as connection:
            waiting = connection.execute(
                "SELECT id, size, attempt + 1 FROM documents WHERE state = ?"
                " ORDER BY origin, ticket LIMIT ?",
                (DocumentState.QUEUED.value, most),
            ).fetchall()
            taken = _first_fitting(waiting, most_bytes, alone_from)
            return [_take(connection, document_id) for document_id in taken]

    def hand_back(self, claims: Sequence[Claim]) -> None:
        """See `rag_app.interfaces.Library.hand_back`."""
        with self.database.transaction() as connection:
            for claim in claims:
                if self.put_state(connection, claim, DocumentState.QUEUED):
                    connection.execute(
                        "UPDATE documents SET attempt = attempt - 1 WHERE id = ?",
                        (claim.document.id,),
                    )

    def requeue_interrupted(self) -> int:
        """Queue again what a stopped worker left behind; also removes files of no document."""
        with self.database.transaction() as connection:
            changed = connection.execute(
                "UPDATE documents SET state = ? WHERE state IN (?, ?)",
                (DocumentState.QUEUED.value, *_BUSY),
            ).rowcount
            # Inside the transaction: `add` moves a file and inserts its row in one, too.
            self._sweep_files(connection)
        return changed

    def use_readers(self, version: int) -> int:
        """See `rag_app.interfaces.Library.use_readers`."""
        with self.database.transaction() as connection:
            before = connection.execute(
                "SELECT value FROM marks WHERE key = ?", (_READERS,)
            ).fetchone()
            if before == (str(version),):
                return 0
            connection.execute(
                "INSERT OR REPLACE INTO marks VALUES (?, ?)", (_READERS, str(version))
            )
            return connection.execute(
                "UPDATE documents SET state = ?, reason = '', attempt = 0 WHERE state IN (?, ?)",
                (DocumentState.QUEUED.value, DocumentState.READY.value, DocumentState.FAILED.value),
            ).rowcount

    def set_state(self, claim: Claim, state: DocumentState, reason: str = "") -> bool:
        """See `rag_app.interfaces.Library.set_state`."""
        with self.database.transaction() as connection:
            return self.put_state(connection, claim, state, reason)

    def put_state(
        self,
        connection: sqlite3.Connection,
        claim: Claim,
        state: DocumentState,
        reason: str = "",
    ) -> bool:
        """As `set_state`, within a transaction."""
        if not is_current(connection, claim):
            return False
        connection.execute(
            "UPDATE documents SET state = ?, reason = ? WHERE id = ?",
            (state.value, reason, claim.document.id),
        )
        if state is DocumentState.FAILED:
            self._drop_text(connection, claim.document.id)
        return True

    def put_text(self, connection: sqlite3.Connection, reading: Reading) -> None:
        """Replace the text of a claimed document, drop its chunks, and set READY."""
        claim, parsed = reading.claim, reading.parsed
        self._drop_text(connection, claim.document.id)
        connection.execute(
            "INSERT INTO texts VALUES (?, ?, ?)",
            (claim.document.id, parsed.text, orjson.dumps(parsed.segments).decode()),
        )
        connection.execute(
            "UPDATE documents SET title = ?, pages = ? WHERE id = ?",
            (parsed.title, parsed.pages, claim.document.id),
        )
        self.put_state(connection, claim, DocumentState.READY)

    def _drop_text(self, connection: sqlite3.Connection, document_id: str) -> None:
        self.forget_chunks(connection, document_id)
        connection.execute("DELETE FROM texts WHERE document_id = ?", (document_id,))

    def _existing(self, document_id: str) -> Document:
        document = self.get(document_id)
        if document is None:
            raise Superseded(f"document {document_id} was removed meanwhile")
        return document

    def _insert(
        self, connection: sqlite3.Connection, document_id: str, name: str, origin: Origin
    ) -> None:
        added = datetime.now(UTC).isoformat(timespec="seconds")
        connection.execute(
            "INSERT INTO documents (id, name, origin, source, sha256, size, state, added, revision,"
            " ticket) VALUES (?, ?, ?, '', '', 0, ?, ?, 0, 0)",
            (document_id, name, origin.value, DocumentState.QUEUED.value, added),
        )

    def _requeue(
        self, connection: sqlite3.Connection, document_id: str, sha256: str, size: int
    ) -> None:
        connection.execute(
            "UPDATE documents SET sha256 = ?, size = ?, state = ?, reason = '', attempt = 0,"
            " revision = revision + 1, ticket = (SELECT max(ticket) + 1 FROM documents)"
            " WHERE id = ?",
            (sha256, size, DocumentState.QUEUED.value, document_id),
        )

    def _keep_file(
        self,
        document_id: str,
        name: str,
        origin: Origin,
        source: Path,
        sha256: str,
        before: sqlite3.Row | None,
    ) -> tuple[Path, Path | None]:
        """Where the file lies from now on, and the file that it makes obsolete."""
        if origin is Origin.RELEASE:
            return source, None
        kept = self.files / f"{document_id}-{sha256[:16]}{Path(name).suffix.lower()[:16]}"
        self.files.mkdir(parents=True, exist_ok=True)
        if source != kept:
            _move_durably(source, kept)
        old = Path(before["source"]) if before else kept
        return kept, old if old != kept else None

    def _sweep_files(self, connection: sqlite3.Connection) -> None:
        if not self.files.is_dir():
            return
        # By name: the box root may have been moved, and paths may be relative to it or absolute.
        known = {Path(row[0]).name for row in connection.execute("SELECT source FROM documents")}
        for file in self.files.iterdir():
            if file.name not in known:
                file.unlink(missing_ok=True)


def identify(name: str, origin: Origin) -> str:
    """The id of a document: 16 hexadecimal digits that depend on its origin and name only."""
    return sha256_hash(f"{origin.value}\0{name}".encode()).hexdigest()[:16]


def _row(connection: sqlite3.Connection, document_id: str) -> sqlite3.Row | None:
    cursor = connection.execute("SELECT * FROM documents WHERE id = ?", (document_id,))
    cursor.row_factory = sqlite3.Row
    row: sqlite3.Row | None = cursor.fetchone()
    return row


def _needs_reading(before: sqlite3.Row, sha256: str) -> bool:
    return bool(before["sha256"] != sha256 or before["state"] == DocumentState.FAILED.value)


def _first_fitting(
    waiting: Sequence[tuple[str, int, int]], most_bytes: int, alone_from: int
) -> list[str]:
    """Ids of the first of (id, bytes, attempt) that may be taken together; at least one."""
    taken: list[str] = []
    for document_id, size, attempt in waiting:
        most_bytes -= size
        if taken and (most_bytes < 0 or attempt >= alone_from):
            break
        taken.append(document_id)
        if attempt >= alone_from:
            break
    return taken


def _take(connection: sqlite3.Connection, document_id: str) -> Claim:
    connection.execute(
        "UPDATE documents SET state = ?, attempt = attempt + 1 WHERE id = ?",
        (DocumentState.PARSING.value, document_id),
    )
    row = connection.execute(
        f"SELECT {_COLUMNS}, source, revision, attempt FROM documents WHERE id = ?",  # noqa: S608
        (document_id,),
    ).fetchone()
    *columns, source, revision, attempt = row
    return Claim(_document(tuple(columns)), Path(source), revision, attempt)


def is_current(connection: sqlite3.Connection, claim: Claim) -> bool:
    """Whether the claimed document was neither replaced nor removed since."""
    row = _row(connection, claim.document.id)
    return row is not None and bool(row["revision"] == claim.revision)


def _document(row: tuple[str, ...]) -> Document:
    document_id, name, origin, sha256, size, state, reason, added, title, pages, chunks = row
    return Document(
        document_id,
        name,
        Origin(origin),
        sha256,
        int(size),
        DocumentState(state),
        reason,
        added,
        title,
        None if pages is None else int(pages),
        int(chunks),
    )


def _segments(stored: str) -> tuple[Segment, ...]:
    return tuple(
        Segment(part["start"], part["end"], part["page"], tuple(part["heading_path"]))
        for part in orjson.loads(stored)
    )


def _move_durably(source: Path, target: Path) -> None:
    """Rename after the bytes are on the disk, so that a power cut cannot leave an empty file."""
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
