"""Control files: fields in order, continued lines, comments, and lines that are neither."""

from __future__ import annotations

from aibox.bundle.packages.control import paragraphs, written


def test_paragraphs_end_with_empty_lines_of_any_kind() -> None:
    found = list(paragraphs("A: 1\n\n \t\n\nB: 2\nC: 3".splitlines()))
    assert [item.fields for item in found] == [(("A", "1"),), (("B", "2"), ("C", "3"))]


def test_indented_lines_go_on_with_the_value_before() -> None:
    (found,) = paragraphs(["Description: short", " long", "\tlonger", " ."])
    assert found.get("description") == "short\nlong\nlonger\n."


def test_comments_and_nonsense_are_passed_over() -> None:
    (found,) = paragraphs([" stray", "# A: 1", "nonsense", "B: http://x"])
    assert found.fields == (("B", "http://x"),)
    assert found.get("A", "none") == "none"


def test_what_is_written_is_read_back() -> None:
    (found,) = paragraphs(written({"A": "1", "B": "2"}).splitlines())
    assert found.fields == (("A", "1"), ("B", "2"))
