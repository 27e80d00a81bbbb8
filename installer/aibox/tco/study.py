"""One study: what was asked, what was assumed, both sides and the recommendation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from aibox.tco import decision, premises, workload
from aibox.tco.comparison import Comparison
from aibox.tco.decision import Answers, Recommendation
from aibox.tco.measured import Measured
from aibox.tco.money import within
from aibox.tco.premises import Premises, Wish
from aibox.tco.prices import PriceList
from aibox.tco.scenarios import ComparisonScenario
from aibox.tco.workload import Overheads, Workload

YEARS, DEPRECIATION_MONTHS = 3, 36
"""What is compared, and over what the purchase is spread, where nobody says."""

HIDDEN = (
    "prompt overhead, 30 to 50 % of the tokens read (--prompt-overhead)",
    "repeated requests, 5 to 10 % (--retries)",
    "embeddings, 200 to 2,000 USD a month (--embeddings-usd)",
)
"""What bills of clouds also hold, as published; not counted unless it is given."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """The side of the cloud. `by_model` are USD of the first month by model of the price list."""

    title: str
    requests_per_month: Decimal
    month_usd: Decimal
    by_year_usd: tuple[Decimal, ...]
    by_model: Mapping[str, Decimal] = field(default_factory=dict)
    not_counted: tuple[str, ...] = ()

    @property
    def total_usd(self) -> Decimal:
        """All years."""
        return sum(self.by_year_usd, Decimal(0))


@dataclass(frozen=True, slots=True)
class Own:
    """The side of one's own servers. `least` and `most` are totals in KRW, where a range is known.

    `month_parts` are KRW of a month by what it is paid for, empty where only sums are published.
    `worth_from_usd` is the field's rule of thumb for one such server. `sources` say where the
    prices come from that nobody typed.
    """

    title: str
    costs: Premises
    least: Decimal | None = None
    most: Decimal | None = None
    month_parts: Mapping[str, Decimal] = field(default_factory=dict)
    worth_from_usd: Decimal | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Published:
    """What was published of a scenario. `unrounded_usd` is what comes of its growth exactly."""

    usd_a_month: Mapping[str, Decimal] = field(default_factory=dict)
    cloud_usd: Decimal | None = None
    unrounded_usd: Decimal | None = None
    on_premise_krw: Decimal | None = None
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the cloud, in the first year, and by how much percent it grows in each.

    Of a published comparison `usd_per_request` is known, and no tokens.
    """

    requests_per_day: Decimal
    days_per_month: int
    growth_percent: Decimal
    tokens_in: Decimal | None = None
    tokens_out: Decimal | None = None
    usd_per_request: Decimal | None = None
    overheads: Overheads = field(default_factory=Overheads)


@dataclass(frozen=True, slots=True)
class Study:
    """A whole answer. `own` and `comparison` are None where no server was named."""

    title: str
    load: Load
    prices: PriceList
    years: int
    depreciation_months: int
    cloud: Cloud
    own: Own | None
    comparison: Comparison | None
    recommendation: Recommendation
    assumed: tuple[str, ...] = ()
    published: Published | None = None
    measured: Measured | None = None

    def by_year(self) -> Iterator[tuple[Decimal, Decimal | None]]:
        """What each year costs in the cloud and on premises in KRW, the purchase in the first."""
        own = self.own.costs if self.own else None
        for year, usd in enumerate(self.cloud.by_year_usd):
            mine = own.running_by_year[year] + (0 if year else own.purchase) if own else None
            yield usd * self.prices.exchange.krw_per_usd, mine


@dataclass(frozen=True, slots=True)
class Question:
    """What a study of a workload is about; `wish` None compares with nothing."""

    title: str
    workload: Workload
    model: str
    wish: Wish | None
    growth_percent: Decimal = Decimal(0)
    overheads: Overheads = field(default_factory=Overheads)
    years: int = YEARS
    depreciation_months: int = DEPRECIATION_MONTHS

    @property
    def load(self) -> Load:
        """What is asked."""
        asked = self.workload
        return Load(
            asked.requests_per_day,
            asked.days_per_month,
            self.growth_percent,
            asked.tokens_in,
            asked.tokens_out,
            overheads=self.overheads,
        )


