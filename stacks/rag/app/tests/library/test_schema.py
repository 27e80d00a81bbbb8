"""A library file is opened, brought forward or refused; never guessed at."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from rag_app.errors import LibraryUnusable
from rag_app.library import SqliteLibrary
from rag_app.library.schema import SCHEMA_VERSION
from rag_app.model import Origin


def test_a_newer_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    SqliteLibrary(tmp_path).close()
    with sqlite3.connect(tmp_path / "library.sqlite") as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(LibraryUnusable, match="newer version"):
        SqliteLibrary(tmp_path)


@pytest.mark.parametrize(
    "content", [b"not a database at all", b"SQLite format 3\0" + b"\xff" * 200]
)
def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "library.sqlite"
    file.write_bytes(content)
    with pytest.raises(LibraryUnusable, match="cannot be used"):
        SqliteLibrary(tmp_path)
    assert file.read_bytes() == content


def test_an_interrupted_first_start_is_finished(tmp_path: Path) -> None:
    sqlite3.connect(tmp_path / "library.sqlite").close()
    assert SqliteLibrary(tmp_path).documents() == []


def test_readers_go_on_while_a_transaction_is_open(tmp_path: Path) -> None:
    library = SqliteLibrary(tmp_path)
    library.add("a", Origin.RELEASE, Path("a"), "0", 1)
    seen: list[int] = []
    with library.database.transaction() as connection:
        connection.execute("DELETE FROM documents")
        reader = threading.Thread(target=lambda: seen.append(len(library.documents())))
        reader.start()
        reader.join(timeout=5)
    assert seen == [1]
    assert library.documents() == []


def test_a_failed_transaction_changes_nothing(tmp_path: Path) -> None:
    library = SqliteLibrary(tmp_path)
    library.add("a", Origin.RELEASE, Path("a"), "0", 1)
    with pytest.raises(ZeroDivisionError), library.database.transaction() as connection:
        connection.execute("DELETE FROM documents")
        raise ZeroDivisionError
    assert len(library.documents()) == 1


def test_what_was_written_is_on_disk_before_the_call_returns(tmp_path: Path) -> None:
    library = SqliteLibrary(tmp_path)
    pragma = library.database.connection.execute
    assert pragma("PRAGMA journal_mode").fetchone() == ("wal",)
    assert pragma("PRAGMA synchronous").fetchone() == (2,)
