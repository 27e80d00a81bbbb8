"""The one way the CLI starts another program (only Ansible has a way of its own).

A program gets an argument list (never a shell line), an environment made from an allow-list,
no open file but its output, and a time limit; its output arrives line by line.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aibox.errors import Failed, Fault

TICK_S = 0.5
KILL_AFTER_S = 5.0
KEPT_LINES = 400
LONGEST_LINE = 64 * 1024
PIPE_BYTES = 64 * 1024
_LIBC = ctypes.CDLL(None)
_SET_PARENT_DEATH_SIGNAL = 1  # prctl(2), PR_SET_PDEATHSIG
_ALWAYS = ("PATH", "HOME", "TZ")


@dataclass(frozen=True, slots=True)
class Completed:
    """How a program ended: exit status, its last lines (both streams in order), seconds."""

    status: int
    lines: tuple[str, ...]
    seconds: float

    @property
    def text(self) -> str:
        """The last lines as one text."""
        return "\n".join(self.lines)


def environment(
    extra: Mapping[str, str] | None = None,
    *,
    keep: Iterable[str] = (),
    keep_prefixes: tuple[str, ...] = (),
) -> dict[str, str]:
    """An environment of the named variables alone, so that no secret or proxy leaks into it.

    PATH, HOME and TZ always pass, LANG is fixed so that output can be read by programs.
    """
    names = {*_ALWAYS, *keep}
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name in names or (keep_prefixes and name.startswith(keep_prefixes))
    }
    return {"PATH": os.defpath, **chosen, "LANG": "C.UTF-8", **(extra or {})}


def run(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    cwd: Path | None = None,
    on_line: Callable[[str], None] | None = None,
    on_tick: Callable[[], None] | None = None,
) -> Completed:
    """Run a program to its end; the exit status is the caller's to judge.

    `on_line` gets every line of both streams, `on_tick` is called about twice a second. Ends the
    program and everything it started when the time is over (`Failed`) or the caller is interrupted.
    A CLI that is killed takes the program along: nothing goes on writing behind a freed lock.
    """
    started = time.monotonic()
    child = _start(argv, environment, cwd)
    output = _Output(on_line or _ignore)
    try:
        _follow(child, output, started + timeout_s, on_tick or _ignore_tick)
        output.close()
    except TimeoutError:
        _end(child)
        raise _too_slow(argv, timeout_s, output) from None
    except BaseException:
        _end(child)
        raise
    finally:
        _stream(child).close()
    return Completed(child.wait(), tuple(output.lines), time.monotonic() - started)


class _Output:
    """Bytes in, whole lines out; a carriage return (a progress bar) ends a line too."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        if len(self._rest) > LONGEST_LINE:
            whole, self._rest = [*whole, self._rest], b""
        for line in whole:
            self._emit(line)

    def close(self) -> None:
        self._emit(self._rest)
        self._rest = b""

    def _emit(self, line: bytes) -> None:
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            self.lines.append(text)
            self._on_line(text)


def _start(
    argv: Sequence[str | Path], environment: Mapping[str, str], cwd: Path | None
) -> subprocess.Popen[bytes]:
    # A session of its own: the group can be ended as a whole, and Ctrl-C reaches us first.
    try:
        return subprocess.Popen(
            [str(part) for part in argv],
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
    except OSError as error:
        raise Failed(
            "program-not-started",
            f"{argv[0]} could not be started: {error.strerror}",
            context=str(error.filename or argv[0]),
            hint="see what is missing on this host with: ./aibox doctor",
            fault=Fault.HOST,
        ) from error


def _end_with_parent() -> None:
    _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _follow(
    child: subprocess.Popen[bytes],
    output: _Output,
    deadline: float,
    on_tick: Callable[[], None],
) -> None:
    """Read until the program ends; a grandchild that keeps the pipe open is not waited for."""
    with ExitStack() as stack:
        ended = os.pidfd_open(child.pid)
        stack.callback(os.close, ended)
        selector = stack.enter_context(selectors.DefaultSelector())
        pipe = _stream(child).fileno()
        os.set_blocking(pipe, False)
        selector.register(pipe, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        running, next_tick = True, time.monotonic() + TICK_S
        while running:
            now = time.monotonic()
            if now >= deadline:
                raise TimeoutError
            if now >= next_tick:
                on_tick()
                next_tick = now + TICK_S
            ready = {key.fd for key, _ in selector.select(min(TICK_S, deadline - now))}
            running = ended not in ready
            if pipe in ready and not _read_once(pipe, output):
                selector.unregister(pipe)


def _read_once(pipe: int, output: _Output) -> bool:
    """Read at most what a pipe holds; False once the other end is closed."""
    try:
        data = os.read(pipe, PIPE_BYTES)
    except BlockingIOError:
        return True
    output.feed(data)
    return bool(data)


def _end(child: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(KILL_AFTER_S)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    child.wait()


def _stream(child: subprocess.Popen[bytes]) -> IO[bytes]:
    if child.stdout is None:
        raise AssertionError("started without a pipe")
    return child.stdout


def _too_slow(argv: Sequence[str | Path], timeout_s: float, output: _Output) -> Failed:
    return Failed(
        "program-too-slow",
        f"{argv[0]} did not end within {timeout_s:g} s and was stopped",
        context=output.lines[-1] if output.lines else "it said nothing",
        hint="see what holds this host up with: ./aibox doctor",
        fault=Fault.HOST,
    )


def _ignore(_line: str) -> None:
    pass


def _ignore_tick() -> None:
    pass
