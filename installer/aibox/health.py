"""The gate: a generation is good when it answers the locked golden questions, not when it is up.

Cases are compared one by one. A required question must be answered; a question that the
previous generation answered must be answered by the new one too. An average never gates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aibox.errors import AiboxError, Failed, Fault
from aibox.lock import Golden
from aibox.profile import GatePolicy
from aibox.progress import ticking
from aibox.verdict import CaseResult, Verdict

NO_EVIDENCE = "no-evidence"
"""What a question expects that the documents do not answer; no engine is asked then."""
EXTRACTIVE = "extractive"
"""The application's own engine, as answers name it: quotes."""
_NO_SMALL = ("small-failed", "small-busy")
"""Routes of answers that the small model owed. That it did not cite is no failure of the engine."""
_POLL_S = 0.2
_PROGRESS_S = 3.0
_ENGINE_POLL_S = 3.0


class Ready(Protocol):
    """What can be waited for."""

    def ready(self) -> tuple[bool, str]:
        """Whether a question can be answered now, and if not, why."""
        ...


class Assistant(Ready, Protocol):
    """What the gate needs of a running box."""

    def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
        """The `ask` contract; raises `AiboxError` when there is no answer in time."""
        ...


def run(
    assistant: Assistant,
    questions: Sequence[Golden],
    policy: GatePolicy,
    before: frozenset[str],
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    *,
    dying: Callable[[], str] | None = None,
    carried: frozenset[str] | None = None,
) -> Verdict:
    """Wait until the box is ready, then ask every question.

    `before` holds the ids that the previous generation answered. `report` gets a line at least
    every few seconds. Seconds everywhere. A release that brings its own model comes with `dying`,
    which says why nobody need wait for it any longer, "" while there is hope. Quotes that step in
    for such a model are no answer: an engine may say that it is well and hang. Where the model is
    elsewhere they pass, and the result says why they stepped in. `carried` names the documents of
    the release, None where they are not known: from them alone nothing must answer what it cannot.
    """
    reason = wait(assistant, policy.ready_deadline_s, report, clock, pause)
    probes = [item for item in questions if item.expect != NO_EVIDENCE]
    if not reason and dying is not None:
        reason = wait_for_engines(assistant, probes, policy, report, clock, pause, dying)
    if reason:
        return Verdict(passed=False, results=(), reason=reason)
    own, results = dying is not None, []
    for question in questions:
        with ticking(f"asking {question.id}", report):
            result = _ask(
                assistant, question, policy.question_deadline_s, clock, carried, own_engine=own
            )
        results.append(result)
        report(f"{question.id}: {_told(result)}")
    return judge(questions, results, before)


def refuse_stopped(states: Sequence[str]) -> None:
    """Raise `Failed` (`box-stopped`) where all services are stopped: nobody would ever answer."""
    if states and all(state == "stopped" for state in states):
        raise Failed(
            "box-stopped",
            "the box does not answer: all of its services are stopped",
            hint="start it with: ./aibox start",
            fault=Fault.HOST,
        )


def wait(
    assistant: Ready,
    deadline_s: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> str:
    """Wait until a question can be answered; an empty string, or why it cannot in time."""
    start = told = clock()
    while True:
        ready, reason = assistant.ready()
        if ready:
            return ""
        if clock() - start > deadline_s:
            return f"not ready after {deadline_s:.0f} s: {reason}"
        if clock() - told > _PROGRESS_S:
            told = clock()
            report(f"waiting until the box is ready ({told - start:.0f} s): {reason}")
        pause(_POLL_S)


def wait_for_engines(
    assistant: Assistant,
    questions: Sequence[Golden],
    policy: GatePolicy,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
    dying: Callable[[], str] = lambda: "",
) -> str:
    """Wait until the release's own models answer; an empty string, or why they do not in time.

    They read their weights long after the box is ready to quote, and only an answer shows that one
    has. Where answers tell a route there are two that write: questions are asked until either has.
    """
    start, left, writers = clock(), list(questions), set[object]()
    while left:
        try:
            with ticking("waiting for the engine's answer", report):
                answer = assistant.ask(
                    left[0].question, left[0].language, policy.question_deadline_s
                )
            reason = _substitute(answer)
        except AiboxError as error:
            reason = error.message
        if not reason:
            writers.add(answer.get("engine"))
            left = left[1:] if answer.get("route") and len(writers) == 1 else []
            continue
        if hopeless := dying():
            return hopeless
        waited = clock() - start
        if waited > policy.ready_deadline_s:
            return f"the engine does not answer after {policy.ready_deadline_s:.0f} s: {reason}"
        report(f"waiting until the engine answers ({waited:.0f} s): {reason}")
        pause(_ENGINE_POLL_S)
    return ""


def _ask(
    assistant: Assistant,
    question: Golden,
    timeout_s: float,
    clock: Callable[[], float],
    carried: frozenset[str] | None,
    *,
    own_engine: bool,
) -> CaseResult:
    start = clock()
    try:
        answer = assistant.ask(question.question, question.language, timeout_s)
        wrong, instead = check(question, answer, carried), _substitute(answer)
    except AiboxError as error:
        wrong, instead = error.message, ""
    return CaseResult(
        id=question.id,
        passed=not (wrong or (own_engine and instead)),
        reason=wrong or instead,
        seconds=round(clock() - start, 3),
    )


def _told(result: CaseResult) -> str:
    if not result.passed:
        return result.reason
    return f"passed, but {result.reason}" if result.reason else "passed"


def _substitute(answer: Mapping[str, Any]) -> str:
    """Why the answer is not what the box's own models give; an empty string when it is."""
    reason = answer.get("degraded")
    if not reason:
        route = answer.get("route")
        return f"the large model in the place of the small one: {route}" * (route in _NO_SMALL)
    quoted = answer.get("engine", EXTRACTIVE) == EXTRACTIVE
    told = "quoted instead of the engine's answer" if quoted else "answered without all models"
    return f"{told}: {reason}"


def check(
    question: Golden, answer: Mapping[str, Any], carried: frozenset[str] | None = None
) -> str:
    """Why an answer does not satisfy a golden question; an empty string when it does.

    What the release does not know, documents that people added may: an answer from them alone
    says nothing of the release, and would keep a box with a canteen menu from every rollback.
    """
    cited = [citation["document"] for citation in answer["citations"]]
    if question.expect == NO_EVIDENCE:
        is_theirs = bool(cited) and carried is not None and carried.isdisjoint(cited)
        told = f"answered from {', '.join(cited) or 'nothing'}, although no document should hold it"
        return told if answer["grounded"] and not is_theirs else ""
    if not answer["grounded"]:
        return f"no grounded answer; {question.document} was expected"
    if question.document not in cited:
        return f"cites {', '.join(cited) or 'nothing'} instead of {question.document}"
    return ""


def judge(
    questions: Sequence[Golden], results: Sequence[CaseResult], before: frozenset[str]
) -> Verdict:
    """Pass unless a required question failed, or one that was answered before."""
    required = {question.id for question in questions if question.required}
    failed = {result.id: result.reason for result in results if not result.passed}
    blocking = [
        f"{name} ({'answered before, not now' if name in before else 'required'}): {reason}"
        for name, reason in failed.items()
        if name in required or name in before
    ]
    return Verdict(passed=not blocking, results=tuple(results), reason="; ".join(blocking))
