"""Price lists: read, dated, carried by a box, and refused where they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from aibox import content
from aibox.errors import BadUsage
from aibox.tco import prices
from aibox.tco.prices import PriceList

FILE = content.find().prices / "prices.toml"


def changed(folder: Path, old: str, new: str) -> Path:
    text = FILE.read_text(encoding="utf-8")
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_delivered_list_is_dated_and_names_its_sources(priced: PriceList) -> None:
    assert priced.as_of == "2025"
    assert priced.exchange.krw_per_usd == 1335
    assert priced.cloud_price("gemini-1.5-flash").input_usd == Decimal("0.075")
    assert all(server.source for server in priced.server)


@pytest.mark.parametrize(
    ("model", "read", "written"),
    [
        ("gpt-4o", "2.50", "10"),
        ("gpt-4-turbo", "10", "30"),
        ("claude-3.5-sonnet", "3", "15"),
        ("claude-3-opus", "15", "75"),
        ("gemini-1.5-pro", "1.25", "5"),
        ("gemini-1.5-flash", "0.075", "0.30"),
        ("mistral-large", "2", "6"),
        ("command-r-plus", "2.50", "10"),
    ],
)
def test_prices_of_tokens_are_as_published(
    priced: PriceList, model: str, read: str, written: str
) -> None:
    found = priced.cloud_price(model)
    assert (found.input_usd, found.output_usd) == (Decimal(read), Decimal(written))


@pytest.mark.parametrize("name", ["prices.toml", "scenarios.toml"])
def test_an_installed_box_carries_the_files(name: str) -> None:
    assert content.belongs_to_program(f"stacks/prices/{name}")
    assert (content.find().prices / name).is_file()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("output_usd = 10\n", "", "cloud[0].output_usd"),
        ("output_usd = 10\n", "output_usd = -1\n", "cloud[0].output_usd"),
        ("output_usd = 10\n", "output_usd = nan\n", "cloud[0].output_usd"),
        ("output_usd = 10\n", 'output_usd = "dear"\n', "cloud[0].output_usd"),
        ("krw_per_usd = 1335\n", "krw_per_usd = 0\n", "exchange.krw_per_usd"),
        ("krw_per_usd = 1335\n", "", "exchange.krw_per_usd"),
        ('as_of = "2025"\n', 'as_of = "lately"\n', "as_of"),
        ('as_of = "2025"\n', "", "as_of"),
        ("low = 6_000_000", "low = 9_000_000", "low is above high"),
        ('name = "gpt-4-turbo"', 'name = "gpt-4o"', "named twice: gpt-4o"),
        ("purchase_krw = { low = 6_000_000, high = 8_000_000 }\n", "", "server[0].purchase_krw"),
        ("krw_per_kwh", "krw_per_kw", "running.krw_per_kwh"),
        ("input_usd = 2.50", "input_usd = 3337.5", "cloud[0].input_usd"),
        ("krw_per_usd = 1335\n", "krw_per_usd = 0.00075\n", "exchange.krw_per_usd"),
        ("high = 10 }", "high = 101 }", "running.maintenance_percent_a_year.high"),
        ('as_of = "2025"\n', 'as_of = "2025-02-31"\n', "as_of"),
        ('as_of = "2025"\n', 'as_of = "2025-13"\n', "as_of"),
        ('title = "GPT-4o"', 'title = "GPT\\u001b[2J"', "cloud[0].title"),
        ('title = "GPT-4o"', 'title = "GPT\\nfree"', "cloud[0].title"),
        ("input_usd = 2.50", "input_usd = " + "9" * 5000, "is not TOML"),
        ("[exchange]\n", "[exchange]\nkrw_per_usd = 1\n", "is not TOML"),
    ],
)
def test_a_wrong_or_missing_price_is_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(BadUsage) as refused:
        prices.load(changed(tmp_path, old, new))
    assert refused.value.reference == "price-list-invalid"
    assert told in refused.value.message


@pytest.mark.parametrize(
    ("written", "read"),
    [('"2025-11"', "2025-11"), ("2025-11-26", "2025-11-26"), ("2025", "2025")],
)
def test_a_date_is_read_as_people_write_it(tmp_path: Path, written: str, read: str) -> None:
    path = changed(tmp_path, 'as_of = "2025"', f"as_of = {written}")
    assert prices.load(path).as_of == read


def test_a_list_of_an_editor_that_marks_the_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbf" + FILE.read_bytes().replace(b"\n", b"\r\n"))
    assert prices.load(path) == prices.load(FILE)


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_of_prices_is_refused_before_it_fills_the_memory(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "my prices"
    make(path)
    with pytest.raises(BadUsage) as refused:
        prices.load(path)
    assert refused.value.reference == "price-list-unreadable"
    assert refused.value.hint.endswith(f"--prices '{path}'")


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadUsage) as refused:
        prices.load(tmp_path / "none.toml")
    assert refused.value.reference == "price-list-missing"


@pytest.mark.parametrize("kind", ["model", "server"])
def test_a_name_that_has_no_price_is_refused_with_those_that_have(
    priced: PriceList, kind: str
) -> None:
    find = {"model": priced.cloud_price, "server": priced.server_price}[kind]
    with pytest.raises(BadUsage) as refused:
        find("gpt-9")
    assert refused.value.reference == "price-unknown"
    assert ("gpt-4o" if kind == "model" else "a100x2") in refused.value.message
    assert f"--{kind} " in refused.value.hint
