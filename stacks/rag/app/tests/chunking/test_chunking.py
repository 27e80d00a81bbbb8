"""Chunks: slices of the text, bounded, covering, cut where a reader would cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.chunking import chunk_document
from rag_app.model import Chunk, ParsedDocument, Segment

_PATHS = st.lists(st.sampled_from(["가", "A", "B"]), max_size=3).map(tuple)
_TEXTS = st.lists(st.sampled_from([*"a가. \n`다—", "\n    "]), max_size=400).map("".join)


def document(*sections: tuple[tuple[str, ...], str], pages: bool = False) -> ParsedDocument:
    """A document of (heading path, text) sections, joined as the parsers join them."""
    text, segments = "", []
    for number, (path, body) in enumerate(sections, start=1):
        end = len(text) + len(body)
        segments.append(Segment(len(text), end, number if pages else None, path))
        text += body
    return ParsedDocument(text, tuple(segments))


def texts(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


@given(st.lists(st.tuples(_PATHS, _TEXTS), max_size=5), st.integers(10, 90), st.integers(0, 60))
def test_chunks_are_bounded_slices_that_cover_all_text(sections, size, overlap):
    parsed = document(*sections)
    chunks = chunk_document(parsed, size, overlap)
    covered: set[int] = set()
    for ordinal, chunk in enumerate(chunks):
        assert chunk.ordinal == ordinal
        assert chunk.text == parsed.text[chunk.start : chunk.end]
        assert chunk.text == chunk.text.rstrip()
        assert chunk.text.lstrip() == chunk.text or chunk.text.startswith("    ")
        assert 0 < len(chunk.text) <= size
        covered.update(range(chunk.start, chunk.end))
    assert all(parsed.text[i].isspace() for i in set(range(len(parsed.text))) - covered)


@given(st.lists(st.tuples(_PATHS, _TEXTS), max_size=5), st.integers(10, 90), st.integers(0, 60))
def test_every_chunk_reaches_further_than_the_one_before(sections, size, overlap):
    chunks = chunk_document(document(*sections), size, overlap)
    for before, chunk in pairwise(chunks):
        assert before.start < chunk.start
        assert before.end < chunk.end


@given(st.lists(_TEXTS, min_size=1, max_size=4), st.integers(10, 500))
def test_no_chunk_crosses_a_page(pages, size):
    parsed = document(*(((), page) for page in pages), pages=True)
    for chunk in chunk_document(parsed, size, 5):
        page = parsed.segments[chunk.page - 1]
        assert page.start <= chunk.start
        assert chunk.end <= page.end


def test_small_siblings_share_a_chunk_under_their_parent():
    parsed = document(
        (("Guide", "Start"), "Start\n\nRun it.\n\n"), (("Guide", "Stop"), "Stop\n\nEnd it.")
    )
    (chunk,) = chunk_document(parsed, 100, 0)
    assert chunk.text == parsed.text
    assert chunk.heading_path == ("Guide",)


def test_top_level_headings_never_share_a_chunk():
    parsed = document((("One",), "One\n\nx.\n\n"), (("Two",), "Two\n\ny."))
    assert texts(chunk_document(parsed, 500, 0)) == ["One\n\nx.", "Two\n\ny."]


def test_large_siblings_stay_apart():
    parsed = document(
        (("G", "A"), "A\n\n" + "word " * 10 + "\n\n"), (("G", "B"), "B\n\n" + "word " * 10)
    )
    assert [chunk.heading_path for chunk in chunk_document(parsed, 120, 0)] == [
        ("G", "A"),
        ("G", "B"),
    ]


def test_a_heading_without_text_goes_with_the_section_below_it():
    parsed = document(
        (("G", "Intro"), "Intro\n\nShort.\n\n"),
        (("G", "Operate"), "Operate\n\n"),
        (("G", "Operate", "Roll back"), "Roll back\n\n" + "Do this. " * 8),
    )
    chunks = chunk_document(parsed, 100, 0)
    assert chunks[0].text == "Intro\n\nShort."
    assert chunks[1].text.startswith("Operate\n\nRoll back\n\nDo this.")
    assert chunks[1].heading_path == ("G", "Operate", "Roll back")


def test_a_heading_is_not_left_alone_before_a_long_paragraph():
    parsed = document((("G",), "G\n\n" + "One sentence here. " * 10))
    assert chunk_document(parsed, 60, 0)[0].text.startswith("G\n\nOne sentence here.")


def test_cuts_fall_between_paragraphs_then_sentences_then_words():
    paragraphs = document(((), "First one.\n\nSecond one. Third one."))
    assert texts(chunk_document(paragraphs, 24, 0)) == ["First one.", "Second one. Third one."]
    sentences = document(((), "첫 문장이다. 둘째 문장이다. 셋째 문장이다."))
    assert texts(chunk_document(sentences, 20, 0)) == [
        "첫 문장이다. 둘째 문장이다.",
        "셋째 문장이다.",
    ]
    assert texts(chunk_document(document(((), "alpha beta gamma")), 11, 0)) == [
        "alpha beta",
        "gamma",
    ]
    assert texts(chunk_document(document(((), "x" * 25)), 10, 0)) == ["x" * 10, "x" * 10, "x" * 5]


@pytest.mark.parametrize(
    "code", ["```sh\none\n\ntwo\n\nthree\n```", "    one.\n\n      two\n    three\n\n    four"]
)
def test_a_code_block_with_empty_lines_stays_whole_when_it_fits(code):
    parsed = document(((), "Before the code there is text.\n\n" + code + "\n\nAfter it."))
    assert code in texts(chunk_document(parsed, len(code) + 2, 0))


def test_a_code_block_that_does_not_fit_is_cut_between_its_lines_which_stay_indented():
    parsed = document(((), "Before it.\n\n    one.\n    two\n\n    three\n      four"))
    assert texts(chunk_document(parsed, 20, 0)) == [
        "Before it.",
        "    one.\n    two",
        "    three\n      four",
    ]


def test_a_shorter_fence_inside_does_not_end_a_code_block():
    code = "````\n```\ninner\n\n```\n````"
    parsed = document(((), "Some words before.\n\n" + code + "\n\nAfter."))
    assert code in texts(chunk_document(parsed, len(code) + 1, 0))


def test_overlap_repeats_whole_sentences_of_the_chunk_before():
    parsed = document(((), "A first one. A second one. A third one. A fourth one."))
    chunks = chunk_document(parsed, 40, 15)
    assert texts(chunks) == [
        "A first one. A second one. A third one.",
        "A third one. A fourth one.",
    ]


def test_overlap_never_makes_a_chunk_too_long():
    parsed = document(((), "A. " * 20 + "\n\n" + "x" * 90))
    assert [len(chunk.text) for chunk in chunk_document(parsed, 100, 40)] == [59, 98]


def test_overlap_does_not_begin_inside_a_sentence_unless_the_cut_does():
    whole = document(((), "One quite long sentence stands here. " * 2))
    assert texts(chunk_document(whole, 50, 20))[1].startswith("One quite")
    cut = document(((), "one endless sentence without any stop whatever it says"))
    assert texts(chunk_document(cut, 40, 10))[1].startswith("any stop whatever")


def test_an_empty_document_has_no_chunks():
    assert chunk_document(ParsedDocument("", ()), 100, 10) == []
