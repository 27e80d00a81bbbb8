"""The command line: commands are put together here, and errors end here.

The only place that exits. Every `AiboxError` becomes its text on stderr (and its JSON on
stdout with `--json`) and its exit code; anything else is a bug of ours and says so.

A command's module is imported when the command is named: looking at a box or at a bundle does
not wait for what installs one.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer._click.exceptions import NoArgsIsHelpError, UsageError

from aibox import __version__
from aibox.cli import show
from aibox.errors import AiboxError, BadUsage, ExitCode, Failed, Fault

_INTERRUPTED = 130
"""What the command-line library makes of an interrupt that no command caught."""

# The module of this package that offers a command: in its `COMMANDS`, or a group as its `app`.
MODULES = {
    **dict.fromkeys(("install", "upgrade", "rollback", "recover", "uninstall"), "install"),
    **dict.fromkeys(("start", "stop", "gc"), "service"),
    **dict.fromkeys(("preflight", "plan", "status", "health", "history", "doctor"), "inspect"),
    "member": "member",
    "ask": "ask",
    "lock": "lock",
    "profiles": "profiles",
    "fit": "fit",
    "calibrate": "calibrate",
    "bench": "bench",
    "have": "have",
    "compiled": "compiled",
    "tco": "tco",
    "docs": "documents",
    "bundle": "bundle",
    "trust": "trust",
}

NOT_FOR_PEOPLE = frozenset({"member"})
"""Commands that only aibox itself gives, to another host."""


def __getattr__(name: str) -> Any:
    """`app` is the whole program; it is put together by whoever asks for it."""
    if name == "app":
        return program(MODULES)
    raise AttributeError(name)


def commands_for(words: Sequence[str]) -> Iterable[str]:
    """The commands that a command line needs: one, none to tell the version, else all."""
    first = words[0] if words else ""
    if first == "--version":
        return ()
    return (first,) if first in MODULES else MODULES


def program(commands: Iterable[str]) -> typer.Typer:
    """The program with these commands; imports what they need."""
    made = typer.Typer(
        name="aibox",
        help="An AI appliance in a box: install, upgrade, roll back, ask.",
        callback=_root,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        pretty_exceptions_show_locals=False,
        rich_markup_mode=None,
    )
    for name in commands:
        module = import_module(f"aibox.cli.{MODULES[name]}")
        if hasattr(module, "app"):
            made.add_typer(module.app, name=name)
        else:
            made.command(name, hidden=name in NOT_FOR_PEOPLE)(module.COMMANDS[name])
    return made


def _version(wanted: bool) -> None:
    if wanted:
        show.text(f"aibox {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print and exit.")
    ] = False,
) -> None:
    """Every command explains itself with --help."""


def main() -> None:
    """Run one command and exit with its code."""
    _hold_standard_streams()
    words = sys.argv[1:]
    as_json = "--json" in words
    try:
        code = program(commands_for(words))(prog_name="aibox", standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code)
    except AiboxError as failure:
        _end(failure, as_json)
    except KeyboardInterrupt:
        _end(show.interrupted(), as_json)
    except typer.Abort:
        _end(_unanswered(), as_json)
    except NoArgsIsHelpError as bare:
        bare.show()
        sys.exit(int(ExitCode.BAD_USAGE))
    except UsageError as wrong:
        _end(_wrong_usage(wrong), as_json)
    except BrokenPipeError:
        show.give_up_stdout()
        sys.exit(int(ExitCode.FAILED))
    except Exception as error:
        _end(_unforeseen(error), as_json)


def _hold_standard_streams() -> None:
    """No file of the box gets the number of a stream that was closed: prints would land in it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # Takes the lowest number that is free: this one.


def _end(failure: AiboxError, as_json: bool) -> NoReturn:
    show.error(failure, as_json)
    sys.exit(int(failure.exit_code))


def _wrong_usage(wrong: UsageError) -> AiboxError:
    """What the command-line library makes of words it does not understand."""
    command = wrong.ctx.command_path if wrong.ctx else "aibox"
    return BadUsage(
        "wrong-usage",
        wrong.format_message().rstrip("."),
        hint=f"see how it is used: ./{command} --help",
        fault=Fault.YOU,
    )


def _unanswered() -> AiboxError:
    return Failed(
        "declined",
        "nobody answered, so nothing was changed",
        hint="see where the box stands: ./aibox status",
        fault=Fault.YOU,
    )


def _unforeseen(error: Exception) -> AiboxError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, OSError) and where.name == "echo":
        # What the command-line library prints (--help) has a way of its own to stdout.
        show.give_up_stdout()
        return show.not_written(error.strerror or str(error))
    return _bug(error, where)


def _bug(bug: Exception, where: traceback.FrameSummary) -> AiboxError:
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
