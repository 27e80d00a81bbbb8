"""Both sides: what a cloud takes, what servers cost, and where they meet."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox import content
from aibox.errors import BadUsage
from aibox.tco import money, premises, prices, workload
from aibox.tco.comparison import Cheaper, Comparison
from aibox.tco.money import Currency
from aibox.tco.premises import Premises, Wish
from aibox.tco.prices import CloudPrice
from aibox.tco.workload import Overheads, Workload

PRICE = CloudPrice(name="m", title="M", input_usd=Decimal("2.50"), output_usd=Decimal(10))
PLAIN = Workload(Decimal(5000), 22, Decimal(800), Decimal(400))
LIST = prices.load(content.find().prices / "prices.toml")
SERVER = LIST.server_price("a100x2")
counts = st.integers(min_value=1, max_value=10**6)
amounts = st.integers(min_value=0, max_value=10**9).map(Decimal)


def of(cloud: list[int], purchase: int, running: list[int]) -> Comparison:
    own = Premises(Decimal(purchase), tuple(map(Decimal, running)))
    return Comparison(tuple(map(Decimal, cloud)), own)


@given(counts, counts, counts, counts)
def test_more_requests_or_tokens_never_cost_less(
    day: int, more: int, brings: int, gets: int
) -> None:
    one = Workload(Decimal(day), 22, Decimal(brings), Decimal(gets))
    base = workload.usd_a_month(one, PRICE, Overheads())
    for greater in (
        replace(one, requests_per_day=Decimal(day + more)),
        replace(one, tokens_in=Decimal(brings + more)),
        replace(one, tokens_out=Decimal(gets + more)),
        replace(one, days_per_month=23),
    ):
        assert workload.usd_a_month(greater, PRICE, Overheads()) > base


@given(st.integers(0, 1000), st.integers(1, 5))
def test_growth_never_makes_a_year_cheaper(percent: int, years: int) -> None:
    found = workload.usd_by_year(PLAIN, PRICE, Overheads(), Decimal(percent), years)
    assert len(found) == years
    assert list(found) == sorted(found)
    assert found[0] == workload.usd_a_month(PLAIN, PRICE, Overheads()) * 12


def test_growth_is_exact() -> None:
    assert workload.grown(Decimal(36_000), Decimal(30), 3) == (36_000, 46_800, 60_840)


def test_hidden_costs_are_added_and_embeddings_do_not_grow() -> None:
    hidden = Overheads(Decimal(50), Decimal(10), Decimal(200))
    # Read 88 M tokens and half of that again, written 44 M; a tenth is repeated.
    assert workload.usd_a_month(PLAIN, PRICE, hidden) == (330 + 440) * Decimal("1.1") + 200
    first, second = workload.usd_by_year(PLAIN, PRICE, hidden, Decimal(100), 2)
    assert second - first == 847 * 12


def test_ten_cents_are_ten_cents() -> None:
    tiny = CloudPrice(name="t", title="T", input_usd=Decimal("0.1"), output_usd=Decimal("0.2"))
    one = Workload(Decimal(1_000_000), 1, Decimal(1), Decimal(1))
    assert workload.usd_a_month(one, tiny, Overheads()) == Decimal("0.3")


def test_a_published_server_costs_what_was_published() -> None:
    wish = Wish(LIST.server_price("a100x2"))
    for pick, power, rest, people in (
        (premises.low, 250_000, 250_000, 4_300_000),
        (premises.high, 350_000, 500_000, 6_500_000),
    ):
        parts = premises.parts_of_a_month(wish, LIST.running, pick)
        assert parts["power"] == power
        others = sum(parts[name] for name in ("cooling", "network", "storage", "backup"))
        assert others == rest
        assert parts["people"] == people


def test_people_are_paid_once_and_all_else_for_each_server() -> None:
    wish = Wish(LIST.server_price("a100x2"))
    one, two = (
        premises.parts_of_a_month(replace(wish, servers=n), LIST.running, premises.middle)
        for n in (1, 2)
    )
    assert two["people"] == one["people"]
    assert all(two[name] == 2 * one[name] for name in one if name != "people")


@given(st.integers(1, 20), amounts, st.integers(1, 5000), amounts)
def test_more_of_anything_never_costs_less(
    servers: int, price: Decimal, watts: int, people: Decimal
) -> None:
    base = Wish(SERVER, servers, price, watts, people)
    for greater in (
        replace(base, servers=servers + 1),
        replace(base, price_krw=price + 1),
        replace(base, power_watt=watts + 1),
        replace(base, people_krw=people + 1),
    ):
        assert total(greater) > total(base)


def total(wish: Wish) -> Decimal:
    return premises.cost(wish, LIST.running, 3).total


def test_the_range_holds_what_is_compared() -> None:
    wish = Wish(LIST.server_price("a100x2"))
    least, between, most = (
        premises.cost(wish, LIST.running, 3, pick).total
        for pick in (premises.low, premises.middle, premises.high)
    )
    assert least < between < most


def test_unknown_power_is_asked_for_and_never_guessed() -> None:
    wish = Wish(LIST.server_price("h100"))
    with pytest.raises(BadUsage) as refused:
        premises.cost(wish, LIST.running, 3)
    assert refused.value.reference == "power-unknown"
    assert "--server h100 --power-watt" in refused.value.hint
    assert premises.cost(replace(wish, power_watt=2000), LIST.running, 3).total > 0


def test_break_even_is_the_first_month_that_stays() -> None:
    assert of([1200], 300, [600]).break_even_month == 6
    assert of([1200], 301, [600]).break_even_month == 7
    assert of([1200], 600, [600]).break_even_month == 12
    assert of([1200], 601, [600]).break_even_month is None
    assert of([1200], 0, [0]).break_even_month == 1
    # Cheaper for a while, then dearer for good: that is no break-even.
    assert of([1200, 0], 100, [600, 1200]).break_even_month is None


@given(st.lists(amounts, min_size=1, max_size=3), amounts, amounts, amounts)
def test_a_dearer_server_breaks_even_no_sooner(
    cloud: list[Decimal], purchase: Decimal, running: Decimal, more: Decimal
) -> None:
    def month(price: Decimal) -> float:
        own = Premises(price, (running,) * len(cloud))
        return Comparison(tuple(cloud), own).break_even_month or float("inf")

    assert month(purchase) <= month(purchase + more)


@given(st.lists(amounts, min_size=1, max_size=3), amounts, amounts)
def test_what_breaks_even_is_not_dearer_in_the_end(
    cloud: list[Decimal], purchase: Decimal, running: Decimal
) -> None:
    found = Comparison(tuple(cloud), Premises(purchase, (running,) * len(cloud)))
    assert (found.break_even_month is not None) == (found.cheaper is not Cheaper.CLOUD)


def test_usage_at_balance_makes_both_equal() -> None:
    found = of([100, 100], 150, [100, 100])
    assert found.usage_at_balance == Decimal("1.75")
    assert of([0], 1, [1]).usage_at_balance is None


def test_embeddings_do_not_balance_with_the_usage() -> None:
    own = Premises(Decimal(500), (Decimal(0),))
    found = Comparison((Decimal(300),), own, cloud_fixed=Decimal(200))
    assert found.usage_at_balance == 3, "the 100 that grow must become 300"
    cheap = replace(own, purchase=Decimal(150))
    assert Comparison((Decimal(300),), cheap, cloud_fixed=Decimal(200)).usage_at_balance is None


def test_a_bill_that_nobody_pays_is_refused() -> None:
    most = Workload(Decimal(10**10), 31, Decimal(10**7), Decimal(10**7))
    with pytest.raises(BadUsage) as refused:
        workload.usd_by_year(most, PRICE, Overheads(), Decimal(1000), 5)
    assert refused.value.reference == "cost-out-of-range"
    assert "310,000,000,000 requests a month" in refused.value.context


@pytest.mark.parametrize(
    ("amount", "currency", "told"),
    [
        ("0", Currency.USD, "$0"),
        ("0.004", Currency.USD, "under $0.01"),
        ("0.005", Currency.USD, "$0.01"),
        ("0.4", Currency.KRW, "under 1 KRW"),
        ("0.5", Currency.KRW, "1 KRW"),
    ],
)
def test_a_little_money_is_not_called_none(amount: str, currency: Currency, told: str) -> None:
    assert money.shown(Decimal(amount), currency) == told


@pytest.mark.parametrize(
    ("number", "told"),
    [("5000.0", "5,000"), ("3333.33", "3,333"), ("0.0221", "0.0221"), ("1.234567", "1.23")],
)
def test_a_few_requests_are_not_called_none(number: str, told: str) -> None:
    assert money.count(Decimal(number)) == told


def test_depreciation_spreads_the_purchase() -> None:
    assert of([0], 3600, [1200]).premises_a_month(36) == 200
