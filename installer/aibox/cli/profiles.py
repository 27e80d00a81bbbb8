"""`aibox profiles [show NAME]`: what a box can be, and what of that this host can take."""

from __future__ import annotations

from typing import Annotated

import typer

from aibox import content, profile, profile_choice
from aibox.box import gpus
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.errors import BadUsage, Fault
from aibox.fit import catalogue, loadable
from aibox.fit.catalogue import Catalogue
from aibox.hardware import Hardware, Machine, Match
from aibox.profile import Capacity, Profile
from aibox.profile_choice import Candidate


def profiles(
    action: Annotated[str | None, typer.Argument(help="'show', or nothing to list.")] = None,
    name: Annotated[str | None, typer.Argument(help="The profile to show.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the profiles and whether they fit this host, or show one."""
    found = content.find()
    folder = found.profiles
    if action is None:
        known = [profile.load(folder, name) for name in profile.names(folder)]
        _list(known, catalogue.load(found.catalogue), as_json)
        return
    if action != "show" or name is None:
        raise BadUsage(
            "profiles-usage",
            "say which profile to show" if action == "show" else f"{action!r} is not 'show'",
            hint="for example: ./aibox profiles show local",
            fault=Fault.YOU,
        )
    chosen = profile.load(folder, name)
    if as_json:
        show.data(chosen.model_dump(mode="json"))
    else:
        show.text((folder / f"{name}.toml").read_text(encoding="utf-8").rstrip())


def _list(found: list[Profile], known: Catalogue, as_json: bool) -> None:
    machine = gpus.detect()
    judged = [(one, _judge(one, machine, known)) for one in found]
    if as_json:
        show.data([_told(*pair) for pair in judged])
        return
    rows = [_row(*pair) for pair in judged]
    show.table(rows, ("name", "fits", "runtime", "gpus", "holds", "title"))
    for problem in machine.problems:
        show.note(problem)
    if not all(row["fits"] for row in rows):
        show.note("why the others do not fit: ./aibox profiles --json")


def _judge(one: Profile, machine: Machine, known: Catalogue) -> Match:
    """The profile against this host, and its models against its own engines."""
    found = profile_choice.judge(Candidate.of(one), machine)
    unloadable = map(str, loadable.of_profile(known, one))
    return Match((*found.reasons, *unloadable), found.notes)


def _row(one: Profile, found: Match) -> dict[str, str]:
    return {
        "name": one.name,
        "fits": "yes" if found.fits else "",
        "runtime": one.runtime.value,
        "gpus": _gpus(one.hardware),
        "holds": _holds(one.capacity),
        "title": one.title,
    }


def _told(one: Profile, found: Match) -> dict[str, object]:
    return {
        "name": one.name,
        "runtime": one.runtime.value,
        "title": one.title,
        "hardware": one.hardware.model_dump(mode="json") if one.hardware else None,
        "capacity": one.capacity.model_dump(mode="json") if one.capacity else None,
        "fits": found.fits,
        "reasons": list(found.reasons),
        "notes": list(found.notes),
    }


def _gpus(wanted: Hardware | None) -> str:
    return f"{wanted.count} x {wanted.memory_mib_min // 1024} GiB" if wanted else "none"


def _holds(promised: Capacity | None) -> str:
    """Questions at once, and the tokens of each."""
    return f"{promised.concurrency} x {promised.context_tokens:,}" if promised else ""


COMMANDS = {"profiles": profiles}
