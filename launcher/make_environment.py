"""Make a virtual environment that equals a hash-pinned lock.

Usage: make_environment.py PROGRAM ENVIRONMENT LOCK [WHEELS]

Packages come from the folder WHEELS alone where it is given, else from an index.
It runs before anything is installed, so it uses the standard library alone. It may be stopped
at any point, also by `kill -9`, and run again, also twice at once:

- `ENVIRONMENT/lock` is held (flock) by whoever makes it and by the processes it starts;
- `ENVIRONMENT/made-from` is written last, by rename: without it the environment is not used,
  and the next run makes it anew.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pip_run
from child import running
from pip_failures import PROGRAM_DAMAGED
from progress import Progress
from refusal import HOST_CANNOT, INTERRUPTED, Refused
from sole import holding
from wanted import Wanted


def main(wanted: Wanted) -> int:
    """Make it unless it is there; returns the exit code."""
    progress = Progress(wanted.program)
    try:
        with _sole_maker(wanted, progress) as guard:
            if not _is_whole(wanted):
                _make(wanted, progress, guard)
    except Refused as refused:
        progress.say(f"{wanted.name} was not made")
        refused.tell()
        if refused.reference == PROGRAM_DAMAGED:
            # The next start from the bundle looks at every file of a program without this one.
            (wanted.environment.parent / "program.txt").unlink(missing_ok=True)
        return refused.exit_code
    except KeyboardInterrupt:
        progress.say(f"interrupted; to go on: {wanted.again}")
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _sole_maker(wanted: Wanted, progress: Progress) -> Iterator[int]:
    """Hold `ENVIRONMENT/lock`; gives its descriptor. What the disk refuses meanwhile is said."""
    environment = wanted.environment
    try:
        environment.mkdir(exist_ok=True)
        _refuse_another_owner(environment)
        with holding(environment / "lock", f"makes {wanted.name}", progress) as guard:
            yield guard
    except OSError as error:
        raise _unwritable(environment, error) from error


def _refuse_another_owner(environment: Path) -> None:
    """Whatever is made anew is emptied first, so a folder that somebody else made is left alone."""
    if any(environment.iterdir()) and not (environment / "lock").exists():
        raise Refused(
            "environment-not-ours",
            f"{environment} was made by something else and would be overwritten",
            fault="you",
            hint=f'move it away, then repeat the command: mv "{environment}" "{environment}.mine"',
            exit_code=HOST_CANNOT,
        )


def _stamp(wanted: Wanted) -> str:
    """The place and the lock it was made for; launcher/environment.sh compares the same text."""
    return f"{wanted.environment}\n{wanted.lock.read_text(encoding='utf-8')}"


def _is_whole(wanted: Wanted) -> bool:
    made_from = wanted.environment / "made-from"
    runs = os.access(wanted.environment / "bin" / "python", os.X_OK)
    return runs and made_from.exists() and made_from.read_text("utf-8") == _stamp(wanted)


def _make(wanted: Wanted, progress: Progress, guard: int) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    progress.say(f"making {wanted.name} with Python {version}; only the first run does this")
    _clear(wanted.environment)
    _create(wanted, progress, guard)
    summary = pip_run.install(wanted, progress, guard)
    _write_stamp(wanted)
    progress.say(f"{wanted.name} is ready: {summary}, {progress.seconds:.0f} s")


def _clear(environment: Path) -> None:
    """Remove everything but the lock file that we hold; the stamp first."""
    (environment / "made-from").unlink(missing_ok=True)
    for entry in environment.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()


def _create(wanted: Wanted, progress: Progress, guard: int) -> None:
    environment = wanted.environment
    # The resolved interpreter: /usr/bin/python3 may be another version next year.
    python = Path(sys.executable).resolve()
    with (environment / "venv.log").open("w+", encoding="utf-8", errors="replace") as log:
        with running([python, "-I", "-m", "venv", environment], output=log, guard=guard) as process:
            while _still_runs(process):
                progress.update("creating the environment")
        if process.returncode != 0:
            log.seek(0)
            raise Refused(
                "environment-failed",
                f"{python} could not create a virtual environment",
                fault="the host",
                hint=f"use another Python, for example: AIBOX_PYTHON=python3.12 {wanted.again}",
                context=log.read().strip()[-600:],
                exit_code=HOST_CANNOT,
            )


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return True
    return False


def _write_stamp(wanted: Wanted) -> None:
    partial = wanted.environment / "made-from.partial"
    partial.write_text(_stamp(wanted), encoding="utf-8")
    # pip does not fsync; a stamp that outlived the files it vouches for would be a lie.
    os.sync()
    partial.rename(wanted.environment / "made-from")


def _unwritable(environment: Path, error: OSError) -> Refused:
    copy = f'use a copy in a place that you may write to: cp -r "{environment.parent}" ~/aibox'
    free = f'free 500 MB, then repeat the command; what is free: df -h "{environment.parent}"'
    return Refused(
        "environment-not-writable",
        f"{environment} cannot be written: {error.strerror}",
        fault="the host",
        hint=free if error.errno == errno.ENOSPC else copy,
        context=str(error),
        exit_code=HOST_CANNOT,
    )


if __name__ == "__main__":
    sys.exit(main(Wanted(sys.argv[1], *map(Path, sys.argv[2:]))))
