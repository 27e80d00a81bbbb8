"""Sentences are spans of the text; what belongs together stays together."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.text.quotable import LONGEST, quotables
from rag_app.text.sentences import Kind, joined_prose, split


def sentences(text: str) -> list[str]:
    return [text[unit.start : unit.end] for unit in joined_prose(text, split(text))]


def quotes(text: str) -> list[str]:
    return [text[span.start : span.end] for span in quotables(text)]


def test_english_sentences_end_at_full_stops_and_not_at_abbreviations() -> None:
    text = "Use a tool, e.g. rsync. See Fig. 3 for v1.2 of it. Is it done? Yes."
    assert sentences(text) == [
        "Use a tool, e.g. rsync.",
        "See Fig. 3 for v1.2 of it.",
        "Is it done?",
        "Yes.",
    ]


def test_korean_sentences_end_also_before_a_command_in_small_letters() -> None:
    text = "먼저 계획을 확인합니다. aibox plan은 박스를 바꾸지 않습니다. 정말인가요? 네."
    assert sentences(text) == [
        "먼저 계획을 확인합니다.",
        "aibox plan은 박스를 바꾸지 않습니다.",
        "정말인가요?",
        "네.",
    ]


def test_a_sentence_wrapped_over_lines_is_one() -> None:
    text = "This sentence was wrapped by an editor that counts the\ncolumns of a line. Next one."
    assert sentences(text)[0] == text[: text.index(" Next")]


def test_headings_items_code_and_rows_are_told_apart() -> None:
    text = "Roll back\nRun this:\n- one thing\n```sh\naibox rollback\n```\n| a | b |\n"
    kinds = [unit.kind for unit in split(text)]
    assert kinds == [Kind.HEADING, Kind.PROSE, Kind.ITEM, *[Kind.CODE] * 3, Kind.ROW]


def test_indented_code_is_told_from_a_nested_list() -> None:
    text = "- one\n    - nested item\n\n    # comment\n    - name: x\n\n      done.\nIt is done."
    kinds = [unit.kind for unit in split(text)]
    assert kinds == [Kind.ITEM, Kind.ITEM, *[Kind.CODE] * 3, Kind.PROSE]


def test_a_quote_of_code_keeps_its_indentation() -> None:
    assert quotes("    if ready:\n        go()\n") == ["    if ready:\n        go()"]


@pytest.mark.parametrize("code", ["```sh\naibox rollback\n```", "    aibox rollback"])
def test_code_is_quoted_with_the_line_that_introduces_it(code: str) -> None:
    text = f"Go back\n\nIt is easy. Run this command:\n\n{code}\n"
    assert f"Run this command:\n\n{code}" in quotes(text)


def test_a_list_is_quoted_with_the_line_that_introduces_it() -> None:
    text = "Do these steps:\n1. Stop the box.\n2. Copy the folder.\n"
    assert text.strip() in quotes(text)


def test_a_long_list_is_quoted_by_items() -> None:
    items = [f"- item number {number} with some more words in it\n" for number in range(60)]
    text = "All of them:\n" + "".join(items)
    found = quotes(text)
    assert all(len(quote) <= LONGEST for quote in found)
    assert any(quote.endswith(items[-1].strip()) for quote in found)


def test_a_heading_is_never_a_quote_but_the_context_of_one() -> None:
    text = "Free disk space\n\nTo free disk space, run aibox gc.\n"
    (only,) = quotables(text)
    assert (only.heading, only.first) == ("Free disk space", True)


def test_the_rest_of_a_sentence_is_marked_as_incomplete() -> None:
    fragment, whole = quotables("and therefore it goes on. This one is whole.")
    assert (fragment.complete, whole.complete) == (False, True)


@pytest.mark.parametrize("text", ["", "\n\n", "   "])
def test_nothing_gives_nothing(text: str) -> None:
    assert quotes(text) == []


@given(st.text(st.sampled_from("aB .\n-`|#1가다?\t:"), max_size=120))
def test_units_cover_every_visible_character_in_order(text: str) -> None:
    units = split(text)
    covered = "".join(text[unit.start : unit.end] for unit in units)
    assert "".join(covered.split()) == "".join(text.split())
    assert all(one.end <= other.start for one, other in pairwise(units))
