"""Fusion by rank, and how much of a question a text covers."""

from __future__ import annotations

import pytest

from rag_app.retrieval.evidence import Focus, distinct_words, evidence, weigh
from rag_app.retrieval.fusion import fuse
from rag_app.text.tokens import count_terms, words

CHUNKS = 100


def covered(question: str, text: str, known: str = "") -> float:
    """Evidence of `text` in a library where its words and those of `known` are in ten chunks."""
    frequencies = dict.fromkeys(count_terms(f"{text} {known}"), 10)
    weighted = weigh(distinct_words(question), frequencies, CHUNKS)
    return evidence(weighted, count_terms(text).keys())


def test_scores_follow_the_formula() -> None:
    fused = fuse([(1.0, [7, 8]), (0.5, [8, 9])], k=60)
    best = 1 / 61 + 0.5 / 61
    assert fused == {
        8: pytest.approx((1 / 62 + 0.5 / 61) / best),
        7: pytest.approx((1 / 61) / best),
        9: pytest.approx((0.5 / 62) / best),
    }
    assert list(fused) == [8, 7, 9]


def test_the_first_of_the_only_lane_scores_one() -> None:
    assert fuse([(1.0, [3]), (0.7, [])], k=60) == {3: 1.0}


def test_equal_ranks_are_ordered_by_id() -> None:
    assert list(fuse([(1.0, [9]), (1.0, [2])], k=60)) == [2, 9]


def test_nothing_found_fuses_to_nothing() -> None:
    assert fuse([(1.0, []), (1.0, [])], k=60) == {}


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("How do I roll back an upgrade?", "A rollback undoes the last upgrade."),
        ("업그레이드를 되돌리려면?", "업그레이드는 이렇게 되돌립니다."),
        ("도커가 필요한가요?", "Docker is not needed."),
    ],
)
def test_another_form_of_the_words_covers_the_question(question: str, text: str) -> None:
    assert covered(question, text) > 0.7


def test_a_text_about_something_else_covers_nothing() -> None:
    assert covered("What is the capital of France?", "The box listens on a port.") == 0


def test_the_word_that_no_document_holds_counts_most() -> None:
    missing = covered("upgrade the printer", "upgrade the box")
    assert missing < 0.5 < covered("upgrade the box", "upgrade the box")


def test_an_unknown_verb_counts_less_than_an_unknown_thing() -> None:
    verb = covered("services keep crashing", "services")
    thing = covered("services of nginx", "services")
    assert verb > thing


def test_filler_alone_is_weak_evidence() -> None:
    assert covered("What time is it?", "at the same time") < 0.5


def test_half_of_a_korean_compound_is_half_the_evidence() -> None:
    assert 0 < covered("개인정보보호책임자", "개인정보", "개인정보보호책임자") < 0.7


HEADINGS = [
    "Roll back an upgrade",
    "업그레이드 되돌리기",
    "Docker 설치",
    "The store",
    "",
    "models.lock",
]


@pytest.mark.parametrize(
    "question", ["How do I roll back upgrades?", "도커 업그레이드?", "models", ""]
)
def test_focus_follows_its_formula(question: str) -> None:
    """Share of the question that the heading covers, times the share of its words that fit."""
    weighted = weigh(distinct_words(question), {}, CHUNKS)
    wanted = {term for one in weighted for term in (*one.word.terms, *one.word.alternatives)}
    focus = Focus(weighted)
    for heading in HEADINGS * 2:
        named = list(words(heading))
        fitting = sum(1 for word in named if wanted & set(word.terms))
        expected = evidence(weighted, count_terms(heading)) * fitting / max(1, len(named))
        assert focus.of(heading) == expected


def test_a_heading_is_in_focus_when_it_names_the_question_and_nothing_else() -> None:
    focus = Focus(weigh(distinct_words("What is a generation?"), {}, CHUNKS))
    exact = focus.of("What a generation is")
    assert exact == pytest.approx(1.0)
    assert exact > focus.of("Return to a particular generation") > 0
    assert focus.of("The store") == focus.of("") == 0
