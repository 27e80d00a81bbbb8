"""Plain text, Korean encodings, and telling kinds of files apart."""

from __future__ import annotations

import unicodedata

import pytest
from document_files import archive, written
from reading import read, refusal

from rag_app.parsing.limits import Limits

KOREAN = "개인정보의 안전성 확보조치 기준\n제1조(목적) 이 기준은 최소한의 기준을 정한다.\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp949", "euc-kr", "utf-16", "utf-16-le", "utf-16-be"]
)
def test_korean_text_in_every_usual_encoding(tmp_path, encoding):
    assert read(written(tmp_path, "a.txt", KOREAN.encode(encoding))).text == KOREAN.strip()


def test_cp949_syllables_outside_euc_kr(tmp_path):
    assert read(written(tmp_path, "a.txt", "뷁 똠방각하 펲시콜라".encode("cp949"))).text.startswith(
        "뷁"
    )


@pytest.mark.parametrize(
    "data",
    [
        "中文文件测试。".encode("gbk"),
        "café über".encode("latin-1"),
        b"\xff\xfe\x00\xd8",
        b"ab\x81\x20c",
    ],
)
def test_other_encodings_are_refused_not_guessed(tmp_path, data):
    assert refusal(written(tmp_path, "a.txt", data)) == "unknown-encoding"


def test_a_korean_file_name_with_spaces_in_either_form(tmp_path):
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "회의록 2026년 3월 (최종).txt")
        assert read(written(tmp_path, name, "내용")).text == "내용"


@pytest.mark.parametrize(
    ("name", "data", "reference"),
    [
        ("a.md", b"", "empty-file"),
        ("a.md", b" \n\t\n", "no-text"),
        ("a.txt", bytes(range(256)) * 4, "unknown-format"),
        ("a.txt", b"\x00\x01\x02\x03" * 50, "unknown-format"),
        ("a.png", b"\x89PNG\r\n\x1a\n0000", "unknown-format"),
        ("a.pdf", b"not a pdf", "damaged-pdf"),
        ("a.docx", b"not a docx", "broken-docx"),
        ("a.zip", archive({"x.txt": b"x"}), "unknown-format"),
        ("a.xlsx", archive({"xl/workbook.xml": b"<x/>"}), "unknown-format"),
        ("a.hwpx", archive({"Contents/section0.xml": b"<x/>"}), "unknown-format"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "unknown-format"),
        (
            "a.docx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"),
            "encrypted-office",
        ),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, data, reference):
    assert refusal(written(tmp_path, name, data)) == reference


def test_content_decides_before_the_extension(tmp_path):
    page = read(written(tmp_path, "page.txt", "<!DOCTYPE html><h1>Top</h1><p>x</p>"))
    assert page.segments[0].heading_path == ("Top",)


@pytest.mark.parametrize("text", ["MZ세대 보고서", "PKI 안내", "A file that starts with %PDF-1.7"])
def test_words_that_look_like_other_formats_are_words(tmp_path, text):
    assert read(written(tmp_path, "a.md", text)).text == text


def test_too_large_and_too_long(tmp_path):
    file = written(tmp_path, "a.txt", "word " * 100)
    assert refusal(file, Limits(file_bytes=499)) == "too-large"
    assert refusal(file, Limits(text_file_bytes=499)) == "too-large"
    assert refusal(file, Limits(characters=400)) == "too-long"
