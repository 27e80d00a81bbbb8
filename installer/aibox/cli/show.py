"""Everything a person or a script sees: data on stdout, the rest on stderr.

All text is understandable without colour; none is used. Lines are plain on and off a terminal,
so a log of an install reads like the install.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

import typer

from aibox.cli.workplace import command
from aibox.errors import AiboxError, Failed, Fault
from aibox.progress import Progress, Report

_HEARTBEAT_S = 4.0
_COMMAND = re.compile(r"\./aibox(?! (lock|bundle build|trust (init|rotate|revoke))\b)")


def data(value: object) -> None:
    """One JSON document on stdout."""
    _write(json.dumps(value, ensure_ascii=False, indent=2))


def text(line: str = "") -> None:
    """A line of data for people, on stdout."""
    _write(as_typed(line))


def _write(told: str) -> None:
    try:
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(
            "output-not-written",
            f"what the command has to say cannot be written where it goes: {error.strerror}",
            hint="make room there, or send it elsewhere; see the room with: df -h .",
            fault=Fault.YOU,
        ) from error


def note(line: str) -> None:
    """A line beside the data, on stderr; a reader that is gone must not stop what is told."""
    with suppress(OSError):
        sys.stderr.write(as_typed(line) + "\n")
        sys.stderr.flush()


def as_typed(line: str) -> str:
    """The line with commands as they are typed here, where there is no checkout.

    What only a packager types, he types in his checkout.
    """
    return _COMMAND.sub(lambda _found: command(), line) if "./aibox" in line else line


def error(failure: AiboxError, as_json: bool) -> None:
    """A failure: for people on stderr, and as the JSON contract on stdout when asked for."""
    note(str(failure))
    if as_json:
        told = failure.as_json()
        with suppress(Failed):  # Where even that cannot be written, the note has said it.
            data({**told, "hint": as_typed(failure.hint)})


def end_with(failure: AiboxError) -> NoReturn:
    """End a command whose data is already on stdout: stdout holds one JSON document, not two."""
    note(str(failure))
    raise typer.Exit(int(failure.exit_code))


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Rows as aligned columns with a heading."""
    cells = [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [
        max([len(column), *(len(line[index]) for line in cells)])
        for index, column in enumerate(columns)
    ]
    for line in [list(columns), *cells]:
        text(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        )


@contextmanager
def progress() -> Iterator[Report]:
    """A reporter whose lines never pause for more than 5 s: silence is filled with a heartbeat.

    An interrupt (Ctrl-C) inside becomes an `AiboxError` that says how to go on.
    """
    state = _Heartbeat()
    thread = threading.Thread(target=state.run, daemon=True)
    thread.start()
    try:
        yield state.report
    except KeyboardInterrupt as error:
        # Here, because the command-line library would end the process with a bare "Aborted!".
        raise interrupted() from error
    finally:
        state.stop.set()
        thread.join()


def interrupted() -> AiboxError:
    """The failure that an interrupt (Ctrl-C) becomes."""
    return Failed(
        "interrupted",
        "the command was interrupted",
        hint="give the same command again; if it was changing a box, what was half done is undone "
        "or finished by: ./aibox recover",
        fault=Fault.YOU,
    )


class _Heartbeat:
    def __init__(self) -> None:
        self.stop = threading.Event()
        self._lock = threading.Lock()
        self._last = Progress("start", "")
        self._told = self._since = time.monotonic()

    def report(self, progress: Progress) -> None:
        with self._lock:
            now = time.monotonic()
            if progress.step != self._last.step or progress.message != self._last.message:
                self._since = now
            self._last, self._told = progress, now
            note(f"[{progress.step}] {progress.message}")

    def run(self) -> None:
        while not self.stop.wait(0.5):
            with self._lock:
                now = time.monotonic()
                if now - self._told >= _HEARTBEAT_S:
                    self._told = now
                    note(f"[{self._last.step}] … {now - self._since:.0f} s: {self._last.message}")
