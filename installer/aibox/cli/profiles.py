"""`aibox profiles [show NAME]`: what a box can be, and what of that this host can take."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import choosing, content, profile
from aibox.box import gpus
from aibox.choosing import Candidate
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.errors import BadUsage, Fault
from aibox.hardware import Hardware, Machine
from aibox.profile import Profile


def profiles(
    action: Annotated[str | None, typer.Argument(help="'show', or nothing to list.")] = None,
    name: Annotated[str | None, typer.Argument(help="The profile to show.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the profiles and whether they fit this host, or show one."""
    folder = content.find().profiles
    if action is None:
        _list([profile.load(folder, known) for known in profile.names(folder)], as_json)
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


def _list(found: list[Profile], as_json: bool) -> None:
    machine = gpus.detect()
    if as_json:
        show.data([_told(one, machine) for one in found])
        return
    rows = [_row(one, machine) for one in found]
    show.table(rows, ("name", "fits", "runtime", "gpus", "title"))
    for problem in machine.problems:
        show.note(problem)
    if not all(row["fits"] for row in rows):
        show.note("why the others do not fit: ./aibox profiles --json")


def _row(one: Profile, machine: Machine) -> dict[str, str]:
    return {
        "name": one.name,
        "fits": "yes" if choosing.judge(Candidate.of(one), machine).fits else "",
        "runtime": one.runtime.value,
        "gpus": _gpus(one.hardware),
        "title": one.title,
    }


def _told(one: Profile, machine: Machine) -> dict[str, object]:
    found = choosing.judge(Candidate.of(one), machine)
    return {
        "name": one.name,
        "runtime": one.runtime.value,
        "title": one.title,
        "hardware": one.hardware.model_dump(mode="json") if one.hardware else None,
        "fits": found.fits,
        "reasons": list(found.reasons),
        "notes": list(found.notes),
    }


def _gpus(wanted: Hardware | None) -> str:
    return f"{wanted.count} x {wanted.memory_mib_min // 1024} GiB" if wanted else "none"


COMMANDS = {"profiles": profiles}
