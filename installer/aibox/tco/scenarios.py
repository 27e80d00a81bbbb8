"""The published workloads and comparisons, computed anew."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from aibox.errors import BadUsage, Fault
from aibox.schema import Model, read_toml
from aibox.tco.comparison import Comparison
from aibox.tco.premises import Premises
from aibox.tco.prices import Dated, Price, Words
from aibox.tco.workload import MONTHS, Workload

VERSION = 1

Count = Annotated[int, Field(gt=0, le=10**10)]
Days = Annotated[int, Field(ge=1, le=31)]


class WorkloadScenario(Model):
    """A published workload, with the published USD a month by model."""

    name: Literal["A", "B", "C"]
    title: Words
    requests_per_day: Count
    days_per_month: Days
    tokens_in: Count
    tokens_out: Count
    published_usd_a_month: dict[str, Price]

    @property
    def workload(self) -> Workload:
        """As it is computed."""
        return Workload(
            Decimal(self.requests_per_day),
            self.days_per_month,
            Decimal(self.tokens_in),
            Decimal(self.tokens_out),
        )


class ComparisonScenario(Model):
    """A published comparison. A year is rounded to `usd_rounding` before the next grows from it."""

    name: Literal["small", "medium", "large"]
    title: Words
    requests_per_day: Count
    days_per_month: Days
    usd_per_request: Price
    growth_percent: Annotated[Decimal, Field(ge=0, le=1000)]
    usd_rounding: Annotated[tuple[Count, ...], Field(min_length=1, max_length=5)]
    hardware: Words
    purchase_krw: Price
    running_krw: Annotated[tuple[Price, ...], Field(min_length=1, max_length=5)]
    published_cloud_usd: Price
    published_on_premise_krw: Price
    published_conclusion: Words

    @model_validator(mode="after")
    def _years_agree(self) -> ComparisonScenario:
        if len(self.usd_rounding) != len(self.running_krw):
            raise ValueError("usd_rounding and running_krw must have a value for each year")
        return self

    @property
    def requests_per_month(self) -> int:
        """In the first year."""
        return self.requests_per_day * self.days_per_month

    @property
    def usd_a_month(self) -> Decimal:
        """What the cloud takes in a month of the first year."""
        return self.usd_per_request * self.requests_per_month

    @property
    def usd_by_year(self) -> tuple[Decimal, ...]:
        """What the cloud takes, rounded as published."""
        amount = self.usd_a_month * MONTHS
        years = []
        for number, step in enumerate(self.usd_rounding):
            amount *= 1 + self.growth_percent / 100 if number else 1
            amount = (amount / step).quantize(Decimal(1), ROUND_HALF_UP) * step
            years.append(amount)
        return tuple(years)

    def compared(self, krw_per_usd: Decimal) -> Comparison:
        """Both sides in KRW."""
        cloud = tuple(usd * krw_per_usd for usd in self.usd_by_year)
        return Comparison(cloud, Premises(self.purchase_krw, self.running_krw))


class Scenarios(Model):
    """The file of scenarios."""

    version: int
    as_of: Dated
    source: Words
    workload: tuple[WorkloadScenario, ...]
    comparison: tuple[ComparisonScenario, ...]

    def named(self, name: str) -> WorkloadScenario | ComparisonScenario:
        """The scenario of a name, in any case of letters; raises `BadUsage` where there is none."""
        every: tuple[WorkloadScenario | ComparisonScenario, ...] = (
            *self.workload,
            *self.comparison,
        )
        known = {one.name.lower(): one for one in every}
        if name.lower() in known:
            return known[name.lower()]
        raise BadUsage(
            "scenario-unknown",
            f"there is no scenario {name!r}; there are: "
            + ", ".join(one.name for one in known.values()),
            hint="for example: ./aibox tco --scenario medium",
            fault=Fault.YOU,
        )


def load(path: Path) -> Scenarios:
    """Read the scenarios; raises `BadUsage` where the file is not one."""
    return read_toml(
        path, Scenarios, what="scenarios", version=VERSION, command="./aibox tco --scenario A"
    )
