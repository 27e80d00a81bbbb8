"""A small model for simple questions: who answers, what is shown, and who steps in for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from app_doubles import (
    LanguageModelDouble,
    LibraryDouble,
    SearcherDouble,
    make_answerer,
    make_config,
    make_passage,
)
from async_helpers import collected, run

from rag_app.answer import Answerer, Degraded, Event, Finished, Found, Piece, SmallModel, Void
from rag_app.conversation import Question
from rag_app.engines.openai import Usage
from rag_app.errors import EngineBusy, EngineFailed
from rag_app.model import Answer
from rag_app.prompts import load
from rag_app.retrieval import Ranking
from rag_app.routing import Limits, Router

LIMITS = Limits(max_characters=40, max_turns=0, max_documents=2, min_evidence=0.7, evidence=0.3)
SIMPLE, NOT_SIMPLE = "Where is the key?", "Why is the key there?"


def answerer(
    folder: Path,
    small: LanguageModelDouble,
    large: LanguageModelDouble | None = None,
    evidence: float = 0.9,
) -> Answerer:
    config = make_config(folder)
    searcher = SearcherDouble(LibraryDouble())
    searcher.found = [make_passage(1, "In the safe.", evidence=evidence)]
    return make_answerer(
        config,
        Ranking(searcher, None),
        large or LanguageModelDouble(["By the large one [1]."], name="large"),
        load(config.prompts),
        SmallModel(small, Router(LIMITS, ["why"])),
    )


def ask(
    folder: Path,
    small: LanguageModelDouble,
    question: str = SIMPLE,
    large: LanguageModelDouble | None = None,
) -> list[Event]:
    return run(collected(answerer(folder, small, large).events(Question(question))))


def small(*pieces: str | Usage, failure: EngineFailed | None = None) -> LanguageModelDouble:
    return LanguageModelDouble(pieces, failure, name="small")


def final(events: list[Event]) -> Answer:
    assert isinstance(events[-1], Finished)
    return events[-1].answer


def told(events: list[Event]) -> tuple[str, str, str]:
    answer = final(events)
    return answer.engine, answer.route, answer.degraded


def shown(events: Sequence[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Piece)]


def test_a_simple_question_is_answered_by_the_small_model_and_says_so(tmp_path: Path) -> None:
    events = ask(tmp_path, small("In the safe ", "[1].", Usage(9, 4)))
    assert told(events) == ("small", "simple", "")
    assert final(events).grounded
    assert isinstance(events[-1], Finished) and events[-1].usage == Usage(9, 4)


def test_another_question_is_answered_by_the_large_model_and_says_why(tmp_path: Path) -> None:
    unasked = small("no")
    events = ask(tmp_path, unasked, NOT_SIMPLE)
    assert told(events) == ("large", "large-words", "")
    assert unasked.histories == []


def test_nothing_is_shown_before_the_first_citation_and_everything_after(tmp_path: Path) -> None:
    events = ask(tmp_path, small("In ", "the ", "safe", " [1]", ". Behind", " it."))
    assert shown(events) == ["In the safe [1]", ". Behind", " it."]
    assert final(events).answer == "In the safe [1]. Behind it."


@pytest.mark.parametrize("said", ["From memory.", "It is so [7].", "I do not know"])
def test_an_answer_that_cites_nothing_is_never_shown(tmp_path: Path, said: str) -> None:
    events = ask(tmp_path, small(said))
    assert "".join(shown(events)) == "By the large one [1]."
    assert told(events) == ("large", "small-uncited", "")
    assert Void not in map(type, events)


@pytest.mark.parametrize(
    ("failure", "route"),
    [(EngineBusy("It is full.", 3), "small-busy"), (EngineFailed("It is gone."), "small-failed")],
)
def test_a_small_model_that_fails_before_a_word_costs_nothing_but_time(
    tmp_path: Path, failure: EngineFailed, route: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        events = ask(tmp_path, small(failure=failure))
    assert told(events) == ("large", route, "")
    assert not {Void, Degraded} & {type(event) for event in events}
    assert f"{route}: the large model answers instead: {failure}" in caplog.text


def test_an_empty_answer_of_the_small_model_is_a_failure(tmp_path: Path) -> None:
    assert told(ask(tmp_path, small(" \n"))) == ("large", "small-failed", "")


def test_what_was_shown_is_void_when_the_small_model_breaks_off(tmp_path: Path) -> None:
    events = ask(tmp_path, small("In the [1]", " sa", failure=EngineFailed("It broke off.")))
    kinds = [type(event) for event in events]
    assert kinds[:3] == [Found, Piece, Piece] and kinds.count(Void) == 1
    after = events[kinds.index(Void) + 1 :]
    assert "".join(shown(after)) == final(events).answer == "By the large one [1]."
    assert told(events) == ("large", "small-failed", "")


def test_quotes_answer_when_neither_model_does(tmp_path: Path) -> None:
    large = LanguageModelDouble([], EngineFailed("It cannot be reached."), name="large")
    events = ask(tmp_path, small(failure=EngineFailed("gone")), large=large)
    assert told(events) == ("extractive", "small-failed", "It cannot be reached.")
    assert final(events).answer == "In the safe. [1]"


def test_who_is_told_to_come_back_has_seen_no_text(tmp_path: Path) -> None:
    full = LanguageModelDouble([], EngineBusy("It is full.", 3), name="large")
    with pytest.raises(EngineBusy):
        ask(tmp_path, small("From memory."), large=full)
    events = ask(tmp_path, small("In [1]", failure=EngineFailed("It broke off.")), large=full)
    assert told(events) == ("extractive", "small-failed", "It is full.")


def test_leaving_ends_the_small_model(tmp_path: Path) -> None:
    model = small("a [1]", "b", "c")
    subject = answerer(tmp_path, model)

    async def leave_after_the_first_piece() -> int:
        events = subject.events(Question(SIMPLE))
        await anext(events)
        await anext(events)
        running = model.open
        await events.aclose()
        return running

    assert run(leave_after_the_first_piece()) == 1
    assert model.open == 0


def test_without_evidence_nobody_is_asked_and_there_is_no_route(tmp_path: Path) -> None:
    model = small("no")
    subject = answerer(tmp_path, model, evidence=0.29)
    events = run(collected(subject.events(Question(SIMPLE))))
    assert (final(events).route, model.histories) == ("", [])
