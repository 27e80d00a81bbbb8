"""`aibox docs add|list|remove`: the documents the box answers from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aibox import talking
from aibox.cli import show
from aibox.cli.options import AsJson
from aibox.cli.workplace import workplace
from aibox.errors import BadUsage, Fault

app = typer.Typer(
    help="Add, list and remove documents.", no_args_is_help=True, rich_markup_mode=None
)


@app.command()
def add(
    paths: Annotated[list[str], typer.Argument(help="Files or folders.")], as_json: AsJson = False
) -> None:
    """Add files or folders and wait until each is searchable, or its failure is known."""
    with show.progress() as report:
        outcome = talking.add_documents(workplace(report), [_path(name) for name in paths])
    if as_json:
        show.data({"documents": list(outcome.documents), "refused": list(outcome.refused)})
    else:
        refused = [{**item, "id": "-", "state": "refused"} for item in outcome.refused]
        show.table([*outcome.documents, *refused], ("id", "state", "name", "reason"))
    failure = outcome.error()
    if failure is not None:
        show.end_with(failure)


def _path(name: str) -> Path:
    """The path of that name; without one it would be the folder one stands in."""
    if not name:
        raise BadUsage(
            "path-missing",
            "an empty name is neither a file nor a folder",
            hint="name what to add, for example: ./aibox docs add manual.pdf",
            fault=Fault.YOU,
        )
    return Path(name)


@app.command("list")
def list_documents(as_json: AsJson = False) -> None:
    """List every document with its state, and why one failed."""
    with show.progress() as report:
        found = talking.list_documents(workplace(report))
    if as_json:
        show.data({"documents": found})
    else:
        show.table(found, ("id", "origin", "state", "chunks", "name", "reason"))


@app.command()
def remove(
    document: Annotated[str, typer.Argument(help="The id; see: aibox docs list")],
    as_json: AsJson = False,
) -> None:
    """Remove a document from the box and from every answer."""
    with show.progress() as report:
        talking.remove_document(workplace(report), document)
    show.data({"removed": document}) if as_json else show.note(f"removed {document}")
