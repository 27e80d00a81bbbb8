"""The price list: a dated file that people edit, with the source of what it says."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, StringConstraints, model_validator

from aibox.errors import BadUsage, Fault
from aibox.schema import Model, Name, read_toml

VERSION = 1

# A year, a month or a day: as exact as the source is.
Dated = Annotated[
    str, StringConstraints(pattern=r"^20\d\d(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$")
]
Words = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Price = Annotated[Decimal, Field(ge=0, le=10**12)]
"""USD or KRW; 0 is a price (a licence that costs nothing), missing is not."""


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


class Exchange(Model):
    """The rate of exchange."""

    krw_per_usd: Annotated[Decimal, Field(gt=0, le=10**6)]
    source: Words


class CloudPrice(Model):
    """A model of a cloud API; USD per million tokens read and written."""

    name: Name
    title: Words
    input_usd: Price
    output_usd: Price


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
    maintenance_percent_a_year: Range
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
    command = f"./aibox tco --prices {path}"
    return read_toml(path, PriceList, what="price-list", version=VERSION, command=command)


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
