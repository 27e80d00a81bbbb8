"""A study for people: lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from aibox.tco.decision import Basis, Choice, Recommendation
from aibox.tco.json_report import in_currency, periods
from aibox.tco.money import Currency, count, shown
from aibox.tco.study import Cloud, Load, Own, Published, Study

_COLUMN = 17


def lines(study: Study, currency: Currency) -> Iterator[str]:
    """The whole study."""
    yield study.title
    yield from _load(study.load)
    yield from _basis(study)
    yield ""
    yield from _cloud(study.cloud, study.published)
    if study.own:
        yield ""
        yield from _own(study.own)
    yield ""
    yield from _table(study, currency)
    yield from _balance(study, currency)
    if study.published and study.published.conclusion:
        yield from _as_published(study.published)
    yield ""
    yield from _recommended(study.recommendation)


def _load(load: Load) -> Iterator[str]:
    """What is compared, so that a printed sheet stands alone."""
    volume = f"{count(load.requests_per_day)} requests a day on {load.days_per_month} days a month"
    if load.usd_per_request is not None:
        yield f"load: {volume}, {load.usd_per_request.normalize():f} USD each"
    elif load.tokens_in is not None and load.tokens_out is not None:
        tokens_in, tokens_out = count(load.tokens_in), count(load.tokens_out)
        yield f"load: {volume}, each of {tokens_in} tokens in and {tokens_out} out"
    hidden = load.overheads
    for told, value in (
        ("the usage grows by {} % a year", load.growth_percent),
        ("counted: prompt overhead, {} % more tokens in", hidden.prompt_percent),
        ("counted: repeated requests, {} %", hidden.retry_percent),
        ("counted: embeddings, {} USD a month; they do not grow", hidden.embeddings_usd),
    ):
        if value:
            yield told.format(f"{value.normalize():,f}")


def _basis(study: Study) -> Iterator[str]:
    prices = study.prices
    yield f"prices as of {prices.as_of}: {prices.source}"
    yield f"{prices.exchange.krw_per_usd:,} KRW per USD: {prices.exchange.source}"
    if study.measured:
        for reason in study.measured.reasons:
            yield f"not measured: {reason}"
    for assumption in study.assumed:
        yield f"assumed: {assumption}"


def _cloud(cloud: Cloud, published: Published | None) -> Iterator[str]:
    month = shown(cloud.month_usd, Currency.USD)
    requests = f"{count(cloud.requests_per_month)} requests"
    yield f"Cloud ({cloud.title}): {month} a month for {requests}, in the first year"
    known = published.usd_a_month if published else {}
    for name, usd in cloud.by_model.items():
        beside = f"   published: {shown(known[name], Currency.USD)}" if name in known else ""
        yield f"  {name:<20}{shown(usd, Currency.USD):>12} a month{beside}"
    for item in cloud.not_counted:
        yield f"  not counted: {item}"


def _own(own: Own) -> Iterator[str]:
    yield f"On premises ({own.title}): {shown(own.costs.purchase, Currency.KRW)} to buy"
    for name, krw in own.month_parts.items():
        yield f"  {name:<20}{shown(krw, Currency.KRW):>18} a month"
    for source in own.sources:
        yield f"  by the price list, {source}"
    if own.least is not None and own.most is not None:
        yield (
            f"  all years, by the lowest and by the highest prices of the list: "
            f"{shown(own.least, Currency.KRW)} to {shown(own.most, Currency.KRW)}"
        )


def _table(study: Study, currency: Currency) -> Iterator[str]:
    rate = study.prices.exchange.krw_per_usd

    def cell(krw: Decimal | None) -> str:
        return "unknown" if krw is None else shown(in_currency(krw, rate, currency), currency)

    yield _row("", "cloud", "on premises")
    for name, cloud, own in periods(study):
        yield _row(name, cell(cloud), cell(own))
    if study.own:
        yield "the servers are bought in year 1"


def _row(name: str, cloud: str, own: str) -> str:
    return f"{name:<10}{cloud:>{_COLUMN}}  {own:>{_COLUMN}}"


def _balance(study: Study, currency: Currency) -> Iterator[str]:
    if study.comparison is None or study.own is None:
        yield "break-even: unknown, no server was named (--server)"
        return
    month = study.comparison.break_even_month
    reached = f"month {month}" if month else f"not within {study.comparison.months} months"
    yield f"break-even: {reached}"
    rate = study.prices.exchange.krw_per_usd
    monthly = study.comparison.premises_a_month(study.depreciation_months)
    yield (
        f"servers of one's own pay off from {shown(in_currency(monthly, rate, currency), currency)}"
        f" of cloud costs a month (running costs and the purchase over "
        f"{study.depreciation_months} months)"
    )
    if study.own.worth_from_usd is not None:
        thumb = shown(study.own.worth_from_usd, Currency.USD)
        yield f"the field's rule of thumb for such a server: from {thumb} of cloud costs a month"


def _as_published(published: Published) -> Iterator[str]:
    if published.cloud_usd is None or published.on_premise_krw is None:
        return
    yield (
        f"published: {shown(published.cloud_usd, Currency.USD)} against "
        f"{shown(published.on_premise_krw, Currency.KRW)}; {published.conclusion}"
    )
    if published.unrounded_usd is not None and published.unrounded_usd != published.cloud_usd:
        exact = shown(published.unrounded_usd, Currency.USD)
        yield f"the published years are rounded; the same growth gives exactly {exact}"


def _recommended(found: Recommendation) -> Iterator[str]:
    beside = ""
    if found.basis is Basis.COST:
        beside = " (by cost; the questions may overrule it)"
    elif found.by_cost not in (found.choice, Choice.UNKNOWN):
        beside = f" (by the questions; the cost alone says {found.by_cost.value})"
    yield f"Recommendation: {found.choice.value}{beside}"
    for reason in found.reasons:
        yield f"  - {reason}"
    if found.open_questions:
        yield f"  answer for a sounder one: {', '.join(found.open_questions)}"