def of_workload(question: Question, prices: PriceList, answers: Answers) -> Study:
    """The study of a workload, with the published or with one's own numbers."""
    within("--depreciation-months", question.depreciation_months, 1, 120)
    cloud = _cloud(question, prices)
    own = _own(question, prices) if question.wish else None
    compared = _compared(question, cloud, own, prices.exchange.krw_per_usd) if own else None
    answered = _with_volume(answers, question.load, question.years)
    return Study(
        question.title,
        question.load,
        prices,
        question.years,
        question.depreciation_months,
        cloud,
        own,
        compared,
        decision.recommend(answered, compared),
    )


def _compared(question: Question, cloud: Cloud, own: Own, rate: Decimal) -> Comparison:
    fixed = question.overheads.embeddings_usd * workload.MONTHS * question.years
    by_year = tuple(usd * rate for usd in cloud.by_year_usd)
    return Comparison(by_year, own.costs, cloud_fixed=fixed * rate)


def _with_volume(answers: Answers, load: Load, years: int) -> Answers:
    found = workload.grown(load.requests_per_day, load.growth_percent, years)
    return replace(answers, requests_per_day=found[0], requests_per_day_at_last=found[-1])


def of_comparison(one: ComparisonScenario, prices: PriceList, answers: Answers) -> Study:
    """The study of a published comparison."""
    compared = one.compared(prices.exchange.krw_per_usd)
    requests = Decimal(one.requests_per_month)
    cloud = Cloud("published cost of a request", requests, one.usd_a_month, one.usd_by_year)
    own = Own(one.hardware, compared.premises)
    load = Load(
        Decimal(one.requests_per_day),
        one.days_per_month,
        one.growth_percent,
        usd_per_request=one.usd_per_request,
    )
    years = len(one.running_krw)
    exact = workload.grown(one.usd_a_month * workload.MONTHS, one.growth_percent, years)
    published = Published(
        cloud_usd=one.published_cloud_usd,
        unrounded_usd=sum(exact, Decimal(0)),
        on_premise_krw=one.published_on_premise_krw,
        conclusion=one.published_conclusion,
    )
    return Study(
        f"Scenario {one.name}: {one.title}",
        load,
        prices,
        years,
        DEPRECIATION_MONTHS,
        cloud,
        own,
        compared,
        decision.recommend(_with_volume(answers, load, years), compared),
        published=published,
    )


def _cloud(question: Question, prices: PriceList) -> Cloud:
    chosen = prices.cloud_price(question.model)
    asked, overheads = question.workload, question.overheads
    given = (overheads.prompt_percent, overheads.retry_percent, overheads.embeddings_usd)
    return Cloud(
        chosen.title,
        asked.requests_per_month,
        workload.usd_a_month(asked, chosen, overheads),
        workload.usd_by_year(asked, chosen, overheads, question.growth_percent, question.years),
        {one.name: workload.usd_a_month(asked, one, overheads) for one in prices.cloud},
        tuple(text for text, value in zip(HIDDEN, given, strict=True) if not value),
    )


def _own(question: Question, prices: PriceList) -> Own:
    wish, years = question.wish, question.years
    assert wish is not None
    title = wish.server.title if wish.servers == 1 else f"{wish.servers} x {wish.server.title}"
    return Own(
        title,
        premises.cost(wish, prices.running, years),
        premises.cost(wish, prices.running, years, premises.low).total,
        premises.cost(wish, prices.running, years, premises.high).total,
        premises.parts_of_a_month(wish, prices.running, premises.middle),
        wish.server.worth_from_usd if wish.servers == 1 else None,
        (*_source_of_purchase(wish), f"each month: {prices.running.source}"),
    )


def _source_of_purchase(wish: Wish) -> tuple[str, ...]:
    return (f"server: {wish.server.source}",) if wish.price_krw is None else ()
