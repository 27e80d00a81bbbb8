"""`aibox start | stop | gc`: running what is installed, and freeing what is not needed."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import pipeline
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace


def start(as_json: AsJson = False) -> None:
    """Start the services and wait until the box answers."""
    with show.progress() as report:
        generation = pipeline.start(workplace(report))
    if as_json:
        show.data({"generation": generation, "state": "running"})
    else:
        show.note(f"generation {generation} is running")


def stop(as_json: AsJson = False) -> None:
    """Stop the services; the box stays installed."""
    with show.progress() as report:
        pipeline.stop(workplace(report))
    show.data({"state": "stopped"}) if as_json else show.note("stopped")


def collect(
    keep: Annotated[int, typer.Option("--keep", min=2, help="Good generations to keep.")] = 2,
    as_json: AsJson = False,
) -> None:
    """Remove old generations and what only they need; never what may have to serve again."""
    with show.progress() as report:
        freed = pipeline.collect(workplace(report), keep)
    if as_json:
        show.data(
            {
                "generations": list(freed.generations),
                "blobs": freed.blobs,
                "environments": freed.environments,
                "bytes": freed.size,
            }
        )
    else:
        show.text(
            f"removed {len(freed.generations)} generations, {freed.blobs} blobs, "
            f"{freed.environments} environments: {freed.size / 1048576:.1f} MiB"
        )


COMMANDS = {"start": start, "stop": stop, "gc": collect}
