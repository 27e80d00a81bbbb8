"""Everything a person or a script sees: data on stdout, the rest on stderr.

All text is understandable without colour; none is used. Lines are plain on and off a terminal,
so a log of an install reads like the install.
"""

from __future__ import annotations

import json
import os
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
_UNSEEN = {
    code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"
}
_UNSEEN_IN_A_CELL = {**_UNSEEN, ord("\n"): "\\n", ord("\t"): "\\t"}
_COMMAND = re.compile(r"\./aibox(?! (lock|bundle build|trust (init|rotate|revoke))\b)")


def data(value: object) -> None:
    """One JSON document on stdout; in ASCII where stdout could not take its characters."""
    told = json.dumps(value, ensure_ascii=False, indent=2)
    try:
        told.encode(_encoding())
    except UnicodeEncodeError:
        told = json.dumps(value, indent=2)
    _write(told)


def text(line: str = "") -> None:
    """A line of data for people, on stdout."""
    shown = visible(as_typed(line))
    _write(shown.encode(_encoding(), "backslashreplace").decode(_encoding()))


def visible(line: str) -> str:
    """The line with control characters written out: a file's name must not steer the terminal."""
    return line.translate(_UNSEEN)


def _encoding() -> str:
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _write(told: str) -> None:
    if sys.stdout is None:  # It was closed before the command began.
        raise not_written("it is closed")
    try:
        sys.stdout.write(told + "\n")
        sys.stdout.flush()
    except OSError as error:
        give_up_stdout()
        if isinstance(error, BrokenPipeError):
            raise
        raise not_written(error.strerror or str(error)) from error


def give_up_stdout() -> None:
    """Let what is left for stdout go nowhere, or the end of the process would try it again."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def not_written(why: str) -> Failed:
    """The failure of an output that takes nothing."""
    return Failed(
        "output-not-written",
        f"what the command has to say cannot be written where it goes: {why}",
        hint="make room there, or send it elsewhere; see the room with: df -h .",
        fault=Fault.YOU,
    )


def note(line: str) -> None:
    """A line beside the data, on stderr; a reader that is gone must not stop what is told."""
    if sys.stderr is None:  # It was closed before the command began.
        return
    with suppress(OSError):
        sys.stderr.write(visible(as_typed(line)) + "\n")
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
        # Where even that cannot be written, the note has said it.
        with suppress(Failed, BrokenPipeError):
            data({**told, "hint": as_typed(failure.hint)})


def end_with(failure: AiboxError) -> NoReturn:
    """End a command whose data is already on stdout: stdout holds one JSON document, not two."""
    note(str(failure))
    raise typer.Exit(int(failure.exit_code))


def table(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> None:
    """Rows as aligned columns with a heading."""
    cells = [
        [str(row.get(column, "")).translate(_UNSEEN_IN_A_CELL) for column in columns]
        for row in rows
    ]
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
