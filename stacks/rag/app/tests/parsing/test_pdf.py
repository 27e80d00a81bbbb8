"""PDF: pages, Korean text layer, lines; and the files that cannot be read."""

from __future__ import annotations

import pytest
from document_files import pdf, written
from reading import read, refusal

from rag_app.parsing.limits import Limits
from rag_app.parsing.pdf import reflow


def test_each_page_is_a_segment(tmp_path):
    parsed = read(written(tmp_path, "a.pdf", pdf(["First page."], ["Second page."], title="제목")))
    assert (parsed.pages, parsed.title) == (2, "제목")
    assert [(part.page, part.heading_path) for part in parsed.segments] == [(1, ()), (2, ())]
    assert parsed.text == "First page.\n\nSecond page."


def test_a_korean_text_layer(tmp_path):
    lines = ["개인정보 보호법", "제1조(목적) 이 법은 개인정보의 처리에 관한 사항을 정한다."]
    assert read(written(tmp_path, "법.pdf", pdf(lines))).text == "\n".join(lines)


def test_a_page_without_text_keeps_the_numbers_of_the_others(tmp_path):
    parsed = read(written(tmp_path, "a.pdf", pdf(["one"], [], ["three"])))
    assert [part.page for part in parsed.segments] == [1, 3]


@pytest.mark.parametrize(
    ("data", "reference"),
    [
        (pdf(["secret"], password="p"), "encrypted-pdf"),
        (pdf([], []), "no-text-layer"),
        (b"%PDF-1.7 and then nothing", "damaged-pdf"),
        (pdf(["text"])[:200], "damaged-pdf"),
    ],
    ids=["encrypted", "scan", "damaged", "cut short"],
)
def test_unreadable_pdfs_are_refused(tmp_path, data, reference):
    assert refusal(written(tmp_path, "a.pdf", data)) == reference


def test_too_many_pages_are_refused(tmp_path):
    path = written(tmp_path, "a.pdf", pdf(["1"], ["2"], ["3"]))
    assert refusal(path, Limits(pages=2)) == "too-many-pages"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("an exam\ufffe\r\nple of it", "an example of it"),
        ("an exam-\r\nple of it", "an example of it"),
        ("2024-\r\n2025 and X-\r\nRay", "2024-\n2025 and X-Ray"),
        ("a long line that goes on\r\nand ends here", "a long line that goes on and ends here"),
        (
            "A sentence ends here.\r\nAnother one begins",
            "A sentence ends here.\nAnother one begins",
        ),
        ("a long line before a list\r\n- one\r\n- two", "a long line before a list\n- one\n- two"),
        (
            "short\r\na much longer line that follows it",
            "short\na much longer line that follows it",
        ),
    ],
)
def test_lines_are_joined_only_where_they_were_wrapped(lines, text):
    assert reflow(lines) == text
