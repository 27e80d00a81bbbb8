"""`aibox tco`: a cloud API against servers of one's own, by a dated list of prices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from aibox import content
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.errors import AiboxError, BadUsage, Fault
from aibox.tco import assumptions, drawing, json_report, measured, scenarios, study, text_report
from aibox.tco import prices as pricing
from aibox.tco.assumptions import Asked
from aibox.tco.decision import Answers
from aibox.tco.measured import Measured
from aibox.tco.money import Currency, within
from aibox.tco.premises import Wish
from aibox.tco.prices import PriceList
from aibox.tco.scenarios import ComparisonScenario
from aibox.tco.study import Published, Question, Study
from aibox.tco.workload import Overheads, Workload

MODEL = "gpt-4o"
SERVER = "a100x2"
_MOST = 10**15


class YesNo(StrEnum):
    """An answer to a question of the decision."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class CloudOptions:
    """What was typed about the cloud and the time; None where nothing was."""

    model: str | None = None
    growth: Decimal | None = None
    years: int | None = None
    prompt_overhead: Decimal | None = None
    retries: Decimal | None = None
    embeddings_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What was typed about servers; None where nothing was."""

    server: str | None = None
    servers: int | None = None
    server_price: Decimal | None = None
    power_watt: int | None = None
    people: Decimal | None = None
    maintenance: Decimal | None = None
    depreciation_months: int | None = None


def _number(text: str | Decimal) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise typer.BadParameter(f"{text!r} is not a number, as 5400000 or 0.5") from error


def _option(explained: str) -> Any:
    return typer.Option(help=explained, parser=_number, metavar="NUMBER")


T = TypeVar("T", int, str)
Text = str | None
Number = Decimal | None
Whole = int | None
Answer = YesNo | None


def tco(
    scenario: Annotated[Text, typer.Option(help="Published: A B C small medium large.")] = None,
    users: Annotated[Whole, typer.Option(help="People who ask.")] = None,
    requests_per_user: Annotated[Number, _option("Of one of them, a day.")] = None,
    requests_per_day: Annotated[Number, _option("Of all, instead of --users.")] = None,
    days_per_month: Annotated[Whole, typer.Option(help="Default: 22; 30 if measured.")] = None,
    tokens_in: Annotated[Number, _option("Tokens a request brings.")] = None,
    tokens_out: Annotated[Number, _option("Tokens of an answer.")] = None,
    model: Annotated[Text, typer.Option(help=f"Of the cloud. Default: {MODEL}.")] = None,
    growth: Annotated[Number, _option("Percent a year. Default: 0.")] = None,
    years: Annotated[Whole, typer.Option(help="1 to 5. Default: 3.")] = None,
    prompt_overhead: Annotated[Number, _option("Percent more tokens in. Default: 0.")] = None,
    retries: Annotated[Number, _option("Percent of repeated requests. Default: 0.")] = None,
    embeddings_usd: Annotated[Number, _option("USD a month. Default: 0.")] = None,
    server: Annotated[Text, typer.Option(help=f"Default: {SERVER}.")] = None,
    servers: Annotated[Whole, typer.Option(help="How many. Default: 1.")] = None,
    server_price: Annotated[Number, _option("KRW for one server.")] = None,
    power_watt: Annotated[Whole, typer.Option(help="What one server draws on average.")] = None,
    people: Annotated[Number, _option("KRW a month for people.")] = None,
    maintenance: Annotated[Number, _option("Percent of the server's price a year.")] = None,
    depreciation_months: Annotated[Whole, typer.Option(help="Default: 36.")] = None,
    sensitive_data: Annotated[Answer, typer.Option(help="Is the data sensitive?")] = None,
    can_be_masked: Annotated[Answer, typer.Option(help="Can it be masked?")] = None,
    machine_learning_engineer: Annotated[Answer, typer.Option(help="Is there one?")] = None,
    budget_krw: Annotated[Number, _option("KRW for three years.")] = None,
    prices: Annotated[Path | None, typer.Option(help="A price list of your own.")] = None,
    currency: Annotated[
        Currency, typer.Option(help="Of the table and the chart.", case_sensitive=False)
    ] = Currency.USD,
    chart: Annotated[Path | None, typer.Option(help="Draw the costs to this .svg file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Compare a cloud API with servers of your own: costs, break-even, recommendation.

    Tokens and requests that you leave out are those that the box has measured.
    """
    asked = Asked(users, requests_per_user, requests_per_day, days_per_month, tokens_in, tokens_out)
    cloud = CloudOptions(model, growth, years, prompt_overhead, retries, embeddings_usd)
    own = ServerOptions(
        server, servers, server_price, power_watt, people, maintenance, depreciation_months
    )
    answers = Answers(
        sensitive=_said(sensitive_data),
        maskable=_said(can_be_masked),
        engineer=_said(machine_learning_engineer),
        budget_krw=budget_krw
        if budget_krw is None
        else within("--budget-krw", budget_krw, 0, _MOST),
    )
    path = content.find().prices / "prices.toml" if prices is None else prices
    options = Options(asked, cloud, own, answers, pricing.load(path))
    found = _of_own_numbers(options) if scenario is None else _of_scenario(scenario, options)
    if chart:
        _draw(found, currency, chart)
    if as_json:
        show.data(json_report.as_json(found, currency))
    else:
        for line in text_report.lines(found, currency):
            show.text(line)
    _say_how_old(options.prices, path, own=prices is not None)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that was typed, and the price list."""

    asked: Asked
    cloud: CloudOptions
    own: ServerOptions
    answers: Answers
    prices: PriceList


def _of_scenario(name: str, options: Options) -> Study:
    one = scenarios.load(content.find().prices / "scenarios.toml").named(name)
    if isinstance(one, ComparisonScenario):
        if (options.asked, options.cloud, options.own) != (
            Asked(),
            CloudOptions(),
            ServerOptions(),
        ):
            raise _beside_a_scenario(name, "its costs are as published; no other numbers fit in")
        return study.of_comparison(one, options.prices, options.answers)
    if options.asked != Asked():
        raise _beside_a_scenario(name, "it says itself how much is asked")
    wish = None if options.own == ServerOptions() else _wish(options)
    title = f"Scenario {one.name}: {one.title}"
    question = _question(title, one.workload, options, wish)
    found = study.of_workload(question, options.prices, options.answers)
    published = Published(one.published_usd_a_month)
    return replace(found, published=published, assumed=_defaults(options, wish))


def _of_own_numbers(options: Options) -> Study:
    asked = options.asked
    counted = _measured() if asked.needs_measuring else None
    workload, assumed = assumptions.workload(asked, counted or Measured())
    wish = _wish(options)
    question = _question("Cloud against on premises", workload, options, wish)
    found = study.of_workload(question, options.prices, options.answers)
    return replace(found, measured=counted, assumed=(*assumed, *_defaults(options, wish)))


def _question(title: str, workload: Workload, options: Options, wish: Wish | None) -> Question:
    cloud, nothing = options.cloud, Decimal(0)
    return Question(
        title,
        workload,
        _or(cloud.model, MODEL),
        wish,
        cloud.growth or nothing,
        Overheads(
            cloud.prompt_overhead or nothing,
            cloud.retries or nothing,
            cloud.embeddings_usd or nothing,
        ),
        _or(cloud.years, study.YEARS),
        _or(options.own.depreciation_months, study.DEPRECIATION_MONTHS),
    )


def _wish(options: Options) -> Wish:
    own = options.own
    return Wish(
        options.prices.server_price(_or(own.server, SERVER)),
        _or(own.servers, 1),
        own.server_price,
        own.power_watt,
        own.people,
        own.maintenance,
    )


def _or(typed: T | None, default: T) -> T:
    return default if typed is None else typed


def _defaults(options: Options, wish: Wish | None) -> tuple[str, ...]:
    """What was not typed and has a value all the same."""
    cloud, own = options.cloud, options.own
    told = {
        f"model {MODEL} (--model)": cloud.model,
        "a usage that does not grow (--growth)": cloud.growth,
        f"{study.YEARS} years (--years)": cloud.years,
    }
    if wish is not None:
        spread = f"the purchase spread over {study.DEPRECIATION_MONTHS} months"
        told |= {
            f"server {SERVER} (--server)": own.server,
            "one server (--servers)": own.servers,
            f"{spread} (--depreciation-months)": own.depreciation_months,
            "the servers carry the load of every year; see what fits with ./aibox fit": None,
        }
    return tuple(sentence for sentence, typed in told.items() if typed is None)


def _measured() -> Measured:
    """What the box of this host has counted; why not, where it has not."""
    # Here, because comparing typed numbers need not wait for what speaks to a box.
    from aibox import talking
    from aibox.cli.workplace import workplace

    try:
        with show.progress() as report:
            return measured.read(talking.usage(workplace(report)))
    except AiboxError as error:
        return Measured(reasons=(error.message,))


def _said(answer: YesNo | None) -> bool | None:
    return None if answer is None else answer is YesNo.YES


def _draw(found: Study, currency: Currency, path: Path) -> None:
    if path.suffix != ".svg":
        raise _no_chart(path, "the name must end in .svg")
    try:
        path.write_text(drawing.svg(found, currency), encoding="utf-8")
    except OSError as error:
        raise _no_chart(path, f"it cannot be written: {error.strerror}") from error


def _no_chart(path: Path, why: str) -> BadUsage:
    return BadUsage(
        "chart-not-written",
        f"{path}: {why}",
        hint="for example: ./aibox tco --scenario large --chart costs.svg",
        fault=Fault.YOU,
    )


def _say_how_old(prices: PriceList, path: Path, *, own: bool) -> None:
    """A word on stderr where the date of the prices is of another year or still to come."""
    today = date.today().isoformat()
    if prices.as_of > today:
        show.note(f"note: {path} is dated {prices.as_of}, and today is {today}")
    elif prices.as_of[:4] < today[:4]:
        where = str(path) if own else f"a copy of {path} and name it with --prices"
        show.note(
            f"note: these prices are of {prices.as_of}; correct them in {where} before you decide"
        )


def _beside_a_scenario(name: str, why: str) -> BadUsage:
    return BadUsage(
        "scenario-and-numbers",
        f"scenario {name} takes no numbers of your own: {why}",
        hint=f"see it as it is: ./aibox tco --scenario {name}",
        fault=Fault.YOU,
    )


COMMANDS = {"tco": tco}
