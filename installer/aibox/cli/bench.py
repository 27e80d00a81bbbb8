"""`aibox bench`: how fast a running engine answers, by its makers' own benchmark client."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import measure
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.errors import BadUsage, Fault
from aibox.measuring.basis import CHAT
from aibox.measuring.load import Measured

_MOST = 1024
_COLUMNS = (
    *("load", "at_once", "requests", "failed", "tokens_per_s", "answers_per_s"),
    *("first_token_ms", "p95", "token_ms", "answer_s"),
)

Concurrency = Annotated[
    str | None,
    typer.Option(
        "--concurrency", help="How many ask at once, as 1,4,16; default: 1 to 64, quick 1 and 4."
    ),
]
Quick = Annotated[
    bool, typer.Option("--quick", help="Shorter texts and fewer requests, for a small box.")
]
Service = Annotated[str, typer.Option("--service", help="Which engine.")]


def bench(
    concurrency: Concurrency = None,
    quick: Quick = False,
    service: Service = CHAT,
    as_json: AsJson = False,
) -> None:
    """Measure a running engine under load, and keep the result with its release."""
    many = _numbers(concurrency) if concurrency is not None else None
    with show.progress() as report:
        found = measure.bench(workplace(report), many, quick=quick, service=service)
    if as_json:
        show.data(found.model_dump(mode="json"))
        return
    show.table([row(one) for one in found.measured], _COLUMNS)
    where = f"{found.service} on {', '.join(found.basis.hardware)}"
    show.note(f"{where}; kept with release {found.release[:12]}")
    if any(one.failed for one in found.measured):
        show.note(
            "failed requests got no answer: the engine was full (max-num-queued-reqs) or in "
            "trouble; ask with fewer at once, or look with: ./aibox doctor"
        )


def row(one: Measured) -> dict[str, object]:
    """A measurement as people read it: the middle value, and what 95 of 100 stay below."""
    return {
        "load": one.load.shape.kind.value,
        "at_once": one.load.concurrency,
        "requests": one.load.requests,
        "failed": one.failed,
        "tokens_per_s": f"{one.written_per_s:.1f}",
        "answers_per_s": f"{one.answers_per_s:.2f}",
        "first_token_ms": f"{one.first_token.p50:.0f}",
        "p95": f"{one.first_token.p95:.0f}",
        "token_ms": f"{one.token.p50:.1f}",
        "answer_s": f"{one.answer.p50 / 1000:.1f}",
    }


def _numbers(text: str) -> tuple[int, ...]:
    try:
        found = sorted({int(one) for one in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1 or found[-1] > _MOST:
        raise BadUsage(
            "bench-usage",
            f"--concurrency {text!r} is no list of whole numbers from 1 to {_MOST}",
            hint="for example: ./aibox bench --concurrency 1,4,16",
            fault=Fault.YOU,
        )
    return tuple(found)


COMMANDS = {"bench": bench}
