"""Cloud against on premises, month by month and year by year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from aibox.tco.premises import Premises
from aibox.tco.workload import MONTHS

CLOSE = Decimal(2) / 3
"""From this share of the dearer on, the cheaper is too near to decide by cost."""


class Cheaper(StrEnum):
    """What the sums say."""

    CLOUD = "cloud"
    ON_PREMISE = "on-premise"
    EQUAL = "equal"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides over the same years, in KRW.

    `cloud_fixed` is what of the cloud's total does not grow with the usage.
    """

    cloud_by_year: tuple[Decimal, ...]
    premises: Premises
    cloud_fixed: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if len(self.cloud_by_year) != len(self.premises.running_by_year):
            raise ValueError("both sides must be of the same years")

    @property
    def months(self) -> int:
        """How long both are compared."""
        return len(self.cloud_by_year) * MONTHS

    @property
    def cloud_total(self) -> Decimal:
        """All years of the cloud."""
        return sum(self.cloud_by_year, Decimal(0))

    @property
    def cheaper(self) -> Cheaper:
        """Which total is lower."""
        if self.cloud_total == self.premises.total:
            return Cheaper.EQUAL
        return Cheaper.CLOUD if self.cloud_total < self.premises.total else Cheaper.ON_PREMISE

    @property
    def close(self) -> bool:
        """Whether the totals are too near for the cost to decide."""
        lower, higher = sorted((self.cloud_total, self.premises.total))
        return lower >= higher * CLOSE

    @property
    def usage_at_balance(self) -> Decimal | None:
        """By what the usage must multiply until both cost the same; None where nothing does it."""
        by_usage = self.cloud_total - self.cloud_fixed
        left = self.premises.total - self.cloud_fixed
        return left / by_usage if by_usage > 0 and left > 0 else None

    def cloud_until(self, month: int) -> Decimal:
        """What the cloud has cost at the end of a month (0: before the first)."""
        return _until(self.cloud_by_year, month)

    def premises_until(self, month: int) -> Decimal:
        """What the servers have cost at the end of a month, the purchase included."""
        return self.premises.purchase + _until(self.premises.running_by_year, month)

    @property
    def break_even_month(self) -> int | None:
        """The first month at whose end the servers have cost no more and stay so; None without."""
        found = None
        for month in range(1, self.months + 1):
            if self.premises_until(month) > self.cloud_until(month):
                found = None
            elif found is None:
                found = month
        return found

    def premises_a_month(self, depreciation_months: int) -> Decimal:
        """A month of the first year, with its share of the purchase."""
        return self.premises.running_by_year[0] / MONTHS + (
            self.premises.purchase / depreciation_months
        )


def _until(by_year: Sequence[Decimal], month: int) -> Decimal:
    years, rest = divmod(month, MONTHS)
    begun = by_year[years] * rest / MONTHS if rest else Decimal(0)
    return sum(by_year[:years], Decimal(0)) + begun
