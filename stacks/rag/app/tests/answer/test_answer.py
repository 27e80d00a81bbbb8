"""From question to answer: evidence, grounding, degradation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from app_doubles import (
    LanguageModelDouble,
    LibraryDouble,
    RerankerDouble,
    SearcherDouble,
    make_answerer,
    make_config,
    make_passage,
)
from async_helpers import collected, run

from rag_app.answer import Answerer, Degraded, Event, Finished, Found, Piece
from rag_app.conversation import Question, Turn
from rag_app.engines.openai import Usage
from rag_app.errors import EngineFailed
from rag_app.model import Answer, Passage
from rag_app.prompts import load
from rag_app.retrieval import Ranking


def answerer(
    folder: Path,
    found: Sequence[Passage],
    model: LanguageModelDouble | None = None,
    reranker: RerankerDouble | None = None,
) -> tuple[Answerer, SearcherDouble]:
    config = make_config(folder)
    searcher = SearcherDouble(LibraryDouble())
    searcher.found = list(found)
    ranking = Ranking(searcher, reranker)
    return make_answerer(config, ranking, model, load(config.prompts)), searcher


def ask(
    folder: Path,
    found: Sequence[Passage],
    model: LanguageModelDouble | None = None,
    question: Question | None = None,
    reranker: RerankerDouble | None = None,
) -> list[Event]:
    subject, _ = answerer(folder, found, model, reranker)
    return run(collected(subject.events(question or Question("How do I roll back?"))))


def final(events: list[Event]) -> Answer:
    assert isinstance(events[-1], Finished)
    return events[-1].answer


def text_of(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece))


def test_without_a_model_the_answer_is_quotes_with_citations(tmp_path: Path) -> None:
    events = ask(tmp_path, [make_passage(1, "Type aibox rollback. Then wait.")])
    answer = final(events)
    assert answer.answer == "Type aibox rollback. [1]"
    assert (answer.engine, answer.grounded, answer.degraded) == ("extractive", True, "")
    assert answer.citations[0].quote == "Type aibox rollback."


def test_passages_come_before_the_first_piece(tmp_path: Path) -> None:
    events = ask(tmp_path, [make_passage(1)])
    assert isinstance(events[0], Found)
    assert [type(event) for event in events[1:]] == [Piece, Finished]


def test_the_pieces_are_the_text_of_the_answer(tmp_path: Path) -> None:
    model = LanguageModelDouble(["Yes", " [", "2]", " and [9]", " no."])
    events = ask(tmp_path, [make_passage(1), make_passage(2)], model)
    assert text_of(events) == final(events).answer == "Yes [1] and no."


def test_markers_of_the_model_name_the_passages_they_stood_for(tmp_path: Path) -> None:
    model = LanguageModelDouble(["It is so [2]."])
    answer = final(ask(tmp_path, [make_passage(1), make_passage(2)], model))
    assert [citation.document_id for citation in answer.citations] == ["d2"]
    assert (answer.engine, answer.grounded) == ("double-model", True)


def test_an_answer_without_a_valid_marker_is_not_grounded(tmp_path: Path) -> None:
    answer = final(ask(tmp_path, [make_passage(1)], LanguageModelDouble(["From memory [4]."])))
    assert (answer.grounded, answer.citations) == (False, ())
    assert answer.answer == "From memory."


def test_below_the_threshold_no_engine_is_asked(tmp_path: Path) -> None:
    model = LanguageModelDouble()
    answer = final(ask(tmp_path, [make_passage(1, evidence=0.29)], model))
    assert answer.answer == "The documents do not hold an answer."
    assert (answer.grounded, answer.citations) == (False, ())
    assert model.histories == []


def test_at_the_threshold_the_engine_is_asked(tmp_path: Path) -> None:
    model = LanguageModelDouble()
    ask(tmp_path, [make_passage(1, evidence=0.3)], model)
    assert len(model.histories) == 1


def test_no_evidence_is_said_in_the_language_of_the_question(tmp_path: Path) -> None:
    answer = final(ask(tmp_path, [], question=Question("점심 메뉴는 무엇입니까?")))
    assert (answer.language, answer.answer) == ("ko", "문서에서 답을 찾지 못했습니다.")


def test_a_model_that_cannot_be_reached_is_replaced_and_named(tmp_path: Path) -> None:
    model = LanguageModelDouble([], EngineFailed("It cannot be reached."))
    events = ask(tmp_path, [make_passage(1, "Quote me.")], model)
    assert [type(event) for event in events] == [Found, Degraded, Piece, Finished]
    answer = final(events)
    assert (answer.engine, answer.degraded) == ("extractive", "It cannot be reached.")
    assert answer.grounded


def test_a_model_that_fails_in_the_middle_is_replaced_whole(tmp_path: Path) -> None:
    model = LanguageModelDouble(["Half an ans"], EngineFailed("It broke off."))
    events = ask(tmp_path, [make_passage(1, "Quote me.")], model)
    kinds = [type(event) for event in events]
    after = events[kinds.index(Degraded) + 1 :]
    assert text_of(after) == final(events).answer == "Quote me. [1]"


def test_the_engine_gets_what_the_reranker_likes_best(tmp_path: Path) -> None:
    model = LanguageModelDouble(["It is so [1]."])
    found = [make_passage(number, "x" * number) for number in (1, 2, 3)]
    answer = final(ask(tmp_path, found, model, reranker=RerankerDouble()))
    assert [citation.document_id for citation in answer.citations] == ["d3"]
    assert answer.degraded == ""


def test_without_the_reranker_the_order_stays_and_the_answer_says_so(tmp_path: Path) -> None:
    model = LanguageModelDouble(["It is so [1]."])
    found = [make_passage(number, "x" * number) for number in (1, 2, 3)]
    events = ask(tmp_path, found, model, reranker=RerankerDouble("It cannot be reached."))
    assert [type(event) for event in events] == [Found, Piece, Finished]  # Nothing shown is void.
    answer = final(events)
    assert [citation.document_id for citation in answer.citations] == ["d1"]
    assert (answer.engine, answer.grounded) == ("double-model", True)
    assert answer.degraded == ("It cannot be reached. Passages are in the order of the search.")


def test_when_both_models_fail_the_answer_says_both(tmp_path: Path) -> None:
    model = LanguageModelDouble([], EngineFailed("It broke off."))
    found = [make_passage(1, "Quote me."), make_passage(2)]
    answer = final(ask(tmp_path, found, model, reranker=RerankerDouble("No order.")))
    assert answer.degraded == ("It broke off. No order. Passages are in the order of the search.")


def test_an_empty_answer_counts_as_a_failure(tmp_path: Path) -> None:
    answer = final(ask(tmp_path, [make_passage(1, "Quote me.")], LanguageModelDouble([" \n"])))
    assert answer.engine == "extractive"
    assert "empty" in answer.degraded


def test_usage_is_handed_on_and_is_no_text(tmp_path: Path) -> None:
    events = ask(tmp_path, [make_passage(1)], LanguageModelDouble(["Yes [1].", Usage(9, 4)]))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage == Usage(9, 4)
    assert text_of(events) == "Yes [1]."


def test_leaving_in_the_middle_ends_the_model(tmp_path: Path) -> None:
    model = LanguageModelDouble(["a", "b", "c"])
    subject, _ = answerer(tmp_path, [make_passage(1)], model)

    async def leave_after_the_first_piece() -> int:
        events = subject.events(Question("Why?"))
        await anext(events)
        await anext(events)
        running = model.open
        await events.aclose()
        return running

    assert run(leave_after_the_first_piece()) == 1
    assert model.open == 0


def test_a_follow_up_is_searched_in_context_only_if_it_says_too_little(tmp_path: Path) -> None:
    history = (Turn("user", "How do I roll back?"), Turn("assistant", "Type aibox rollback."))
    subject, searcher = answerer(tmp_path, [])
    run(collected(subject.events(Question("And then?", history=history))))
    assert searcher.asked == ["And then?", "How do I roll back?\nAnd then?"]

    subject, searcher = answerer(tmp_path, [make_passage(1)])
    run(collected(subject.events(Question("And then?", history=history))))
    assert searcher.asked == ["And then?"]


def test_the_model_hears_the_earlier_turns(tmp_path: Path) -> None:
    model = LanguageModelDouble()
    history = (Turn("user", "Before?"),)
    ask(tmp_path, [make_passage(1)], model, Question("And now?", history=history))
    assert model.histories == [history]
