"""The gate compares case by case; an average never gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aibox import content, health, lock, profile, release
from aibox.errors import Failed, Fault
from aibox.lock import Golden
from aibox.profile import GatePolicy
from aibox.verdict import CaseResult

POLICY = GatePolicy(ready_deadline_s=10, question_deadline_s=1)


def golden(name: str, *, required: bool = True, expect: str = "document") -> Golden:
    document = f"{name}.md" if expect == "document" else ""
    return Golden.model_validate(
        {
            "id": name,
            "language": "en",
            "question": f"{name}?",
            "document": document,
            "expect": expect,
            "required": required,
            "owner": "aibox",
        }
    )


def answer(*documents: str) -> dict[str, Any]:
    return {
        "grounded": bool(documents),
        "citations": [{"document": document} for document in documents],
    }


def hope() -> str:
    """Nothing has died."""
    return ""


class DoubleOfAssistant:
    """A double of the running box: answers from a table, ready after some polls."""

    def __init__(self, answers: Mapping[str, Any], ready_after: int = 0) -> None:
        self.answers, self.polls = answers, ready_after

    def ready(self) -> tuple[bool, str]:
        self.polls -= 1
        return self.polls < 0, "indexing 3 documents"

    def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
        found = self.answers[question.rstrip("?")]
        if isinstance(found, Exception):
            raise found
        return dict(found)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def run(
    assistant: DoubleOfAssistant,
    *questions: Golden,
    before: tuple[str, ...] = (),
    dying: Callable[[], str] | None = None,
):
    clock, lines = Clock(), list[str]()
    verdict = health.run(
        assistant,
        questions,
        POLICY,
        frozenset(before),
        lines.append,
        clock,
        clock.pause,
        dying=dying,
    )
    return verdict, lines


def test_the_expected_document_among_the_citations_passes() -> None:
    verdict, _ = run(DoubleOfAssistant({"a": answer("b.md", "a.md")}), golden("a"))
    assert verdict.passed
    assert [case.id for case in verdict.results] == ["a"]


def test_another_document_fails_and_is_named() -> None:
    verdict, _ = run(DoubleOfAssistant({"a": answer("b.md")}), golden("a"))
    assert not verdict.passed
    assert "cites b.md instead of a.md" in verdict.reason


def test_an_answer_without_grounds_fails_although_it_cites() -> None:
    ungrounded = {**answer("a.md"), "grounded": False}
    assert not run(DoubleOfAssistant({"a": ungrounded}), golden("a"))[0].passed


def test_a_question_without_evidence_must_not_be_answered() -> None:
    question = golden("a", expect="no-evidence")
    assert run(DoubleOfAssistant({"a": answer()}), question)[0].passed
    verdict, _ = run(DoubleOfAssistant({"a": answer("x.md")}), question)
    assert not verdict.passed
    assert "answered from x.md" in verdict.reason


def test_documents_that_people_added_may_answer_what_the_release_cannot() -> None:
    question = golden("a", expect="no-evidence")
    carried = frozenset({"ask.md", "ko/ask.md"})
    assert health.check(question, answer("menu.md"), carried) == ""
    assert "answered from ask.md" in health.check(question, answer("ask.md"), carried)
    assert "answered from" in health.check(question, answer("menu.md", "ko/ask.md"), carried)
    assert "from nothing" in health.check(question, {**answer(), "grounded": True}, carried)


def test_documents_of_a_release_are_named_as_its_golden_questions_name_them() -> None:
    tree = content.find()
    made = release.make(lock.load(tree.lockfile), profile.load(tree.profiles, "local"))
    named = {question.document for question in made.golden if question.document}
    assert named and named <= made.documents


def test_one_required_failure_blocks_however_many_pass() -> None:
    names = [f"q{number}" for number in range(50)]
    answers = {name: answer(f"{name}.md") for name in names} | {"q7": answer()}
    verdict, _ = run(DoubleOfAssistant(answers), *map(golden, names))
    assert not verdict.passed
    assert verdict.reason.startswith("q7 (required)")


def test_an_optional_question_blocks_only_when_it_was_answered_before() -> None:
    assistant, question = DoubleOfAssistant({"a": answer()}), golden("a", required=False)
    assert run(assistant, question)[0].passed
    blocked, _ = run(assistant, question, before=("a",))
    assert not blocked.passed
    assert "a (answered before, not now)" in blocked.reason


def test_a_box_that_fails_to_answer_fails_the_case() -> None:
    error = Failed("x", "the box did not answer in time", hint="h", fault=Fault.HOST)
    verdict, _ = run(DoubleOfAssistant({"a": error}), golden("a"))
    assert verdict.results[0].reason == "the box did not answer in time"


def test_a_box_that_never_gets_ready_fails_with_its_reason() -> None:
    verdict, lines = run(DoubleOfAssistant({}, ready_after=10**6), golden("a"))
    assert not verdict.passed
    assert "not ready after 10 s: indexing 3 documents" in verdict.reason
    assert len(lines) >= 2  # progress every few seconds


def test_waiting_ends_as_soon_as_the_box_is_ready() -> None:
    assert run(DoubleOfAssistant({"a": answer("a.md")}, ready_after=3), golden("a"))[0].passed


@pytest.mark.parametrize("before", [frozenset(), frozenset({"gone"})])
def test_a_question_that_was_removed_does_not_block(before: frozenset[str]) -> None:
    results = [CaseResult(id="a", passed=True)]
    assert health.judge([golden("a")], results, before).passed


class WakingEngine(DoubleOfAssistant):
    """A double whose engine answers only after some questions; quotes step in before."""

    def __init__(self, wakes_after: int) -> None:
        super().__init__({"a": answer("a.md")})
        self.asleep = wakes_after

    def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
        self.asleep -= 1
        reason = "" if self.asleep < 0 else "nobody listens there"
        return {**super().ask(question, language, timeout_s), "degraded": reason}


def test_an_engine_of_the_release_is_waited_for() -> None:
    verdict, lines = run(WakingEngine(2), golden("a"), dying=hope)
    assert verdict.passed
    assert "waiting until the engine answers (0 s)" in lines[0]


def test_a_model_elsewhere_that_fails_does_not_fail_the_gate_and_is_told() -> None:
    quoted = {**answer("a.md"), "engine": "extractive", "degraded": "It cannot be reached."}
    verdict, lines = run(DoubleOfAssistant({"a": quoted}), golden("a"))
    assert verdict.passed
    why = "quoted instead of the engine's answer: It cannot be reached."
    assert verdict.results[0].reason == why
    assert lines[-1] == f"a: passed, but {why}"


def test_quotes_are_no_answer_of_the_releases_own_engine() -> None:
    verdict, _ = run(WakingEngine(10**6), golden("a"), dying=hope)
    assert not verdict.passed
    assert verdict.reason.startswith("the engine does not answer after 10 s")


def test_an_engine_that_fails_in_between_fails_the_gate() -> None:
    class Failing(WakingEngine):
        def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
            found = super().ask(question, language, timeout_s)
            self.asleep = 1
            return found

    verdict, _ = run(Failing(0), golden("a"), dying=hope)
    assert "quoted instead of the engine's answer" in verdict.reason


def test_an_engine_of_the_site_may_be_down() -> None:
    assert run(WakingEngine(10**6), golden("a"))[0].passed


def test_a_question_without_evidence_says_nothing_of_the_engine() -> None:
    questions = golden("none", expect="no-evidence"), golden("a")
    double = WakingEngine(1)
    double.answers = {"none": {"grounded": False, "citations": []}, "a": answer("a.md")}
    assert run(double, *questions, dying=hope)[0].passed


class TwoEngines(DoubleOfAssistant):
    """A double whose small engine answers `simple` and only after some questions of its own."""

    def __init__(self, small_wakes_after: int, *names: str) -> None:
        super().__init__({name: answer(f"{name}.md") for name in names})
        self.asleep, self.asked = small_wakes_after, list[str]()

    def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
        self.asked.append(question)
        told = {"engine": "large", "route": "large-words", "degraded": ""}
        if question.startswith("simple"):
            self.asleep -= 1
            woken = {"engine": "small", "route": "simple"}
            told |= woken if self.asleep < 0 else {"route": "small-failed"}
        return {**super().ask(question, language, timeout_s), **told}


def test_both_models_that_write_are_waited_for() -> None:
    double = TwoEngines(2, "why", "why-not", "simple", "other")
    names = ("why", "why-not", "simple", "other")
    verdict, lines = run(double, *map(golden, names), dying=hope)
    assert verdict.passed
    assert double.asked[:5] == ["why?", "why-not?", *["simple?"] * 3]
    assert double.asked[5:] == [f"{name}?" for name in names]
    assert "the large model in the place of the small one: small-failed" in lines[0]


def test_a_small_model_that_never_answers_fails_the_gate() -> None:
    verdict, _ = run(TwoEngines(10**6, "simple"), golden("simple"), dying=hope)
    assert verdict.reason.startswith("the engine does not answer after 10 s: the large model")


def test_questions_that_one_model_answers_all_wait_for_no_other() -> None:
    assert run(TwoEngines(0, "why", "wherefore"), *map(golden, ("why", "wherefore")), dying=hope)[
        0
    ].passed


def test_a_small_model_that_did_not_cite_has_answered() -> None:
    double = DoubleOfAssistant({"a": {**answer("a.md"), "route": "small-uncited", "engine": "x"}})
    assert run(double, golden("a"), dying=hope)[0].passed


def test_nobody_waits_for_an_engine_that_dies_again_and_again() -> None:
    said = iter(("", "", "the service chat has died 3 times since it was started"))
    verdict, lines = run(WakingEngine(10**6), golden("a"), dying=lambda: next(said))
    assert verdict.reason == "the service chat has died 3 times since it was started"
    assert len(lines) == 2
