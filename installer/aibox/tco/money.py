"""Amounts within their limits, and as they are shown."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from aibox.errors import BadUsage, Fault

CENT = Decimal("0.01")
_ONE = Decimal(1)


class Currency(StrEnum):
    """The currencies of the price list."""

    KRW = "KRW"
    USD = "USD"


def within(name: str, value: Decimal | int, low: Decimal | int, high: Decimal | int) -> Decimal:
    """The value; raises `BadUsage` (`number-out-of-range`) unless low <= value <= high.

    `name` is the option as it is typed. Not-a-number and infinity are out of every range.
    """
    number = Decimal(value)
    if number.is_finite() and low <= number <= high:
        return number
    raise BadUsage(
        "number-out-of-range",
        f"{name} is {value}; it must lie between {low:,} and {high:,}",
        hint="see what each number means: ./aibox tco --help",
        fault=Fault.YOU,
    )


def exactly(usd: Decimal) -> int | float:
    """USD as a JSON number, to the cent: whole where there are no cents."""
    cents = usd.quantize(CENT, ROUND_HALF_UP)
    return int(cents) if cents == cents.to_integral_value() else float(cents)


def whole(krw: Decimal) -> int:
    """KRW as a JSON number; there is no smaller coin than one."""
    return int(krw.quantize(_ONE, ROUND_HALF_UP))


def shown(amount: Decimal, currency: Currency) -> str:
    """An amount for people: `$165`, `$0.45`, `188,000,000 KRW`."""
    if currency is Currency.KRW:
        return f"{whole(amount):,} KRW"
    cents = amount.quantize(CENT, ROUND_HALF_UP)
    small = abs(cents) < 100 and cents != cents.to_integral_value()
    return f"${cents:,.2f}" if small else f"${amount.quantize(_ONE, ROUND_HALF_UP):,}"
