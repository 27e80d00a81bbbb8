"""Korean among commands is still Korean."""

from __future__ import annotations

import pytest

from rag_app.text.language import detect


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("How do I roll back?", "en"),
        ("어떻게 되돌리나요?", "ko"),
        ("aibox rollback 명령이 뭐예요?", "ko"),
        ("The Korean word 문서 means document, as every dictionary will tell you.", "en"),
        ("42", "en"),
    ],
)
def test_language_of_a_text(text: str, language: str) -> None:
    assert detect(text) == language
