"""Chunks and term statistics, for each signature apart, always exact."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app.errors import Superseded
from rag_app.interfaces import Claim, Statistics
from rag_app.library import SqliteLibrary
from rag_app.model import Chunk, Origin, ParsedDocument, Segment

TERMS = st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 9), min_size=1, max_size=5)


@pytest.fixture
def library(tmp_path: Path) -> SqliteLibrary:
    return SqliteLibrary(tmp_path)


def chunks(number: int) -> list[Chunk]:
    return [Chunk(ordinal, ordinal, ordinal + 1, "x") for ordinal in range(number)]


def claim(library: SqliteLibrary, name: str, digest: str = "0") -> Claim:
    library.add(name, Origin.RELEASE, Path(name), digest, 1)
    taken = library.claim_next()
    assert taken is not None
    return taken


def put(library: SqliteLibrary, name: str, terms: list[dict[int, int]], digest: str = "0") -> Claim:
    taken = claim(library, name, digest)
    text = "x" * len(terms)
    parsed = ParsedDocument(text, (Segment(0, len(text)),))
    library.store(taken, parsed, "s", chunks(len(terms)))
    library.count_terms(taken.document.id, "s", terms)
    library.complete(taken.document.id, "s", 1.0)
    return taken


def test_chunks_are_found_only_when_their_document_is_complete(library: SqliteLibrary) -> None:
    taken = claim(library, "a")
    stored = library.store(taken, ParsedDocument("x", ()), "s", chunks(1))
    assert library.chunks([stored[0].id]) == {}
    library.count_terms(taken.document.id, "s", [{1: 1}])
    library.complete(taken.document.id, "s", 1.0)
    assert library.chunks([stored[0].id, 999]) == {stored[0].id: stored[0]}


def test_ids_of_chunks_never_come_back(library: SqliteLibrary) -> None:
    first = put(library, "a", [{1: 1}])
    before = {stored.id for stored in library.chunks_of(first.document.id, "s")}
    library.remove(first.document.id)
    again = put(library, "a", [{1: 1}])
    assert before.isdisjoint(stored.id for stored in library.chunks_of(again.document.id, "s"))


def test_statistics_count_chunks_and_tokens(library: SqliteLibrary) -> None:
    put(library, "a", [{1: 2, 2: 1}, {1: 1}])
    put(library, "b", [{2: 4}])
    assert library.statistics("s") == Statistics(chunks=3, tokens=8)
    assert library.statistics("s").average_length == 8 / 3
    assert library.term_frequencies("s", [1, 2, 3]) == {1: 2, 2: 2}


def test_counting_a_document_again_does_not_count_it_twice(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    library.count_terms(taken.document.id, "s", [{2: 5}])
    assert library.statistics("s") == Statistics(1, 5)
    assert library.term_frequencies("s", [1, 2]) == {2: 1}


def test_counting_terms_of_a_removed_document_is_refused(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    library.remove(taken.document.id)
    with pytest.raises(Superseded):
        library.count_terms(taken.document.id, "s", [{1: 1}])


def test_signatures_do_not_mix(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    library.store_chunks(taken.document.id, "other", chunks(1))
    library.count_terms(taken.document.id, "other", [{7: 3}])
    assert library.term_frequencies("s", [1, 7]) == {1: 1}
    assert library.statistics("other") == Statistics(1, 3)
    assert not library.indexed("other")[taken.document.id].complete
    assert library.indexed("s")[taken.document.id].complete


def test_only_the_last_used_signatures_are_kept(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    for name in ("old", "middle", "new"):
        library.store_chunks(taken.document.id, name, chunks(1))
        library.use_signature(name, kept=2)
    assert [
        bool(library.chunks_of(taken.document.id, name)) for name in ("s", "old", "middle", "new")
    ] == [
        False,
        False,
        True,
        True,
    ]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.lists(TERMS, min_size=1, max_size=3), min_size=1, max_size=4))
def test_removing_everything_leaves_no_trace_in_the_statistics(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[dict[int, int]]]
) -> None:
    library = SqliteLibrary(tmp_path_factory.mktemp("library"))
    taken = [put(library, f"d{number}", terms) for number, terms in enumerate(documents)]
    every = sorted({term for terms in documents for one in terms for term in one})
    assert set(library.term_frequencies("s", every)) == set(every)
    for one in taken:
        library.remove(one.document.id)
    assert library.term_frequencies("s", every) == {}
    assert library.statistics("s") == Statistics(0, 0)
    library.close()
