"""Amounts and counts: within their limits, and as they are shown."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal
from enum import StrEnum

from aibox.errors import BadUsage, Fault

CENT = Decimal("0.01")
HALF = Decimal("0.5")
_ONE = Decimal(1)
_DIGITS = 3


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


def plainly(number: Decimal) -> int | float:
    """Any number as a JSON number: whole where it is."""
    return int(number) if number == number.to_integral_value() else float(number)


def exactly(usd: Decimal) -> int | float:
    """USD as a JSON number, to the cent: whole where there are no cents."""
    return plainly(usd.quantize(CENT, ROUND_HALF_UP))


def whole(krw: Decimal) -> int:
    """KRW as a JSON number; there is no smaller coin than one."""
    return int(krw.quantize(_ONE, ROUND_HALF_UP))


def shown(amount: Decimal, currency: Currency) -> str:
    """An amount for people: `$165`, `$0.45`, `188,000,000 KRW`; never nothing where it is some."""
    if currency is Currency.KRW:
        return "under 1 KRW" if 0 < amount < HALF else f"{whole(amount):,} KRW"
    if 0 < amount < HALF * CENT:
        return "under $0.01"
    cents = amount.quantize(CENT, ROUND_HALF_UP)
    small = abs(cents) < 100 and cents != cents.to_integral_value()
    return f"${cents:,.2f}" if small else f"${amount.quantize(_ONE, ROUND_HALF_UP):,}"


def count(number: Decimal) -> str:
    """A number of requests for people: whole, and small ones with three digits (`0.022`)."""
    if number >= 10 or number == number.to_integral_value():
        return f"{number.quantize(_ONE, ROUND_HALF_UP):,}"
    return f"{number.normalize(Context(prec=_DIGITS)):f}"


def percent(share: Decimal) -> str:
    """A share of the greater for people: `51 %`; what is not nothing and not all says so."""
    hundredths = share * 100
    if 0 < hundredths < 1:
        return "less than 1 %"
    if 99 < hundredths < 100:
        return "more than 99 %"
    return f"{hundredths:.0f} %"
