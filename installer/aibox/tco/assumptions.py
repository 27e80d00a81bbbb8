"""From what was typed and what the box has measured to a workload, with what was assumed."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from aibox.errors import BadUsage, Fault
from aibox.tco.measured import Measured
from aibox.tco.money import count, within
from aibox.tco.workload import REQUESTS_A_DAY, Workload

WORKING_DAYS = 22
"""Days of work in a month, as the published scenarios count them."""

CALENDAR_DAYS = 30
"""Days of a month for requests that a box measured around the clock."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was typed; None where nothing was."""

    users: int | None = None
    requests_per_user: Decimal | None = None
    requests_per_day: Decimal | None = None
    days_per_month: int | None = None
    tokens_in: Decimal | None = None
    tokens_out: Decimal | None = None

    @property
    def needs_measuring(self) -> bool:
        """Whether the box has to say something."""
        return None in (self._volume, self.tokens_in, self.tokens_out)

    @property
    def _volume(self) -> Decimal | int | None:
        return self.requests_per_day if self.users is None else self.users


def workload(asked: Asked, measured: Measured) -> tuple[Workload, tuple[str, ...]]:
    """The workload, and sentences on what of it was not typed.

    Raises `BadUsage`: `requests-unknown`, `tokens-unknown`, `requests-twice`,
    `number-out-of-range`.
    """
    volume, days, told = _volume(asked, measured)
    tokens_in, told_in = _tokens("--tokens-in", asked.tokens_in, measured.tokens_in, measured)
    tokens_out, told_out = _tokens("--tokens-out", asked.tokens_out, measured.tokens_out, measured)
    return Workload(volume, days, tokens_in, tokens_out), (*told, *told_in, *told_out)


def _volume(asked: Asked, measured: Measured) -> tuple[Decimal, int, tuple[str, ...]]:
    """Requests a day, days a month, and what was assumed."""
    typed = _typed(asked)
    volume = measured.requests_per_day if typed is None else typed
    if volume is None:
        raise _unknown(
            "requests-unknown",
            "how much is asked is not known: neither typed nor measured",
            measured,
            "./aibox tco --users 500 --requests-per-user 10 --tokens-in 800 --tokens-out 400",
        )
    told = () if typed is not None else (f"{count(volume)} requests a day, measured here",)
    if asked.days_per_month is not None:
        return volume, asked.days_per_month, told
    days = CALENDAR_DAYS if typed is None else WORKING_DAYS
    return volume, days, (*told, f"{days} days a month (--days-per-month)")


def _typed(asked: Asked) -> Decimal | None:
    pair = (asked.users, asked.requests_per_user)
    if asked.requests_per_day is not None:
        if pair != (None, None):
            raise _misused("requests-twice", "give the requests a day, or users and their requests")
        return asked.requests_per_day
    if asked.users is None and asked.requests_per_user is None:
        return None
    if asked.users is None or asked.requests_per_user is None:
        raise _misused("requests-unknown", "--users and --requests-per-user need one another")
    users = within("--users", asked.users, 1, 10**7)
    each = within("--requests-per-user", asked.requests_per_user, Decimal("0.001"), 10**5)
    return within("--users times --requests-per-user", users * each, *REQUESTS_A_DAY)


def _tokens(
    option: str, typed: Decimal | None, counted: Decimal | None, measured: Measured
) -> tuple[Decimal, tuple[str, ...]]:
    if typed is not None:
        return typed, ()
    if counted is not None:
        return counted, (f"{round(counted):,} tokens for {option}, measured here",)
    raise _unknown(
        "tokens-unknown",
        f"how many tokens a request has is not known: {option} is neither typed nor measured",
        measured,
        "./aibox tco --requests-per-day 5000 --tokens-in 800 --tokens-out 400",
    )


def _unknown(reference: str, message: str, measured: Measured, command: str) -> BadUsage:
    return BadUsage(
        reference,
        message,
        context="not measured: " + ("; ".join(measured.reasons) or "no box was asked"),
        hint="see a published example with ./aibox tco --scenario B, or give your own numbers: "
        + command,
        fault=Fault.YOU,
    )


def _misused(reference: str, message: str) -> BadUsage:
    return BadUsage(
        reference,
        message,
        hint="for example: ./aibox tco --users 500 --requests-per-user 10 --tokens-in 800 "
        "--tokens-out 400",
        fault=Fault.YOU,
    )
