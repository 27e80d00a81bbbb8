"""The command line: commands are put together here, and errors end here.

The only place that exits. Every `AiboxError` becomes its text on stderr (and its JSON on
stdout with `--json`) and its exit code; anything else is a bug of ours and says so.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

from aibox import __version__
from aibox.cli import ask, documents, inspect, install, lock, profiles, service, show
from aibox.errors import AiboxError, ExitCode, Failed, Fault

app = typer.Typer(
    name="aibox",
    help="An AI appliance in a box: install, upgrade, roll back, ask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        show.text(f"aibox {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    """Every command explains itself with --help."""


for module in (install, service, inspect, ask, lock, profiles):
    for name, command in module.COMMANDS.items():
        app.command(name)(command)
app.add_typer(documents.app, name="docs")


def main() -> None:
    """Run one command and exit with its code."""
    as_json = "--json" in sys.argv[1:]
    try:
        app(prog_name="aibox")
    except AiboxError as failure:
        show.error(failure, as_json)
        sys.exit(int(failure.exit_code))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(int(ExitCode.FAILED))
    except Exception as bug:
        show.error(_bug(bug), as_json)
        sys.exit(int(ExitCode.FAILED))


def _bug(bug: Exception) -> AiboxError:
    where = traceback.extract_tb(bug.__traceback__)[-1]
    if os.environ.get("AIBOX_DEBUG"):
        traceback.print_exception(bug)
    return Failed(
        "bug",
        f"aibox has a bug: {type(bug).__name__}: {bug}",
        context=f"{where.filename}:{where.lineno} in {where.name}",
        hint="the box is safe; see where it stands with: ./aibox status "
        "(repeat with AIBOX_DEBUG=1 for the whole trace)",
        fault=Fault.US,
    )
