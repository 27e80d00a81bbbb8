"""Clean text, and how blocks become text and segments."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from rag_app.parsing.builder import TABLE_BLOCK_CHARACTERS, TextBuilder
from rag_app.parsing.hygiene import clean, one_line
from rag_app.parsing.limits import Limits


def test_decomposed_hangul_is_composed():
    assert clean(unicodedata.normalize("NFD", "개인정보")) == "개인정보"


def test_characters_without_a_shape_are_removed():
    hidden = "\u200b\u200d\u202e\u2066\ufeff\u00ad\u3164\U000e0041\ufe0f\x07\ud800"
    assert clean(f"pay{hidden} now") == "pay now"


def test_all_kinds_of_line_breaks_and_spaces_become_plain():
    assert clean("a\r\nb\rc\u2028d\x0ce\u00a0f\u3000g") == "a\nb\nc\nd\ne f g"


def test_empty_lines_and_trailing_spaces_collapse():
    assert clean("a  \n \n\t\n\n b") == "a\n\n b"


@given(st.text(st.characters(codec=None, max_codepoint=0x10FFFF)))
def test_cleaning_twice_changes_nothing(text):
    assert clean(clean(text)) == clean(text)


@given(st.lists(st.tuples(st.sampled_from(["heading", "block", "code"]), st.text(max_size=20))))
def test_built_text_is_clean_and_covered_by_its_segments(parts):
    builder = TextBuilder(Limits())
    for kind, text in parts:
        if kind == "heading":
            builder.heading(1, text)
        else:
            getattr(builder, kind)(text)
    parsed = builder.finish()
    assert clean(parsed.text) == parsed.text
    assert "".join(parsed.text[part.start : part.end] for part in parsed.segments) == parsed.text


def test_heading_paths_follow_the_levels():
    builder = TextBuilder(Limits())
    for level, text in ((1, "A"), (2, "B"), (4, "C"), (2, "D"), (1, "E")):
        builder.heading(level, text)
    paths = [segment.heading_path for segment in builder.finish().segments]
    assert paths == [("A",), ("A", "B"), ("A", "B", "C"), ("A", "D"), ("E",)]


def test_a_long_table_repeats_its_header():
    builder = TextBuilder(Limits())
    builder.table([["이름", "값"], *([f"key {n}", "v" * 40] for n in range(30))])
    blocks = builder.finish().text.split("\n\n")
    assert len(blocks) > 2
    assert all(block.startswith("| 이름 | 값 |\n| key") for block in blocks)
    assert all(len(block) < TABLE_BLOCK_CHARACTERS + 80 for block in blocks)


def test_a_short_table_is_one_block():
    builder = TextBuilder(Limits())
    builder.table([["a", "b"], ["1", ""], ["", ""], ["x\ny", "2"]])
    assert builder.finish().text == "| a | b |\n| 1 |  |\n| x y | 2 |"


def test_one_line_has_no_line_break():
    assert one_line(" a\n\n b\t") == "a b"
