"""`aibox lock`: resolve profiles, files and packages into models.lock."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import pipeline
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.errors import BadUsage, Fault


def lock(
    check: Annotated[
        bool, typer.Option("--check", help="Say what is stale; write nothing.")
    ] = False,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="Only this profile; may be repeated.")
    ] = None,
    upgrade: Annotated[
        list[str] | None, typer.Option("--upgrade", help="Package to move to its newest version.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write models.lock anew from profiles, prompts, questions, the app and its packages."""
    with show.progress() as report:
        changes = pipeline.lock(workplace(report), profile or [], upgrade or [], write=not check)
    rows = [change.model_dump() for change in changes]
    show.data(rows) if as_json else show.table(rows, ("name", "current", "desired"))
    if check and changes:
        show.end_with(
            BadUsage(
                "lock-stale",
                f"models.lock is not what the checkout says: {len(changes)} differences",
                hint="take them in, and review them, with: ./aibox lock",
                fault=Fault.YOU,
            )
        )


COMMANDS = {"lock": lock}
