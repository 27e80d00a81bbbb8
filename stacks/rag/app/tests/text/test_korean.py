"""Particles and endings go, the meaning stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.text import korean

SYLLABLES = st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3), max_size=12)


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("문서를", "문서"),
        ("문서에서는", "문서"),
        ("개인정보의", "개인정보"),
        ("업그레이드가", "업그레이드"),
        ("설치하려면", "설치"),
        ("설치됩니다", "설치"),
        ("설치된", "설치"),
        ("실패했을", "실패"),
        ("되돌립니다", "되돌리"),
        ("되돌리려면", "되돌리"),
        ("읽습니다", "읽"),
        ("읽나요", "읽"),
    ],
)
def test_inflected_words_share_a_stem(word: str, stem: str) -> None:
    assert korean.stem(word) == stem


@pytest.mark.parametrize("word", ["가을", "회의", "결과", "도로", "나이"])
def test_a_noun_of_two_syllables_keeps_what_only_looks_like_a_particle(word: str) -> None:
    assert korean.stem(word) == word


@given(SYLLABLES)
def test_stemming_twice_changes_nothing_more(word: str) -> None:
    assert korean.stem(korean.stem(word)) == korean.stem(word)


@given(SYLLABLES)
def test_a_stem_begins_like_its_word_but_for_the_last_consonant(word: str) -> None:
    stem = korean.stem(word)
    assert word.startswith(stem[:-1])


@given(SYLLABLES.filter(bool))
def test_something_is_always_left(word: str) -> None:
    assert korean.stem(word)


def test_particles_glued_to_a_latin_word_leave_nothing() -> None:
    assert [korean.stem(particle, shortest=0) for particle in ("를", "에서는", "하려면")] == [
        ""
    ] * 3


@pytest.mark.parametrize(
    ("inflected", "form"), [("옮길", "옮기"), ("옮겨", "옮기"), ("바꿔", "바꾸"), ("느린", "느리")]
)
def test_an_inflected_verb_gives_its_dictionary_form(inflected: str, form: str) -> None:
    assert form in korean.dictionary_forms(inflected)


def test_bigrams_are_the_neighbouring_pairs() -> None:
    assert korean.bigrams("업그레이드") == ("업그", "그레", "레이", "이드")
    assert korean.bigrams("값") == ("값",)
