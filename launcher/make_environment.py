"""Make a virtual environment that equals a hash-pinned lock.

Usage: make_environment.py PROGRAM ENVIRONMENT LOCK

It runs before anything is installed, so it uses the standard library alone. It may be stopped
at any point, also by `kill -9`, and run again, also twice at once:

- `ENVIRONMENT/lock` is held (flock) by whoever makes it and by the processes it starts;
- `ENVIRONMENT/made-from` is written last, by rename: without it the environment is not used,
  and the next run makes it anew.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pip_run
from child import running
from progress import Progress
from refusal import HOST_CANNOT, Refused

INTERRUPTED = 130


def main(program: str, environment: Path, lock: Path) -> int:
    """Make it unless it is there; returns the exit code."""
    progress = Progress(program)
    try:
        with _sole_maker(environment, progress) as guard:
            if not _is_whole(environment, lock):
                _make(environment, lock, program, progress, guard)
    except Refused as refused:
        progress.say(f"{environment.name} was not made")
        print(refused, file=sys.stderr)
        return refused.exit_code
    except KeyboardInterrupt:
        progress.say(f"interrupted; to go on: {program}")
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _sole_maker(environment: Path, progress: Progress) -> Iterator[int]:
    """Hold `ENVIRONMENT/lock`; gives its descriptor. The kernel releases it however we end."""
    try:
        environment.mkdir(exist_ok=True)
        _refuse_another_owner(environment)
        guard = os.open(environment / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise _unwritable(environment, error) from error
    try:
        while not _taken(guard):
            holder = os.pread(guard, 20, 0).decode(errors="replace") or "unknown"
            progress.update(f"waiting for process {holder}, which makes {environment.name}")
            time.sleep(0.1)
        os.ftruncate(guard, 0)
        os.pwrite(guard, str(os.getpid()).encode(), 0)
        yield guard
    finally:
        os.close(guard)


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


def _taken(guard: int) -> bool:
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _stamp(environment: Path, lock: Path) -> str:
    """The place and the lock it was made for; launcher/environment.sh compares the same text."""
    return f"{environment}\n{lock.read_text(encoding='utf-8')}"


def _is_whole(environment: Path, lock: Path) -> bool:
    made_from = environment / "made-from"
    runs = os.access(environment / "bin" / "python", os.X_OK)
    return runs and made_from.exists() and made_from.read_text("utf-8") == _stamp(environment, lock)


def _make(environment: Path, lock: Path, program: str, progress: Progress, guard: int) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    progress.say(f"making {environment.name} with Python {version}; only the first run does this")
    try:
        _clear(environment)
        _create(environment, program, progress, guard)
        summary = pip_run.install(environment, lock, program, progress, guard)
        _write_stamp(environment, lock)
    except OSError as error:
        raise _unwritable(environment, error) from error
    progress.say(f"{environment.name} is ready: {summary}, {progress.seconds:.0f} s")


def _clear(environment: Path) -> None:
    """Remove everything but the lock file that we hold; the stamp first."""
    (environment / "made-from").unlink(missing_ok=True)
    for entry in environment.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != "lock":
            entry.unlink()


def _create(environment: Path, program: str, progress: Progress, guard: int) -> None:
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
                hint=f"use another Python, for example: AIBOX_PYTHON=python3.12 {program}",
                context=log.read().strip()[-600:],
                exit_code=HOST_CANNOT,
            )


def _still_runs(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return True
    return False


def _write_stamp(environment: Path, lock: Path) -> None:
    partial = environment / "made-from.partial"
    partial.write_text(_stamp(environment, lock), encoding="utf-8")
    # pip does not fsync; a stamp that outlived the files it vouches for would be a lie.
    os.sync()
    partial.rename(environment / "made-from")


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
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
