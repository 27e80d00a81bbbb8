"""What is asked of a model, and what a cloud API takes for it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from aibox.errors import BadUsage, Fault
from aibox.tco.money import within
from aibox.tco.prices import CloudPrice

MONTHS = 12
MOST_USD_A_YEAR = 10**13
"""A tenth of what the whole world earns in a year: beyond, one of the numbers is wrong."""
REQUESTS_A_DAY = (Decimal("0.001"), Decimal(10**10))
"""The least and the most of all who ask together."""
_MILLION = 1_000_000
_PERCENT = Decimal(100)


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests and the tokens of one, on average.

    Raises `BadUsage` (`number-out-of-range`) for what no organisation asks.
    """

    requests_per_day: Decimal
    days_per_month: int
    tokens_in: Decimal
    tokens_out: Decimal

    def __post_init__(self) -> None:
        within("--requests-per-day", self.requests_per_day, *REQUESTS_A_DAY)
        within("--days-per-month", self.days_per_month, 1, 31)
        within("--tokens-in", self.tokens_in, 1, 10**7)
        within("--tokens-out", self.tokens_out, 1, 10**7)

    @property
    def requests_per_month(self) -> Decimal:
        """In the first year."""
        return self.requests_per_day * self.days_per_month


@dataclass(frozen=True, slots=True)
class Overheads:
    """What a bill holds beside the questions; percent, and USD a month for embeddings.

    Prompts and repeated requests grow with the usage, embeddings do not.
    """

    prompt_percent: Decimal = Decimal(0)
    retry_percent: Decimal = Decimal(0)
    embeddings_usd: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        within("--prompt-overhead", self.prompt_percent, 0, 1000)
        within("--retries", self.retry_percent, 0, 100)
        within("--embeddings-usd", self.embeddings_usd, 0, 10**7)


def usd_per_request(workload: Workload, price: CloudPrice, overheads: Overheads) -> Decimal:
    """What one request costs, repeated ones included."""
    tokens_in = workload.tokens_in * (1 + overheads.prompt_percent / _PERCENT)
    once = (tokens_in * price.input_usd + workload.tokens_out * price.output_usd) / _MILLION
    return once * (1 + overheads.retry_percent / _PERCENT)


def usd_a_month(workload: Workload, price: CloudPrice, overheads: Overheads) -> Decimal:
    """What a month of the first year costs."""
    requests = usd_per_request(workload, price, overheads) * workload.requests_per_month
    return requests + overheads.embeddings_usd


def grown(first: Decimal, growth_percent: Decimal, years: int) -> tuple[Decimal, ...]:
    """An amount of the first year and what it grows to, year by year."""
    within("--growth", growth_percent, -90, 1000)
    within("--years", years, 1, 5)
    factor = 1 + growth_percent / _PERCENT
    return tuple(first * factor**year for year in range(years))


def usd_by_year(
    workload: Workload,
    price: CloudPrice,
    overheads: Overheads,
    growth_percent: Decimal,
    years: int,
) -> tuple[Decimal, ...]:
    """What each year costs when the usage grows by `growth_percent` a year.

    Raises `BadUsage` (`cost-out-of-range`) for more than anybody pays.
    """
    fixed = overheads.embeddings_usd * MONTHS
    first = usd_a_month(workload, price, overheads) * MONTHS - fixed
    found = tuple(amount + fixed for amount in grown(first, growth_percent, years))
    if max(found) > MOST_USD_A_YEAR:
        raise _nobody_pays(max(found), workload, growth_percent)
    return found


def _nobody_pays(usd: Decimal, workload: Workload, growth_percent: Decimal) -> BadUsage:
    return BadUsage(
        "cost-out-of-range",
        f"a year in the cloud would cost {usd:.3g} USD, which nobody pays: one of requests, "
        "tokens, price and growth is wrong",
        context=f"{workload.requests_per_month:,f} requests a month of {workload.tokens_in:f} and "
        f"{workload.tokens_out:f} tokens, growing by {growth_percent:f} % a year",
        hint="see what each number means: ./aibox tco --help",
        fault=Fault.YOU,
    )
