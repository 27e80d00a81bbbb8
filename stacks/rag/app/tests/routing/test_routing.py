"""Which model answers: the same for the same question, every reason reachable, limits exact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from app_doubles import make_config, make_passage
from hypothesis import given
from hypothesis import strategies as st

from rag_app.model import Passage
from rag_app.prompts import load
from rag_app.routing import Limits, Model, Reason, Router, limits_of

PROMPTS = Path(__file__).parents[4] / "prompts"
WORDS = tuple(
    word
    for name in ("large_words.en.txt", "large_words.ko.txt")
    for word in (PROMPTS / name).read_text(encoding="utf-8").splitlines()
    if word and not word.startswith("#")
)
LIMITS = Limits(max_characters=120, max_turns=0, max_documents=2, min_evidence=0.7, evidence=0.5)
CLEAR = [make_passage(1, evidence=0.9)]


def routed(
    question: str = "Where is the key kept?",
    turns: int = 0,
    passages: list[Passage] | None = None,
    limits: Limits = LIMITS,
) -> tuple[Model, Reason]:
    route = Router(limits, WORDS).route(question, turns, passages or CLEAR)
    return route.model, route.reason


SMALL = (Model.SMALL, Reason.SIMPLE)


@pytest.mark.parametrize(
    "question",
    [
        "Where is the key kept?",
        "Which file formats can the box read?",
        "What exactly is a generation?",
        "어떤 파일 형식을 읽을 수 있나요?",
        "신입 사원의 연차는 며칠인가요?",
        "비밀번호 최소 길이는 몇 자입니까?",
    ],
)
def test_a_question_for_one_fact_is_for_the_small_model(question: str) -> None:
    assert routed(question) == SMALL


@pytest.mark.parametrize(
    "question",
    [
        "What is the difference between a rollback and a recovery?",
        "WHY was it refused?",
        "Summarise   the\tmanual",
        "API와 CLI를 compare해 주세요",
        "두 가지 방법의 차이가 뭐예요?",
        "휴가 규정을 요약해 주세요.",
        "왜 거부됐나요?",
        "지난 분기 합계는 얼마입니까?",
    ],
)
def test_what_asks_for_more_than_a_fact_is_for_the_large_model(question: str) -> None:
    assert routed(question) == (Model.LARGE, Reason.LARGE_WORDS)


def test_an_english_word_inside_another_one_is_not_that_word() -> None:
    assert routed("Who is the bestower of everything in the subtotal?") == SMALL


AGAINST: list[tuple[str, int, list[Passage], Reason]] = [
    ("Where?", 1, CLEAR, Reason.CONVERSATION),
    ("x" * 121, 0, CLEAR, Reason.LONG_QUESTION),
    ("Where is it? And who has it?", 0, CLEAR, Reason.SEVERAL_QUESTIONS),
    ("어디에 있나요？ 누가 갖고 있나요?", 0, CLEAR, Reason.SEVERAL_QUESTIONS),
    ("Compare them.", 0, CLEAR, Reason.LARGE_WORDS),
    ("Where?", 0, [make_passage(1, evidence=0.69)], Reason.WEAK_EVIDENCE),
    (
        "Where?",
        0,
        [make_passage(number, evidence=0.9) for number in (1, 2, 3)],
        Reason.SEVERAL_DOCUMENTS,
    ),
]


@pytest.mark.parametrize(("question", "turns", "passages", "reason"), AGAINST)
def test_every_reason_for_the_large_model_has_a_case(
    question: str, turns: int, passages: list[Passage], reason: Reason
) -> None:
    assert routed(question, turns, passages) == (Model.LARGE, reason)


def test_no_reason_of_the_router_is_without_a_case() -> None:
    of_caller = {reason for reason in Reason if reason.value.startswith("small-")}
    assert {reason for *_, reason in AGAINST} | of_caller | {Reason.SIMPLE} == set(Reason)


def test_up_to_a_limit_a_question_is_simple() -> None:
    assert routed(" " + "x" * 120 + "\n") == SMALL
    assert routed(turns=2, limits=replace(LIMITS, max_turns=2)) == SMALL
    assert routed(passages=[make_passage(1, evidence=0.7)]) == SMALL
    assert routed(passages=[make_passage(n, evidence=0.8) for n in (1, 2)]) == SMALL


def test_documents_without_evidence_and_passages_of_one_document_do_not_count() -> None:
    weak = [make_passage(n, evidence=0.49) for n in range(2, 9)]
    assert routed(passages=CLEAR + weak) == SMALL
    same = [make_passage(n, evidence=0.9, document_id="d1") for n in range(1, 9)]
    assert routed(passages=same) == SMALL


@given(
    st.text(max_size=200),
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 1)), min_size=1, max_size=6),
)
def test_the_same_question_goes_the_same_way(
    question: str, turns: int, found: list[tuple[int, float]]
) -> None:
    passages = [make_passage(number, evidence=evidence) for number, evidence in found]
    first = routed(question, turns, passages)
    assert first == routed(question, turns, passages)
    assert (first[0] is Model.SMALL) == (first[1] is Reason.SIMPLE)
    # Passages in another order are the same evidence.
    assert first == routed(question, turns, passages[::-1])


def test_locked_values_are_the_limits_and_without_them_nothing_is_simple(tmp_path: Path) -> None:
    tuning = make_config(tmp_path).tuning
    assert routed(limits=limits_of(tuning))[0] is Model.LARGE
    values = {"router_max_characters": 120, "router_max_turns": 0, "router_max_documents": 2}
    locked = tuning.model_copy(update={**values, "router_min_evidence": 0.0})
    found = limits_of(locked)
    assert (found.max_characters, found.min_evidence, found.evidence) == (120, 0.0, 0.3)
    assert routed(limits=found) == SMALL


def test_lists_of_words_are_read_without_what_is_for_their_readers(tmp_path: Path) -> None:
    listed = tmp_path / "words.txt"
    listed.write_text("# for people\n\nwhy\n  step by step \n", encoding="utf-8")
    prompts = make_config(tmp_path).prompts
    assert load(prompts).large_words == ()
    with_words = prompts.model_copy(update={"large_words": (listed,)})
    assert load(with_words).large_words == ("why", "step by step")
