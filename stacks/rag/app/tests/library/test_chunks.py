"""Chunks and term statistics, for each signature apart, always exact."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_app.interfaces import Claim, Reading, Statistics
from rag_app.library import SqliteLibrary
from rag_app.library.chunks import Draft
from rag_app.model import Chunk, Origin, ParsedDocument, Segment

TERMS = st.dictionaries(st.integers(0, 2**32 - 1), st.integers(1, 9), min_size=1, max_size=5)


@pytest.fixture
def library(tmp_path: Path) -> SqliteLibrary:
    return SqliteLibrary(tmp_path)


def chunks(number: int) -> list[Chunk]:
    return [Chunk(ordinal, ordinal, ordinal + 1, "x") for ordinal in range(number)]


def claim(library: SqliteLibrary, name: str, digest: str = "0") -> Claim:
    library.add(name, Origin.RELEASE, Path(name), digest, 1)
    (taken,) = library.claim(1, 0, 1)
    return taken


def put(library: SqliteLibrary, name: str, terms: list[dict[int, int]], digest: str = "0") -> Claim:
    taken = claim(library, name, digest)
    text = "x" * len(terms)
    parsed = ParsedDocument(text, (Segment(0, len(text)),))
    first = library.reserve(len(terms), [taken])
    made = draft(taken.document.id, first, terms, Reading(taken, parsed))
    assert library.publish("s", [made], 1.0) == []
    return taken


def draft(
    document_id: str, first: int, terms: list[dict[int, int]], reading: Reading | None = None
) -> Draft:
    counts = Counter(term for one in terms for term in one)
    tokens = sum(sum(one.values()) for one in terms)
    return Draft(document_id, chunks(len(terms)), first, counts, tokens, reading)


def test_chunks_are_found_by_the_ids_that_were_reserved_for_them(library: SqliteLibrary) -> None:
    put(library, "other", [{1: 1}])
    first = library.reserve(2)
    assert library.chunks([first, first + 1]) == {}
    taken = claim(library, "a")
    reading = Reading(taken, ParsedDocument("xx", ()))
    library.publish("s", [draft(taken.document.id, first, [{1: 1}, {2: 1}], reading)], 1.0)
    found = library.chunks([first, first + 1, 999])
    assert [stored.chunk.ordinal for stored in found.values()] == [0, 1]
    assert list(found) == library.chunk_ids([taken.document.id], "s") == [first, first + 1]
    assert library.reserve(1) == first + 2


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


def test_a_document_that_is_replaced_is_not_counted_twice(library: SqliteLibrary) -> None:
    put(library, "b", [{1: 1}])
    taken = put(library, "a", [{1: 1}])
    new = draft(taken.document.id, library.reserve(1), [{2: 5}])
    expected = library.statistics_with("s", [new])
    library.publish("s", [new], 1.0)
    assert library.statistics("s") == expected == Statistics(2, 6)
    assert library.term_frequencies("s", [1, 2]) == {1: 1, 2: 1}


def test_chunks_of_a_removed_document_are_refused(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    library.remove(taken.document.id)
    late = draft(taken.document.id, library.reserve(1), [{1: 1}])
    assert library.publish("s", [late], 1.0) == [late]
    assert library.statistics("s") == Statistics(0, 0)


def test_signatures_do_not_mix(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    assert not library.indexed("other")[taken.document.id].complete
    library.publish("other", [draft(taken.document.id, library.reserve(1), [{7: 3}])], 1.0)
    assert library.term_frequencies("s", [1, 7]) == {1: 1}
    assert library.statistics("other") == Statistics(1, 3)
    assert library.indexed("s")[taken.document.id].complete
    assert library.indexed_among([taken.document.id, "unknown"], "s") == {taken.document.id}


def test_only_the_last_used_signatures_are_kept(library: SqliteLibrary) -> None:
    taken = put(library, "a", [{1: 1}])
    for name in ("old", "middle", "new"):
        library.publish(name, [draft(taken.document.id, library.reserve(1), [{1: 1}])], 1.0)
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
