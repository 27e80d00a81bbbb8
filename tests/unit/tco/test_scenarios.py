"""Every published figure, to the dollar and to the won."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aibox.errors import BadUsage
from aibox.tco import study, workload
from aibox.tco.comparison import Cheaper
from aibox.tco.decision import Answers, Choice
from aibox.tco.prices import PriceList
from aibox.tco.scenarios import ComparisonScenario, Scenarios, WorkloadScenario
from aibox.tco.workload import Overheads

MILLION = 1_000_000


def asked(published: Scenarios, name: str) -> WorkloadScenario:
    found = published.named(name)
    assert isinstance(found, WorkloadScenario)
    return found


def compared(published: Scenarios, name: str) -> ComparisonScenario:
    found = published.named(name)
    assert isinstance(found, ComparisonScenario)
    return found


@pytest.mark.parametrize(
    ("scenario", "model", "usd"),
    [
        ("A", "gpt-4o", 165),
        ("B", "gpt-4o", 660),
        ("C", "gpt-4o", 18_000),
        ("A", "claude-3.5-sonnet", 231),
        ("B", "claude-3.5-sonnet", 924),
        ("C", "claude-3.5-sonnet", 25_200),
    ],
)
def test_a_month_of_the_cloud_costs_what_was_published(
    published: Scenarios, priced: PriceList, scenario: str, model: str, usd: int
) -> None:
    one = asked(published, scenario)
    assert workload.usd_a_month(one.workload, priced.cloud_price(model), Overheads()) == usd
    assert one.published_usd_a_month[model] == usd


@pytest.mark.parametrize(
    ("scenario", "requests"), [("A", 11_000), ("B", 110_000), ("C", 3_000_000)]
)
def test_requests_of_a_month_are_as_published(
    published: Scenarios, scenario: str, requests: int
) -> None:
    assert asked(published, scenario).workload.requests_per_month == requests


@pytest.mark.parametrize(
    ("scenario", "years", "total", "krw_millions"),
    [
        ("small", [3_600, 3_600, 3_600], 10_800, None),
        ("medium", [36_000, 50_000, 65_000], 151_000, 202),
        ("large", [216_000, 280_000, 364_000], 860_000, 1_148),
    ],
)
def test_three_years_of_the_cloud_cost_what_was_published(
    published: Scenarios,
    priced: PriceList,
    scenario: str,
    years: list[int],
    total: int,
    krw_millions: int | None,
) -> None:
    one = compared(published, scenario)
    assert list(one.usd_by_year) == years
    assert sum(one.usd_by_year) == total == one.published_cloud_usd
    krw = one.compared(priced.exchange.krw_per_usd).cloud_total
    if krw_millions is not None:
        assert round(krw / MILLION) == krw_millions


@pytest.mark.parametrize(
    ("scenario", "purchase", "running", "total"),
    [
        ("small", 8, [60, 60, 60], 188),
        ("medium", 50, [72, 72, 72], 266),
        ("large", 200, [120, 120, 140], 580),
    ],
)
def test_three_years_on_premises_cost_what_was_published(
    published: Scenarios, scenario: str, purchase: int, running: list[int], total: int
) -> None:
    one = compared(published, scenario)
    costs = one.compared(Decimal(1335)).premises
    assert costs.purchase == purchase * MILLION
    assert list(costs.running_by_year) == [year * MILLION for year in running]
    assert costs.total == total * MILLION == one.published_on_premise_krw


def test_the_published_conclusions_follow(published: Scenarios, priced: PriceList) -> None:
    small, medium, large = (
        study.of_comparison(compared(published, name), priced, Answers())
        for name in ("small", "medium", "large")
    )
    assert small.recommendation.choice is Choice.CLOUD
    assert small.comparison is not None
    assert not small.comparison.close
    assert medium.comparison is not None
    assert (medium.comparison.cheaper, medium.comparison.close) == (Cheaper.CLOUD, True)
    assert medium.comparison.usage_at_balance is not None
    assert 1 < medium.comparison.usage_at_balance < 2, "turns when usage doubles"
    assert large.recommendation.choice is Choice.ON_PREMISE
    assert large.comparison is not None
    assert Decimal("0.5") < large.comparison.premises.total / large.comparison.cloud_total < 0.51


def test_security_turns_the_medium_comparison(published: Scenarios, priced: PriceList) -> None:
    secret = Answers(sensitive=True, maskable=False)
    found = study.of_comparison(compared(published, "medium"), priced, secret)
    assert found.recommendation.choice is Choice.ON_PREMISE


def test_what_rounding_hides_is_told(published: Scenarios, priced: PriceList) -> None:
    found = study.of_comparison(compared(published, "medium"), priced, Answers())
    assert found.published is not None
    assert found.published.unrounded_usd == Decimal(143_640)


def test_names_are_found_in_any_case_and_others_refused(published: Scenarios) -> None:
    assert published.named("a") is published.named("A")
    with pytest.raises(BadUsage, match="A, B, C, small, medium, large"):
        published.named("D")
