"""A study as JSON: {cloud, on_premise, break_even_month, recommendation} and what they rest on.

USD are numbers to the cent, KRW whole numbers; what is not known is null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from aibox.tco.money import Currency, exactly, plainly, whole
from aibox.tco.study import Load, Own, Published, Study


def as_json(study: Study, currency: Currency) -> dict[str, object]:
    """The contract of `aibox tco --json`; `currency` says what the table is in."""
    return {
        "title": study.title,
        "years": study.years,
        "load": _load(study.load),
        "cloud": _cloud(study),
        "on_premise": _own(study.own, study) if study.own else None,
        "break_even_month": study.comparison.break_even_month if study.comparison else None,
        "recommendation": _recommendation(study),
        "table": {"currency": currency.value, "rows": rows(study, currency)},
        "prices": {
            "as_of": study.prices.as_of,
            "source": study.prices.source,
            "krw_per_usd": float(study.prices.exchange.krw_per_usd),
        },
        "assumed": list(study.assumed),
        "measured": study.measured.as_json() if study.measured else None,
        "published": _published(study.published),
    }


def rows(study: Study, currency: Currency) -> list[dict[str, object]]:
    """Year by year what each side has cost, the purchase in the first; then the sum."""
    rate = study.prices.exchange.krw_per_usd
    return [
        {
            "period": name,
            "cloud": number(cloud, rate, currency),
            "on_premise": None if own is None else number(own, rate, currency),
        }
        for name, cloud, own in periods(study)
    ]


def periods(study: Study) -> Iterator[tuple[str, Decimal, Decimal | None]]:
    """The table in KRW: each year by its name, then the total."""
    for year, (cloud, own) in enumerate(study.by_year(), start=1):
        yield f"year {year}", cloud, own
    rate = study.prices.exchange.krw_per_usd
    yield "total", study.cloud.total_usd * rate, study.own.costs.total if study.own else None


def in_currency(krw: Decimal, rate: Decimal, currency: Currency) -> Decimal:
    """An amount of KRW in the currency that is shown."""
    return krw if currency is Currency.KRW else krw / rate


def number(krw: Decimal, rate: Decimal, currency: Currency) -> int | float:
    """An amount of KRW as a JSON number of the currency."""
    amount = in_currency(krw, rate, currency)
    return whole(amount) if currency is Currency.KRW else exactly(amount)


def _load(load: Load) -> dict[str, object]:
    hidden = load.overheads
    found = {
        "requests_per_day": load.requests_per_day,
        "days_per_month": Decimal(load.days_per_month),
        "tokens_in": load.tokens_in,
        "tokens_out": load.tokens_out,
        "usd_per_request": load.usd_per_request,
        "growth_percent": load.growth_percent,
        "prompt_overhead_percent": hidden.prompt_percent,
        "retries_percent": hidden.retry_percent,
        "embeddings_usd_a_month": hidden.embeddings_usd,
    }
    return {name: None if value is None else plainly(value) for name, value in found.items()}


def _cloud(study: Study) -> dict[str, object]:
    cloud = study.cloud
    return {
        "model": cloud.title,
        "requests_per_month": exactly(cloud.requests_per_month),
        "month_usd": exactly(cloud.month_usd),
        "by_year_usd": [exactly(usd) for usd in cloud.by_year_usd],
        "total_usd": exactly(cloud.total_usd),
        "total_krw": whole(cloud.total_usd * study.prices.exchange.krw_per_usd),
        "month_usd_by_model": {name: exactly(usd) for name, usd in cloud.by_model.items()},
        "not_counted": list(cloud.not_counted),
    }


def _own(own: Own, study: Study) -> dict[str, object]:
    assert study.comparison is not None
    return {
        "hardware": own.title,
        "purchase_krw": whole(own.costs.purchase),
        "running_krw_by_year": [whole(krw) for krw in own.costs.running_by_year],
        "total_krw": whole(own.costs.total),
        "total_usd": exactly(own.costs.total / study.prices.exchange.krw_per_usd),
        "range_krw": None
        if own.least is None
        else [whole(own.least), whole(own.most or own.least)],
        "month_krw_by_part": {name: whole(krw) for name, krw in own.month_parts.items()},
        "month_krw_with_depreciation": whole(
            study.comparison.premises_a_month(study.depreciation_months)
        ),
        "depreciation_months": study.depreciation_months,
        "sources": list(own.sources),
    }


def _recommendation(study: Study) -> dict[str, object]:
    found = study.recommendation
    return {
        "choice": found.choice.value,
        "basis": found.basis.value,
        "by_cost": found.by_cost.value,
        "reasons": list(found.reasons),
        "open_questions": list(found.open_questions),
    }


def _published(published: Published | None) -> Mapping[str, object] | None:
    if published is None:
        return None
    sums = {
        "cloud_usd": published.cloud_usd,
        "cloud_usd_unrounded": published.unrounded_usd,
        "on_premise_krw": published.on_premise_krw,
    }
    return {
        "month_usd_by_model": {name: exactly(usd) for name, usd in published.usd_a_month.items()},
        **{name: None if amount is None else exactly(amount) for name, amount in sums.items()},
        "conclusion": published.conclusion or None,
    }
