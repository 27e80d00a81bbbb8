"""The chart of a study: what each side has cost, month by month."""

from __future__ import annotations

from decimal import Decimal

from aibox import chart
from aibox.chart import Axis, Chart, Line, Mark
from aibox.tco.comparison import Comparison
from aibox.tco.json_report import in_currency
from aibox.tco.money import Currency
from aibox.tco.premises import Premises
from aibox.tco.study import Study


def svg(study: Study, currency: Currency) -> str:
    """The chart as SVG; the cloud alone where no server was named."""
    rate = study.prices.exchange.krw_per_usd
    years = tuple(usd * rate for usd in study.cloud.by_year_usd)
    shown = study.comparison or Comparison(years, Premises(Decimal(0), (Decimal(0),) * len(years)))
    months = range(shown.months + 1)

    def line(name: str, amounts: list[Decimal]) -> Line:
        return Line(
            name, [(m, float(in_currency(krw, rate, currency))) for m, krw in enumerate(amounts)]
        )

    drawn = [line(f"cloud: {study.cloud.title}", [shown.cloud_until(m) for m in months])]
    if study.own:
        own = [shown.premises_until(month) for month in months]
        drawn.append(line(f"on premises: {study.own.title}", own))
    reached = study.comparison.break_even_month if study.comparison else None
    marks = [Mark(reached, f"break-even: month {reached}")] if reached else []
    return chart.draw(
        Chart(
            study.title,
            Axis("months", marks=marks),
            Axis(f"cost so far, {currency.value}"),
            drawn,
        )
    )
