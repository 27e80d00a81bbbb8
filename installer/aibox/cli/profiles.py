"""`aibox profiles [show NAME]`: what a box can be."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import content, profile
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.errors import BadUsage, Fault


def profiles(
    action: Annotated[str | None, typer.Argument(help="'show', or nothing to list.")] = None,
    name: Annotated[str | None, typer.Argument(help="The profile to show.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the profiles, or show one: its requirements, services and tuning wishes."""
    folder = content.find().profiles
    if action is None:
        found = [profile.load(folder, known) for known in profile.names(folder)]
        rows = [{"name": p.name, "runtime": p.runtime.value, "title": p.title} for p in found]
        show.data(rows) if as_json else show.table(rows, ("name", "runtime", "title"))
        return
    if action != "show" or name is None:
        raise BadUsage(
            "profiles-usage",
            "say what to show",
            hint="for example: ./aibox profiles show local",
            fault=Fault.YOU,
        )
    chosen = profile.load(folder, name)
    if as_json:
        show.data(chosen.model_dump(mode="json"))
    else:
        show.text((folder / f"{name}.toml").read_text(encoding="utf-8").rstrip())


COMMANDS = {"profiles": profiles}
