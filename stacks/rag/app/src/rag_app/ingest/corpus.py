"""Makes the library hold exactly the documents that came with the release."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rag_app.errors import ConfigError
from rag_app.interfaces import Library
from rag_app.model import Origin

# What has a reader; pictures and the like that lie beside documents are no documents.
READABLE = frozenset({".md", ".markdown", ".txt", ".html", ".htm", ".xhtml", ".pdf", ".docx"})


@dataclass(frozen=True, slots=True)
class CorpusChanges:
    """What reconciling did, in documents."""

    queued: int = 0
    unchanged: int = 0
    removed: int = 0


def reconcile_corpus(folder: Path | None, library: Library) -> CorpusChanges:
    """Queue new and changed documents below `folder` (by content hash), forget those that left.

    A document's name is its path below `folder`, in NFC. Vectors of forgotten documents are left
    to `Indexer.reconcile`. Raises `ConfigError` if `folder` is missing: a release that lost its
    documents must not pass for one that has none.
    """
    if folder and not folder.is_dir():
        raise ConfigError(f"corpus.path: there is no folder {folder}")
    before = {
        document.name: document
        for document in library.documents()
        if document.origin is Origin.RELEASE
    }
    present = dict(_named_files(folder)) if folder else {}
    queued = 0
    for name, path in present.items():
        known = before.get(name)
        sha256 = _digest(path)
        queued += known is None or known.sha256 != sha256
        library.add(name, Origin.RELEASE, path, sha256, path.stat().st_size)
    gone = [document for name, document in before.items() if name not in present]
    for document in gone:
        library.remove(document.id)
    return CorpusChanges(queued, len(present) - queued, len(gone))


def _named_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in READABLE and not hidden and path.is_file():
            yield unicodedata.normalize("NFC", below.as_posix()), path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
