"""One study: what was asked, what was assumed, both sides and the recommendation."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    title: str
    costs: Premises
    least: Decimal | None = None
    most: Decimal | None = None
    month_parts: Mapping[str, Decimal] = field(default_factory=dict)
    worth_from_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Published:
    """What was published of a scenario. `unrounded_usd` is what comes of its growth exactly."""

    usd_a_month: Mapping[str, Decimal] = field(default_factory=dict)
    cloud_usd: Decimal | None = None
    unrounded_usd: Decimal | None = None
    on_premise_krw: Decimal | None = None
    conclusion: str = ""


@dataclass(frozen=True, slots=True)
class Study:
    """A whole answer. `own` and `comparison` are None where no server was named."""

    title: str
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


@dataclass(frozen=True, slots=True)
class Question:
    """What a study of a workload is about; `wish` None compares with nothing."""

    title: str
    workload: Workload
    model: str
    wish: Wish | None
    growth_percent: Decimal = Decimal(0)
    overheads: Overheads = field(default_factory=Overheads)
    years: int = 3
    depreciation_months: int = 36


def of_workload(question: Question, prices: PriceList, answers: Answers) -> Study:
    """The study of a workload, with the published or with one's own numbers."""
    within("--depreciation-months", question.depreciation_months, 1, 120)
    cloud = _cloud(question, prices)
    own = _own(question, prices) if question.wish else None
    rate = prices.exchange.krw_per_usd
    compared = (
        Comparison(tuple(usd * rate for usd in cloud.by_year_usd), own.costs) if own else None
    )
    answered = replace(answers, requests_per_day=question.workload.requests_per_day)
    return Study(
        question.title,
        prices,
        question.years,
        question.depreciation_months,
        cloud,
        own,
        compared,
        decision.recommend(answered, compared),
    )


def of_comparison(one: ComparisonScenario, prices: PriceList, answers: Answers) -> Study:
    """The study of a published comparison."""
    compared = one.compared(prices.exchange.krw_per_usd)
    requests = Decimal(one.requests_per_month)
    cloud = Cloud("published cost of a request", requests, one.usd_a_month, one.usd_by_year)
    own = Own(one.hardware, compared.premises)
    answered = replace(answers, requests_per_day=Decimal(one.requests_per_day))
    years = len(one.running_krw)
    exact = workload.grown(one.usd_a_month * workload.MONTHS, one.growth_percent, years)
    published = Published(
        cloud_usd=one.published_cloud_usd,
        unrounded_usd=sum(exact, Decimal(0)),
        on_premise_krw=one.published_on_premise_krw,
        conclusion=one.published_conclusion,
    )
    recommendation = decision.recommend(answered, compared)
    title = f"Scenario {one.name}: {one.title}"
    return Study(
        title, prices, years, 36, cloud, own, compared, recommendation, published=published
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
        wish.server.worth_from_usd,
    )
