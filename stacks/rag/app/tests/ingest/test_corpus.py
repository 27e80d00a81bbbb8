"""The release's documents in the library: added, changed, removed."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from document_files import written

from rag_app.errors import ConfigError
from rag_app.ingest.corpus import CorpusChanges, reconcile_corpus
from rag_app.library import SqliteLibrary
from rag_app.model import Origin


@pytest.fixture
def library(tmp_path):
    return SqliteLibrary(tmp_path / "data")


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "documents"
    (folder / "ko").mkdir(parents=True)
    return folder


def names(library):
    return [document.name for document in library.documents()]


def test_documents_are_named_by_their_path(corpus, library):
    written(corpus, "install.md", "en")
    written(corpus / "ko", "install.md", "ko")
    assert reconcile_corpus(corpus, library) == CorpusChanges(queued=2)
    assert names(library) == ["install.md", "ko/install.md"]


def test_a_decomposed_name_is_shown_composed(corpus, library):
    written(corpus, unicodedata.normalize("NFD", "설치 안내.md"), "x")
    reconcile_corpus(corpus, library)
    assert names(library) == ["설치 안내.md"]


def test_pictures_and_hidden_files_are_no_documents(corpus, library):
    written(corpus, "diagram.png", b"\x89PNG")
    written(corpus, ".draft.md", "x")
    (corpus / ".git").mkdir()
    written(corpus / ".git", "note.md", "x")
    assert reconcile_corpus(corpus, library) == CorpusChanges()


def test_only_changed_content_is_queued_again(corpus, library):
    written(corpus, "a.md", "one")
    written(corpus, "b.md", "two")
    reconcile_corpus(corpus, library)
    written(corpus, "b.md", "three")
    assert reconcile_corpus(corpus, library) == CorpusChanges(queued=1, unchanged=1)
    changed = {document.name: document.sha256 for document in library.documents()}["b.md"]
    assert changed == hashlib.sha256(b"three").hexdigest()


def test_what_left_the_release_is_forgotten_but_not_what_users_gave(corpus, library, tmp_path):
    written(corpus, "a.md", "one")
    library.add("a.md", Origin.USER, written(tmp_path, "upload", "mine"), "0" * 64, 4)
    reconcile_corpus(corpus, library)
    (corpus / "a.md").unlink()
    assert reconcile_corpus(corpus, library) == CorpusChanges(removed=1)
    assert [document.origin for document in library.documents()] == [Origin.USER]


def test_a_missing_folder_does_not_empty_the_library(corpus, library, tmp_path):
    written(corpus, "a.md", "one")
    reconcile_corpus(corpus, library)
    with pytest.raises(ConfigError, match=r"corpus\.path"):
        reconcile_corpus(tmp_path / "gone", library)
    assert names(library) == ["a.md"]
