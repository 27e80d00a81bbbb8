"""The questions that decide before the sums do, and the recommendation with its reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from aibox.tco.comparison import Cheaper, Comparison
from aibox.tco.money import Currency, count, percent, shown

REQUESTS_A_DAY = 10_000
"""Below, a cloud API costs less than the people who would look after a server."""

BUDGET_KRW = 500_000_000
"""Above this budget of three years servers for everything are affordable."""

BUDGET_MONTHS = 36

OPTIONS: Mapping[str, str] = {
    "sensitive": "--sensitive-data",
    "maskable": "--can-be-masked",
    "engineer": "--machine-learning-engineer",
    "budget": "--budget-krw",
}
"""How each question is answered."""


class Choice(StrEnum):
    """What can be recommended."""

    CLOUD = "cloud"
    HYBRID = "hybrid"
    ON_PREMISE = "on-premise"
    UNKNOWN = "unknown"


class Basis(StrEnum):
    """What a recommendation rests on."""

    QUESTIONS = "questions"
    COST = "cost"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Answers:
    """The organisation's own answers; None where it has not said.

    `budget_krw` is for three years. `requests_per_day` are those of the first year, and
    `requests_per_day_at_last` those of the last.
    """

    sensitive: bool | None = None
    maskable: bool | None = None
    requests_per_day: Decimal | None = None
    engineer: bool | None = None
    budget_krw: Decimal | None = None
    requests_per_day_at_last: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What to do, why, and which unanswered questions could change it (as options).

    `by_cost` is what the cost alone says.
    """

    choice: Choice
    basis: Basis
    reasons: tuple[str, ...]
    open_questions: tuple[str, ...] = ()
    by_cost: Choice = Choice.UNKNOWN


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What the questions lead to; `choice` None where the next is not answered: `missing`."""

    reasons: tuple[str, ...]
    choice: Choice | None = None
    missing: str = ""


def recommend(answers: Answers, comparison: Comparison | None) -> Recommendation:
    """What the questions say; where they are not answered far enough, what the cost says."""
    verdict = _ask(answers)
    by_cost, sums = _by_cost(comparison)
    choice = by_cost if verdict.choice is None else verdict.choice
    reasons = (*verdict.reasons, *sums, *_beyond_budget(choice, answers, comparison))
    if verdict.choice is not None:
        return Recommendation(choice, Basis.QUESTIONS, reasons, by_cost=by_cost)
    basis = Basis.NOTHING if by_cost is Choice.UNKNOWN else Basis.COST
    warning = f"the questions do not decide yet: {OPTIONS[verdict.missing]} is not answered"
    return Recommendation(choice, basis, (*reasons, warning), _left(answers), by_cost)


def _ask(answers: Answers) -> _Verdict:
    """From question to question, as far as there are answers."""
    if answers.sensitive is None:
        return _Verdict((), missing="sensitive")
    if not answers.sensitive:
        ignored = "" if answers.maskable is None else "; whether it can be masked decides nothing"
        return _by_volume(answers, (f"the data is not sensitive{ignored}",))
    if answers.maskable is None:
        return _Verdict(("the data is sensitive",), missing="maskable")
    if not answers.maskable:
        why = "the data is sensitive and cannot be masked: it must not leave the house"
        return _Verdict((why,), Choice.ON_PREMISE)
    return _by_volume(answers, ("the data is sensitive, but can be masked first",))


def _by_volume(answers: Answers, so_far: tuple[str, ...]) -> _Verdict:
    if answers.requests_per_day is None:
        raise ValueError("the volume is always known: it is what is compared")
    volume = f"{count(answers.requests_per_day)} requests a day"
    later = _crossed(answers.requests_per_day, answers.requests_per_day_at_last)
    if answers.requests_per_day < REQUESTS_A_DAY:
        return _Verdict((*so_far, f"{volume}: below {REQUESTS_A_DAY:,}", *later), Choice.CLOUD)
    so_far = (*so_far, f"{volume}: {REQUESTS_A_DAY:,} or more", *later)
    if answers.engineer is None:
        return _Verdict(so_far, missing="engineer")
    if not answers.engineer:
        why = "no engineer for machine learning: start in the cloud, move what pays off later"
        return _Verdict((*so_far, why), Choice.HYBRID)
    return _by_budget(answers, (*so_far, "there is an engineer for machine learning"))


def _crossed(first: Decimal, last: Decimal | None) -> tuple[str, ...]:
    """That the growth leads over the line that decides, in either direction."""
    if last is None or (first < REQUESTS_A_DAY) == (last < REQUESTS_A_DAY):
        return ()
    return (f"with this growth it is {count(last)} in the last year: ask again before then",)


def _by_budget(answers: Answers, so_far: tuple[str, ...]) -> _Verdict:
    if answers.budget_krw is None:
        return _Verdict(so_far, missing="budget")
    budget = f"a budget of {answers.budget_krw:,f} KRW for three years"
    if answers.budget_krw > BUDGET_KRW:
        return _Verdict((*so_far, f"{budget}: above {BUDGET_KRW:,}"), Choice.ON_PREMISE)
    kept = "keep only the sensitive data on premises"
    if not answers.sensitive:
        kept = "keep on premises only what turns out to be sensitive"
    return _Verdict((*so_far, f"{budget}: not above {BUDGET_KRW:,}; {kept}"), Choice.HYBRID)


def _by_cost(comparison: Comparison | None) -> tuple[Choice, tuple[str, ...]]:
    if comparison is None:
        return Choice.UNKNOWN, ("the cost on premises is unknown: no server was named",)
    cloud, own = comparison.cloud_total, comparison.premises.total
    if comparison.cheaper is Cheaper.EQUAL:
        return Choice.UNKNOWN, ("both cost the same",)
    choice = Choice.CLOUD if comparison.cheaper is Cheaper.CLOUD else Choice.ON_PREMISE
    share = percent(min(cloud, own) / max(cloud, own))
    reason = f"by cost alone: {choice.value}, at {share} of what the other costs"
    return choice, (reason, *_nearness(comparison))


def _beyond_budget(
    choice: Choice, answers: Answers, comparison: Comparison | None
) -> tuple[str, ...]:
    """That what is recommended costs more than there is, where both are of three years."""
    if comparison is None or answers.budget_krw is None or comparison.months != BUDGET_MONTHS:
        return ()
    costs = {
        Choice.CLOUD: ("the cloud would", comparison.cloud_total),
        Choice.ON_PREMISE: ("the servers would", comparison.premises.total),
    }
    side, krw = costs.get(choice, ("", Decimal(0)))
    if krw <= answers.budget_krw:
        return ()
    cost, budget = (shown(amount, Currency.KRW) for amount in (krw, answers.budget_krw))
    return (f"{side} cost {cost} over three years: more than the budget of {budget}",)


def _nearness(comparison: Comparison) -> tuple[str, ...]:
    factor = comparison.usage_at_balance
    if not comparison.close or factor is None:
        return ()
    return (f"that is close: both cost the same at {factor:.2f} times the usage",)


def _left(answers: Answers) -> tuple[str, ...]:
    """The options of the questions that are not answered and could still matter."""
    given = {
        "sensitive": answers.sensitive,
        "maskable": answers.maskable if answers.sensitive is not False else False,
        "engineer": answers.engineer,
        "budget": answers.budget_krw,
    }
    few = answers.requests_per_day is not None and answers.requests_per_day < REQUESTS_A_DAY
    unneeded = {"engineer", "budget"} if few or answers.engineer is False else set()
    return tuple(
        OPTIONS[name] for name, value in given.items() if value is None and name not in unneeded
    )
