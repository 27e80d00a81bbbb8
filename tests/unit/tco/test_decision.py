"""The questions, each way through them, and what is said where they are not answered."""

from __future__ import annotations

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
        (answers(engineer=True, budget=500 * MILLION), Choice.HYBRID, "only the sensitive data"),
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
