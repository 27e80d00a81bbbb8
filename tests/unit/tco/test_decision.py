"""The questions, each way through them, and what is said where they are not answered."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from aibox.tco.comparison import Comparison
from aibox.tco.decision import Answers, Basis, Choice, recommend
from aibox.tco.premises import Premises

MILLION = 1_000_000


def answers(
    sensitive: bool | None = False,
    maskable: bool | None = None,
    volume: int = 10_000,
    engineer: bool | None = None,
    budget: int | None = None,
) -> Answers:
    money = None if budget is None else Decimal(budget)
    return Answers(sensitive, maskable, Decimal(volume), engineer, money)


def costs(cloud: int, own: int) -> Comparison:
    return Comparison((Decimal(cloud),), Premises(Decimal(0), (Decimal(own),)))


@pytest.mark.parametrize(
    ("given", "choice", "because"),
    [
        (answers(True, False, 1), Choice.ON_PREMISE, "must not leave the house"),
        (answers(True, True, 9_999), Choice.CLOUD, "below 10,000"),
        (answers(volume=9_999), Choice.CLOUD, "not sensitive"),
        (answers(engineer=False), Choice.HYBRID, "start in the cloud"),
        (answers(engineer=True, budget=500 * MILLION + 1), Choice.ON_PREMISE, "above 500,000,000"),
        (
            answers(True, True, engineer=True, budget=500 * MILLION),
            Choice.HYBRID,
            "only the sensitive data",
        ),
        (answers(engineer=True, budget=1), Choice.HYBRID, "what turns out to be sensitive"),
        (answers(False, False, 1), Choice.CLOUD, "whether it can be masked decides nothing"),
        (answers(True, True, engineer=False), Choice.HYBRID, "can be masked"),
    ],
)
def test_answers_lead_to_a_recommendation_with_its_reason(
    given: Answers, choice: Choice, because: str
) -> None:
    found = recommend(given, costs(1, 2))
    assert (found.choice, found.basis) == (choice, Basis.QUESTIONS)
    assert any(because in reason for reason in found.reasons)
    assert found.open_questions == ()


def test_the_questions_overrule_the_cost_and_say_so() -> None:
    found = recommend(answers(True, False), costs(1, 100))
    assert found.choice is Choice.ON_PREMISE
    assert "by cost alone: cloud, at 1 % of what the other costs" in found.reasons


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (
            answers(None),
            ("--sensitive-data", "--can-be-masked", "--machine-learning-engineer", "--budget-krw"),
        ),
        (answers(None, volume=1), ("--sensitive-data", "--can-be-masked")),
        (answers(True, volume=1), ("--can-be-masked",)),
        (answers(), ("--machine-learning-engineer", "--budget-krw")),
        (answers(engineer=True), ("--budget-krw",)),
        (answers(None, engineer=False), ("--sensitive-data", "--can-be-masked")),
    ],
)
def test_what_is_not_answered_is_asked_and_the_cost_speaks(
    given: Answers, left: tuple[str, ...]
) -> None:
    found = recommend(given, costs(100, 10))
    assert (found.choice, found.basis) == (Choice.ON_PREMISE, Basis.COST)
    assert found.open_questions == left


def test_without_answers_and_costs_nothing_is_recommended() -> None:
    found = recommend(answers(None), None)
    assert (found.choice, found.basis) == (Choice.UNKNOWN, Basis.NOTHING)
    assert found.reasons


def test_equal_costs_recommend_nothing() -> None:
    assert recommend(answers(None), costs(5, 5)).choice is Choice.UNKNOWN


def test_near_costs_are_called_close() -> None:
    assert any("close" in reason for reason in recommend(answers(None), costs(2, 3)).reasons)
    assert not any("close" in reason for reason in recommend(answers(None), costs(1, 3)).reasons)


def test_growth_over_the_line_that_decides_is_told() -> None:
    crossed = "with this growth it is 45,000 in the last year: ask again before then"
    grows = replace(answers(volume=5_000), requests_per_day_at_last=Decimal(45_000))
    assert crossed in recommend(grows, None).reasons
    stays = replace(answers(volume=5_000), requests_per_day_at_last=Decimal(9_999))
    assert not any("growth" in reason for reason in recommend(stays, None).reasons)


def test_what_costs_more_than_the_budget_is_told() -> None:
    rich = answers(True, False, budget=600 * MILLION)
    own = Premises(Decimal(700 * MILLION), (Decimal(0),) * 3)
    found = recommend(rich, Comparison((Decimal(1),) * 3, own))
    assert found.choice is Choice.ON_PREMISE
    told = "cost 700,000,000 KRW over three years: more than the budget of 600,000,000 KRW"
    assert any(told in reason for reason in found.reasons)
    two_years = Comparison((Decimal(1),) * 2, replace(own, running_by_year=(Decimal(0),) * 2))
    assert not any("budget" in reason for reason in recommend(rich, two_years).reasons)


def test_a_measured_volume_is_told_without_a_tail_of_digits() -> None:
    third = Decimal(10_000) / 3
    found = recommend(replace(answers(), requests_per_day=third), None)
    assert "3,333 requests a day: below 10,000" in found.reasons


def test_a_share_that_is_not_nothing_is_not_called_so() -> None:
    assert any("less than 1 %" in told for told in recommend(answers(None), costs(1, 999)).reasons)
