"""What was typed, what the box measured, and what is refused instead of guessed."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from aibox.errors import BadUsage
from aibox.tco import assumptions, measured
from aibox.tco.assumptions import Asked
from aibox.tco.measured import Measured

DAY = 86_400
TYPED = Asked(
    users=500, requests_per_user=Decimal(10), tokens_in=Decimal(800), tokens_out=Decimal(400)
)


def usage(**changes: Any) -> Mapping[str, Any]:
    body = {
        "seconds": 10.0 * DAY,
        "answers": 4000,
        "counted": 3000,
        "prompt_tokens": 6_000_000,
        "completion_tokens": 900_000,
    }
    return {**body, **changes}


def refusal(typed: Asked, known: Measured | None = None) -> BadUsage:
    with pytest.raises(BadUsage) as refused:
        assumptions.workload(typed, known or Measured())
    return refused.value


def test_typed_numbers_are_taken() -> None:
    found, assumed = assumptions.workload(TYPED, Measured())
    assert (found.requests_per_day, found.tokens_in, found.tokens_out) == (5000, 800, 400)
    assert assumed == ("22 days a month (--days-per-month)",)
    assert not TYPED.needs_measuring


def test_what_the_box_measured_fills_in_and_is_told() -> None:
    known = measured.read(usage())
    found, assumed = assumptions.workload(Asked(), known)
    assert (found.tokens_in, found.tokens_out) == (2000, 300)
    assert (found.requests_per_day, found.days_per_month) == (300, 30)
    assert sum("measured here" in sentence for sentence in assumed) == 3


def test_requests_are_those_that_the_language_model_answered_where_that_is_counted() -> None:
    assert measured.read(usage()).requests_per_day == 300
    assert measured.read(usage(counted=0)).requests_per_day == 400


def test_typed_numbers_go_before_measured_ones() -> None:
    known = measured.read(usage())
    found, assumed = assumptions.workload(TYPED, known)
    assert (found.requests_per_day, found.tokens_in) == (5000, 800)
    assert not any("measured" in sentence for sentence in assumed)


@pytest.mark.parametrize(
    ("changes", "tokens", "rate", "because"),
    [
        ({"answers": 0, "counted": 0}, False, False, "answered nothing"),
        ({"counted": 0}, False, True, "the engine counted none"),
        ({"prompt_tokens": 0}, False, True, "the engine counted none"),
        ({"seconds": 3600.0}, True, False, "counted for 1.0 hours and a day is needed"),
    ],
)
def test_what_was_not_measured_is_unknown_with_its_reason(
    changes: dict[str, Any], tokens: bool, rate: bool, because: str
) -> None:
    known = measured.read(usage(**changes))
    assert (known.tokens_in is not None) == tokens
    assert (known.requests_per_day is not None) == rate
    assert because in "; ".join(known.reasons)


@pytest.mark.parametrize("body", [{}, {"seconds": "x"}, usage(answers=-1)])
def test_what_a_box_says_wrongly_is_unknown(body: Mapping[str, Any]) -> None:
    known = measured.read(body)
    assert (known.tokens_in, known.requests_per_day) == (None, None)
    assert known.reasons == ("what the box says of its usage is not understood",)


def test_unknown_tokens_are_asked_for_and_never_guessed() -> None:
    known = Measured(reasons=("nothing is installed here",))
    refused = refusal(Asked(requests_per_day=Decimal(5000)), known)
    assert refused.reference == "tokens-unknown"
    assert "nothing is installed here" in refused.context
    assert "--tokens-in" in refused.hint


def test_unknown_requests_are_asked_for() -> None:
    assert refusal(Asked()).reference == "requests-unknown"
    assert refusal(Asked(users=5)).reference == "requests-unknown"
    assert refusal(Asked(requests_per_user=Decimal(5))).reference == "requests-unknown"


def test_requests_are_not_taken_twice() -> None:
    typed = Asked(users=5, requests_per_day=Decimal(5))
    assert refusal(typed).reference == "requests-twice"


def test_more_requests_of_all_users_than_there_can_be_name_what_was_typed() -> None:
    refused = refusal(Asked(users=10**7, requests_per_user=Decimal(10**5)))
    assert "--users times --requests-per-user" in refused.message


@pytest.mark.parametrize("users", [0, -1, -(10**30), 10**7 + 1, 10**30])
def test_impossible_numbers_of_users_are_refused(users: int) -> None:
    refused = refusal(Asked(users=users, requests_per_user=Decimal(1)))
    assert refused.reference == "number-out-of-range"
    assert "--users" in refused.message


@pytest.mark.parametrize("number", ["0", "-1", "1e99", "nan", "sNaN", "inf", "-inf"])
@pytest.mark.parametrize("name", ["requests_per_day", "tokens_in", "tokens_out"])
def test_impossible_amounts_are_refused(name: str, number: str) -> None:
    typed = {
        "requests_per_day": Decimal(1),
        "tokens_in": Decimal(1),
        "tokens_out": Decimal(1),
        name: Decimal(number),
    }
    refused = refusal(Asked(**typed))
    assert refused.reference == "number-out-of-range"
    assert f"--{name.replace('_', '-')}" in refused.message
