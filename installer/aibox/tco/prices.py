"""The price list: a dated file that people edit, with the source of what it says."""

from __future__ import annotations

import shlex
from collections import Counter
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from aibox.errors import BadUsage, Fault
from aibox.schema import Model, Name, parse_toml, read_text

VERSION = 1
WHAT = "price-list"

# What no seller asks: beyond stands a slip of units or of a digit.
_MOST_USD_PER_MILLION_TOKENS = 2_000
_LEAST_KRW_PER_USD, _MOST_KRW_PER_USD = 100, 100_000


def _as_text(told: object) -> object:
    """A date or a year of TOML that stands without quotation marks."""
    if isinstance(told, int) and not isinstance(told, bool):
        return str(told)
    if isinstance(told, date) and not isinstance(told, datetime):
        return told.isoformat()
    return told


def _of_the_calendar(text: str) -> str:
    date(*(int(part) for part in f"{text}-01-01".split("-")[:3]))
    return text


# A year, a month or a day: as exact as the source is.
Dated = Annotated[
    str,
    StringConstraints(pattern=r"^20\d\d(-\d\d(-\d\d)?)?$"),
    BeforeValidator(_as_text),
    AfterValidator(_of_the_calendar),
]
# One line: it is printed as it stands.
Words = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=500, strip_whitespace=True, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
Price = Annotated[Decimal, Field(ge=0, le=10**12)]
"""USD or KRW; 0 is a price (a licence that costs nothing), missing is not."""
TokenPrice = Annotated[Decimal, Field(ge=0, le=_MOST_USD_PER_MILLION_TOKENS)]
"""USD per million tokens."""


class Range(Model):
    """What is published as from low to high."""

    low: Price
    high: Price

    @model_validator(mode="after")
    def _is_in_order(self) -> Range:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self

    @property
    def middle(self) -> Decimal:
        """Half way between."""
        return (self.low + self.high) / 2


class Percent(Range):
    """A share, as published from low to high."""

    high: Annotated[Decimal, Field(ge=0, le=100)]


class Exchange(Model):
    """The rate of exchange."""

    krw_per_usd: Annotated[Decimal, Field(ge=_LEAST_KRW_PER_USD, le=_MOST_KRW_PER_USD)]
    source: Words


class CloudPrice(Model):
    """A model of a cloud API; USD per million tokens read and written."""

    name: Name
    title: Words
    input_usd: TokenPrice
    output_usd: TokenPrice


class Server(Model):
    """A whole server. `power_watt` None: nobody has said what it draws.

    `worth_from_usd` is the field's rule of thumb: USD of cloud costs a month.
    """

    name: Name
    title: Words
    purchase_krw: Range
    power_watt: Annotated[int, Field(gt=0, le=200_000)] | None = None
    worth_from_usd: Price | None = None
    source: Words


class Running(Model):
    """What a server costs that runs: KRW a month, all but people per server."""

    krw_per_kwh: Price
    power_base_krw: Range
    cooling_krw: Range
    network_krw: Range
    storage_krw: Range
    backup_krw: Range
    people_krw: Range
    maintenance_percent_a_year: Percent
    source: Words


class PriceList(Model):
    """One price list."""

    version: int
    as_of: Dated
    source: Words
    exchange: Exchange
    cloud: Annotated[tuple[CloudPrice, ...], Field(min_length=1)]
    server: Annotated[tuple[Server, ...], Field(min_length=1)]
    running: Running

    @model_validator(mode="after")
    def _names_are_unique(self) -> PriceList:
        for entries in (self.cloud, self.server):
            twice = [name for name, n in Counter(one.name for one in entries).items() if n > 1]
            if twice:
                raise ValueError(f"named twice: {', '.join(twice)}")
        return self

    def cloud_price(self, name: str) -> CloudPrice:
        """The model `name`; raises `BadUsage` (`price-unknown`)."""
        return _named(self.cloud, name, "model")

    def server_price(self, name: str) -> Server:
        """The server `name`; raises `BadUsage` (`price-unknown`)."""
        return _named(self.server, name, "server")


def load(path: Path) -> PriceList:
    """Read a price list; raises `BadUsage` where it is missing, malformed or lacks a price."""
    command = f"./aibox tco --prices {shlex.quote(str(path))}"
    # Editors of some systems begin a text with a mark of its encoding.
    text = read_text(path, what=WHAT, command=command).removeprefix("\ufeff")
    return parse_toml(
        text, PriceList, what=WHAT, version=VERSION, command=command, source=str(path)
    )


Entry = TypeVar("Entry", CloudPrice, Server)


def _named(entries: tuple[Entry, ...], name: str, kind: str) -> Entry:
    found = next((entry for entry in entries if entry.name == name), None)
    if found is None:
        raise BadUsage(
            "price-unknown",
            f"the price list has no {kind} named {name!r}; it has: "
            + ", ".join(entry.name for entry in entries),
            hint=f"name one of these, or add its price to a list of your own: "
            f"./aibox tco --{kind} {entries[0].name} --prices FILE",
            fault=Fault.YOU,
        )
    return found
