"""What servers of one's own cost: bought once, then power, cooling, lines, people, care."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from aibox.errors import BadUsage, Fault
from aibox.tco.money import within
from aibox.tco.prices import Range, Running, Server
from aibox.tco.workload import MONTHS

HOURS_A_MONTH = 720
"""30 days, as the published 576 kWh of 800 W are counted."""

Pick = Callable[[Range], Decimal]


def low(amount: Range) -> Decimal:
    """The least that is published."""
    return amount.low


def middle(amount: Range) -> Decimal:
    """Half way between; what is compared."""
    return amount.middle


def high(amount: Range) -> Decimal:
    """The most that is published."""
    return amount.high


@dataclass(frozen=True, slots=True)
class Wish:
    """Which servers, and what the caller knows better than the price list (None: he does not).

    `price_krw` is for one server, `people_krw` a month for all.
    """

    server: Server
    servers: int = 1
    price_krw: Decimal | None = None
    power_watt: int | None = None
    people_krw: Decimal | None = None
    maintenance_percent: Decimal | None = None

    def __post_init__(self) -> None:
        within("--servers", self.servers, 1, 1000)
        for name, value, most in (
            ("--server-price", self.price_krw, 10**12),
            ("--people", self.people_krw, 10**11),
            ("--maintenance", self.maintenance_percent, 100),
        ):
            if value is not None:
                within(name, value, 0, most)
        if self.power_watt is not None:
            within("--power-watt", self.power_watt, 1, 200_000)


@dataclass(frozen=True, slots=True)
class Premises:
    """Costs in KRW: bought at the beginning, and what each year costs that follows."""

    purchase: Decimal
    running_by_year: tuple[Decimal, ...]

    @property
    def total(self) -> Decimal:
        """Purchase and all years."""
        return self.purchase + sum(self.running_by_year)


def parts_of_a_month(wish: Wish, running: Running, pick: Pick) -> Mapping[str, Decimal]:
    """What a month costs in KRW, by what it is paid for.

    Raises `BadUsage` (`power-unknown`) where nobody has said what the server draws.
    """
    energy = Decimal(_watts(wish) * HOURS_A_MONTH) / 1000 * running.krw_per_kwh
    per_server = {
        "power": energy + pick(running.power_base_krw),
        "cooling": pick(running.cooling_krw),
        "network": pick(running.network_krw),
        "storage": pick(running.storage_krw),
        "backup": pick(running.backup_krw),
        "maintenance": _purchase(wish, pick) * _care(wish, running, pick) / 100 / MONTHS,
    }
    people = pick(running.people_krw) if wish.people_krw is None else wish.people_krw
    return {**{name: cost * wish.servers for name, cost in per_server.items()}, "people": people}


def cost(wish: Wish, running: Running, years: int, pick: Pick = middle) -> Premises:
    """What the servers cost over `years`; every year as the first."""
    year = sum(parts_of_a_month(wish, running, pick).values(), Decimal(0)) * MONTHS
    return Premises(_purchase(wish, pick) * wish.servers, (year,) * years)


def _purchase(wish: Wish, pick: Pick) -> Decimal:
    return pick(wish.server.purchase_krw) if wish.price_krw is None else wish.price_krw


def _care(wish: Wish, running: Running, pick: Pick) -> Decimal:
    if wish.maintenance_percent is None:
        return pick(running.maintenance_percent_a_year)
    return wish.maintenance_percent


def _watts(wish: Wish) -> int:
    watts = wish.server.power_watt if wish.power_watt is None else wish.power_watt
    if watts is None:
        raise BadUsage(
            "power-unknown",
            f"the price list does not say how much power a {wish.server.title} draws",
            hint="give the watts that it draws on average: "
            f"./aibox tco --server {wish.server.name} --power-watt N",
            fault=Fault.YOU,
        )
    return watts
