"""`aibox calibrate`: what the engine found on this hardware, beside what `aibox fit` computed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from aibox import measure
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.measure import Calibrated
from aibox.measuring import basis
from aibox.measuring.basis import CHAT
from aibox.measuring.calibration import Calibration, Row

Service = Annotated[str, typer.Option("--service", help="Which engine.")]


def calibrate(service: Service = CHAT, as_json: AsJson = False) -> None:
    """Compare an engine's start with what was computed, and keep what it would freeze."""
    with show.progress() as report:
        done = measure.calibrate(workplace(report), service)
    if as_json:
        told = {**done.calibration.model_dump(mode="json"), "file": str(done.path)}
        show.data({**told, "was_stale": list(done.was_stale)})
        return
    for line in _lines(done):
        show.text(line)


def _lines(done: Calibrated) -> Iterator[str]:
    found = done.calibration
    if done.was_stale:
        yield f"the calibration before this one counted no more: {'; '.join(done.was_stale)}"
    yield f"engine      {found.service}, vLLM {found.started.engine or 'of unknown version'}"
    yield f"hardware    {', '.join(found.basis.hardware)}"
    if found.predicted:
        yield f"computed    nothing: {found.predicted}"
    yield from (f"  {line}" for line in map(_row, found.rows))
    yield _freeze(found)
    yield _throughput(found)
    yield f"kept in     {done.path}"


def _row(row: Row) -> str:
    computed = _span(row.low, row.high)
    measured = "not told" if row.measured is None else f"{row.measured:,.10g}"
    word = {True: "as computed", False: "NOT as computed", None: ""}[row.within]
    return f"{row.what}: computed {computed}, measured {measured}  {word}".rstrip()


def _span(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return "unknown"
    return f"{low:,.10g}" if low == high else f"{low:,.10g} to {high:,.10g}"


def _throughput(found: Calibration) -> str:
    if not found.throughput:
        bench = basis.typed("bench", found.service)
        return f"throughput  not measured for this engine yet: {bench}"
    best = max(found.throughput, key=lambda one: one.written_per_s)
    return f"throughput  up to {best.written_per_s:,.1f} tokens/s written ({best.load})"


def _freeze(found: Calibration) -> str:
    if found.freeze is None:
        return f"to freeze   nothing: {found.why_not}"
    return (
        f"to freeze   kv-cache-memory-bytes = {found.freeze}; who makes the release takes it in "
        "with: ./aibox lock --calibration FILE"
    )


COMMANDS = {"calibrate": calibrate}
