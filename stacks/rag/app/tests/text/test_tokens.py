"""The same thing said in other forms gives common terms; different things do not."""

from __future__ import annotations

import subprocess
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.text import korean, loanwords
from rag_app.text.tokens import count_terms, term_id, words


def stems(text: str) -> set[int]:
    return {word.stem for word in words(text)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("upgrade", "Upgrading"),
        ("문서를", "문서의"),
        ("업그레이드하려면", "업그레이드가"),
        ("rolled back", "rollback"),
        ("Back up", "backups"),
        ("GPU에서는", "gpu"),
        ("ＧＰＵ", "GPU"),
        ("gate's", "gate"),
    ],
)
def test_forms_of_one_word_share_their_stem(one: str, other: str) -> None:
    assert stems(one) == stems(other) != set()


@pytest.mark.parametrize(
    ("part", "whole"),
    [("lock", "models.lock"), ("chunk", "chunk_size"), ("삭제", "문서삭제"), ("값", "값을")],
)
def test_a_part_is_found_in_the_whole(part: str, whole: str) -> None:
    assert stems(part) <= count_terms(whole).keys()


def test_a_compound_is_a_term_of_its_own() -> None:
    assert stems("models.lock") != stems("models lock")


@pytest.mark.parametrize(
    "text",
    ["How do I do this?", "What is it?", "어떻게 하나요?", "무엇인가요", "이제 뭘 해야 할까요", ""],
)
def test_a_question_of_grammar_alone_has_no_words(text: str) -> None:
    assert list(words(text)) == []


def test_filler_counts_less_than_content() -> None:
    weights = {word.surface: word.weight for word in words("use the printer")}
    assert weights["use"] < weights["printer"]


def test_possibility_is_not_a_capital_city() -> None:
    assert stems("할 수도 있습니다").isdisjoint(stems("프랑스의 수도는"))


def test_decomposed_hangul_is_the_same_text() -> None:
    text = "업그레이드 되돌리기"
    assert count_terms(unicodedata.normalize("NFD", text)) == count_terms(text)


def test_invisible_characters_split_no_word() -> None:
    assert count_terms("roll\u200bback") == count_terms("rollback")


def test_loanwords_are_alternatives_in_both_directions() -> None:
    docker, korean_docker = next(words("Docker")), next(words("도커가"))
    assert korean_docker.stem in docker.alternatives
    assert docker.stem in korean_docker.alternatives


def test_every_loanword_is_its_own_stem() -> None:
    table = loanwords._TABLE.split()[::2]
    assert [word for word in table if korean.stem(word) != word] == []


def test_verbs_are_known_as_predicates_and_names_are_not() -> None:
    kinds = {word.surface: word.predicate for word in words("삭제하려면 프린터를 restarting nginx")}
    assert kinds == {"삭제하려면": True, "프린터를": False, "restarting": True, "nginx": False}


def test_encoded_data_is_not_indexed() -> None:
    assert count_terms("A" * 65) == {}


def test_term_ids_do_not_depend_on_the_process() -> None:
    code = "from rag_app.text.tokens import term_id; print(term_id('upgrad'), term_id('문서'))"
    printed = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.split() == [str(term_id("upgrad")), str(term_id("문서"))]
    assert term_id("upgrad") == 1927193441


@given(st.text(max_size=300))
def test_any_text_gives_valid_terms(text: str) -> None:
    counts = count_terms(text)
    assert all(0 <= term < 2**32 and count > 0 for term, count in counts.items())
