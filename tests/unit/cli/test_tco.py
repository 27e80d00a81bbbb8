"""`aibox tco` as it is typed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import content, talking
from aibox.errors import ExitCode

Types = Callable[..., Any]

TYPED = ("--users", "500", "--requests-per-user", "10", "--tokens-in", "800", "--tokens-out", "400")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A host without a box."""
    return tmp_path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A double of a running box that has counted for two days."""
    body = {
        "seconds": 172_800.0,
        "answers": 20_000,
        "counted": 20_000,
        "prompt_tokens": 40_000_000,
        "completion_tokens": 10_000_000,
    }
    monkeypatch.setattr(talking, "usage", lambda _place: body)


@pytest.mark.parametrize(
    ("scenario", "gpt_4o", "claude"),
    [("A", 165, 231), ("B", 660, 924), ("C", 18_000, 25_200)],
)
def test_a_published_month_is_printed_to_the_dollar(
    types: Types, scenario: str, gpt_4o: int, claude: int
) -> None:
    ended = types("tco", "--scenario", scenario, "--json")
    months = ended.json["cloud"]["month_usd_by_model"]
    assert (months["gpt-4o"], months["claude-3.5-sonnet"]) == (gpt_4o, claude)
    assert ended.json["published"]["month_usd_by_model"]["gpt-4o"] == gpt_4o
    assert ended.json["on_premise"] is None
    assert ended.json["break_even_month"] is None
    shown = types("tco", "--scenario", scenario).out
    assert f"${gpt_4o:,} a month" in shown
    assert f"${claude:,} a month" in shown
    assert "unknown" in shown


@pytest.mark.parametrize(
    ("scenario", "cloud_usd", "own_krw", "choice"),
    [
        ("small", 10_800, 188_000_000, "cloud"),
        ("medium", 151_000, 266_000_000, "cloud"),
        ("large", 860_000, 580_000_000, "on-premise"),
    ],
)
def test_a_published_comparison_is_printed_to_the_dollar(
    types: Types, scenario: str, cloud_usd: int, own_krw: int, choice: str
) -> None:
    found = types("tco", "--scenario", scenario, "--json").json
    assert found["cloud"]["total_usd"] == cloud_usd
    assert found["on_premise"]["total_krw"] == own_krw
    assert found["recommendation"]["choice"] == choice
    assert f"${cloud_usd:,}" in types("tco", "--scenario", scenario).out
    assert f"{own_krw:,} KRW" in types("tco", "--scenario", scenario, "--currency", "KRW").out


def test_json_has_what_others_build_on(types: Types) -> None:
    found = types("tco", *TYPED, "--json").json
    assert {"cloud", "on_premise", "break_even_month", "recommendation"} <= set(found)
    assert found["cloud"]["month_usd"] == 660
    assert found["measured"] is None
    assert len(found["table"]["rows"]) == 4


def test_answers_end_in_a_recommendation_with_reasons(types: Types) -> None:
    words = (*TYPED, "--sensitive-data", "yes", "--can-be-masked", "no")
    assert types("tco", *words, "--json").json["recommendation"]["choice"] == "on-premise"
    shown = types("tco", *words).out
    assert "must not leave the house" in shown
    assert "Recommendation: on-premise (by the questions; the cost alone says cloud)" in shown
    agreed = types("tco", *TYPED, "--sensitive-data", "no").out
    assert "Recommendation: cloud\n" in agreed


def test_defaults_are_told(types: Types) -> None:
    shown = types("tco", *TYPED).out
    assert "assumed: model gpt-4o (--model)" in shown
    assert "assumed: 22 days a month" in shown
    assert "assumed: 3 years (--years)" in shown
    assert "assumed: one server (--servers)" in shown
    assert "assumed: the purchase spread over 36 months (--depreciation-months)" in shown
    typed = ("--years", "3", "--servers", "1", "--depreciation-months", "36", "--growth", "0")
    assert types("tco", *TYPED, *typed).out.count("assumed: ") == shown.count("assumed: ") - 4
    assert "not counted: prompt overhead" in shown


def test_a_printed_sheet_says_what_was_compared(types: Types) -> None:
    words = (*TYPED, "--growth", "30", "--prompt-overhead", "40", "--embeddings-usd", "1500")
    shown = types("tco", *words).out
    assert "load: 5,000 requests a day on 22 days a month, each of 800 tokens in and 400 out" in (
        shown
    )
    assert "the usage grows by 30 % a year" in shown
    assert "counted: prompt overhead, 40 % more tokens in" in shown
    assert "counted: embeddings, 1,500 USD a month" in shown
    assert "assumed: the servers carry the load of every year" in shown
    assert "server: street price; power as published (576 kWh a month)" in shown
    assert "VAT included" in shown
    load = types("tco", *words, "--json").json["load"]
    assert (load["requests_per_day"], load["tokens_in"], load["growth_percent"]) == (5000, 800, 30)
    assert "30 days a month, 0.006 USD each" in types("tco", "--scenario", "large").out


def test_the_rule_of_thumb_is_told_of_one_server_alone(types: Types) -> None:
    assert "rule of thumb" in types("tco", *TYPED).out
    assert "rule of thumb" not in types("tco", *TYPED, "--servers", "3").out


def test_columns_never_run_into_each_other(types: Types) -> None:
    words = ("--servers", "1000", "--server-price", "1e12", "--currency", "krw")
    (total,) = [one for one in types("tco", *TYPED, *words).out.splitlines() if "total" in one]
    assert total.split()[2] == total.split()[4] == "KRW"


def test_prices_that_are_dated_in_the_future_are_told(types: Types, tmp_path: Path) -> None:
    text = (content.find().prices / "prices.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace('as_of = "2025"', 'as_of = "2099-01"', 1), encoding="utf-8")
    assert "is dated 2099-01, and today is" in types("tco", *TYPED, "--prices", mine).err
    mine.write_text(text, encoding="utf-8")
    told = types("tco", *TYPED, "--prices", mine).err
    assert f"correct them in {mine} before you decide" in told


def test_a_scenario_can_be_compared_with_a_server(types: Types) -> None:
    found = types("tco", "--scenario", "C", "--server", "a100x4", "--servers", "2", "--json").json
    assert found["on_premise"]["purchase_krw"] == 200_000_000
    assert found["break_even_month"] is not None


def test_without_numbers_and_without_a_box_it_says_what_to_type(types: Types) -> None:
    ended = types("tco")
    assert ended.code == ExitCode.BAD_USAGE
    assert "nothing is installed here" in ended.err
    assert "--scenario B" in ended.err


@pytest.mark.usefixtures("counted")
def test_a_box_that_has_measured_needs_no_numbers(types: Types) -> None:
    found = types("tco", "--json").json
    assert found["measured"]["tokens_in"] == 2000
    assert found["cloud"]["requests_per_month"] == 300_000
    assert found["cloud"]["month_usd"] == 3000
    assert "10,000 requests a day, measured here" in types("tco").out


def test_the_chart_is_drawn(types: Types, tmp_path: Path) -> None:
    path = tmp_path / "costs.svg"
    assert types("tco", "--scenario", "large", "--chart", path).code == ExitCode.DONE
    drawn = path.read_text(encoding="utf-8")
    ElementTree.fromstring(drawn)
    assert "break-even: month 14" in drawn
    assert drawn.count("<polyline") == 2
    types("tco", "--scenario", "A", "--chart", path)
    assert path.read_text(encoding="utf-8").count("<polyline") == 1


def test_a_price_list_of_ones_own_is_used(types: Types, tmp_path: Path) -> None:
    text = (content.find().prices / "prices.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text.replace("input_usd = 2.50", "input_usd = 5", 1), encoding="utf-8")
    found = types("tco", "--scenario", "A", "--prices", mine, "--json").json
    assert found["cloud"]["month_usd"] == 220
    assert found["published"]["month_usd_by_model"]["gpt-4o"] == 165


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        (("--scenario", "Z"), "scenario-unknown"),
        (("--scenario", "A", "--users", "5"), "scenario-and-numbers"),
        (("--scenario", "small", "--server", "h100"), "scenario-and-numbers"),
        (("--scenario", "A", "--model", "gpt-9"), "price-unknown"),
        ((*TYPED, "--server", "abacus"), "price-unknown"),
        ((*TYPED, "--server", ""), "price-unknown"),
        ((*TYPED, "--model", ""), "price-unknown"),
        (("--scenario", ""), "scenario-unknown"),
        ((*TYPED, "--server", "h100"), "power-unknown"),
        ((*TYPED, "--users", "0"), "number-out-of-range"),
        ((*TYPED, "--users", "-5"), "number-out-of-range"),
        ((*TYPED, "--users", "1" + "0" * 40), "number-out-of-range"),
        ((*TYPED, "--users", "many"), "wrong-usage"),
        ((*TYPED, "--tokens-in", "many"), "wrong-usage"),
        ((*TYPED, "--growth", "nan"), "number-out-of-range"),
        ((*TYPED, "--growth", "-100"), "number-out-of-range"),
        ((*TYPED, "--years", "0"), "number-out-of-range"),
        ((*TYPED, "--years", "99"), "number-out-of-range"),
        ((*TYPED, "--servers", "0"), "number-out-of-range"),
        ((*TYPED, "--power-watt", "0"), "number-out-of-range"),
        ((*TYPED, "--server-price", "-1"), "number-out-of-range"),
        ((*TYPED, "--people", "inf"), "number-out-of-range"),
        ((*TYPED, "--maintenance", "101"), "number-out-of-range"),
        ((*TYPED, "--depreciation-months", "0"), "number-out-of-range"),
        ((*TYPED, "--days-per-month", "32"), "number-out-of-range"),
        ((*TYPED, "--prompt-overhead", "-1"), "number-out-of-range"),
        ((*TYPED, "--retries", "200"), "number-out-of-range"),
        ((*TYPED, "--embeddings-usd", "nan"), "number-out-of-range"),
        ((*TYPED, "--budget-krw", "-1"), "number-out-of-range"),
        ((*TYPED, "--sensitive-data", "perhaps"), "wrong-usage"),
        ((*TYPED, "--currency", "EUR"), "wrong-usage"),
        ((*TYPED, "--prices", "/nowhere.toml"), "price-list-missing"),
        ((*TYPED, "--chart", "/nowhere/costs.svg"), "chart-not-written"),
        ((*TYPED, "--chart", "/tmp/costs.txt"), "chart-not-written"),
    ],
)
def test_bad_input_is_a_clear_error(types: Types, words: tuple[str, ...], reference: str) -> None:
    ended = types("tco", *words, "--json")
    assert ended.code == ExitCode.BAD_USAGE
    assert ended.json["reference"] == reference
    assert ended.json["hint"]
