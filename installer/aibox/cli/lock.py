"""`aibox lock`: resolve profiles, files and packages into models.lock."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aibox import adopting, content, locking
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.content import Content
from aibox.errors import BadUsage, Fault
from aibox.locking import Sources


def lock(
    check: Annotated[
        bool,
        typer.Option("--check", help="Say what is stale or unresolved; fetch and write nothing."),
    ] = False,
    profile: Annotated[
        list[str] | None, typer.Option("--profile", help="Only this profile; may be repeated.")
    ] = None,
    upgrade: Annotated[
        list[str] | None,
        typer.Option(
            "--upgrade", help="Model, image, package or file to move, alone; may be repeated."
        ),
    ] = None,
    mirrors: Annotated[
        Path | None,
        typer.Option("--mirrors", help="File of archives to have packages from."),
    ] = None,
    hub_token: Annotated[
        Path | None,
        typer.Option("--hub-token", help="File (mode 0600) with the token of the model hub."),
    ] = None,
    next_sequence: Annotated[
        bool,
        typer.Option("--next", help="Only raise the sequence: the command line has changed."),
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Take in what was measured on a site: FILE.json"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write models.lock anew from profiles and their wishes, prompts, questions and the app."""
    if next_sequence:
        if check or profile or upgrade or calibration:
            raise _apart(
                "next-and-others", "--next raises the sequence and does nothing else", "--next"
            )
        sequence = locking.advance(content.find())
        show.data({"sequence": sequence}) if as_json else show.text(f"Sequence:  {sequence}")
        return
    if check:
        _refuse_changes(upgrade, calibration)
    found = content.find()
    with show.progress() as report, _taken_in(found, calibration, profile or []) as names:
        changes = locking.run(
            found,
            names,
            upgrade or [],
            report,
            write=not check,
            sources=Sources(mirrors, hub_token),
        )
    rows = [change.model_dump() for change in changes]
    show.data(rows) if as_json else show.table(rows, ("name", "state", "current", "desired"))
    stale = sum(change.out_of_date for change in changes)
    if check and stale:
        show.end_with(
            BadUsage(
                "lock-stale",
                f"models.lock is not what the checkout says; places where they differ: {stale}",
                hint="take them in, and review them, with: ./aibox lock",
                fault=Fault.YOU,
            )
        )


def _refuse_changes(upgrade: list[str] | None, calibration: Path | None) -> None:
    """A check changes nothing, so what changes something does not go with it."""
    if upgrade:
        raise _apart(
            "check-and-upgrade",
            "--check looks nothing up, so it cannot say what --upgrade would find; an upgrade "
            "shows what it changed",
            f"--upgrade {upgrade[0]}",
        )
    if calibration:
        raise _apart(
            "check-and-calibration",
            "--check writes nothing, and a calibration is written into its profile",
            f"--calibration {calibration}",
        )


def _apart(reference: str, message: str, option: str) -> BadUsage:
    return BadUsage(
        reference,
        message,
        hint=f"give one of them at a time: ./aibox lock {option}",
        fault=Fault.YOU,
    )


@contextmanager
def _taken_in(found: Content, file: Path | None, names: list[str]) -> Iterator[list[str]]:
    """The profiles to lock, with a calibration in the one that it is of."""
    if file is None:
        yield names
        return
    with adopting.adopted(found, file) as name:
        yield sorted({*names, name})


COMMANDS = {"lock": lock}
