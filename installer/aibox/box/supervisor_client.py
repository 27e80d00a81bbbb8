"""Talks to a running supervisord: XML-RPC over its socket in the box.

supervisor's own client is not used: it lives in the environment of a release, and its socket
address is an absolute path, which may be longer than the 107 bytes a socket address holds.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import xmlrpc.client
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

SOCKET = "supervisor.sock"
ANSWER_TIMEOUT_S = 5.0
# Stopping a service answers when it is stopped: stopwaitsecs and the kill after it.
STOP_TIMEOUT_S = 60.0
_NO_ANSWER = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)
_EVENT = re.compile(r" (?:(spawned): '([^']+)'|(stopped): (\S+) |(supervisord started) )")


@dataclass(frozen=True, slots=True)
class ProgramState:
    """A program as supervisord sees it; `state` in lower case, `pid` 0 when there is none."""

    name: str
    state: str
    pid: int
    uptime_s: float


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of programs that differ between supervisord and its configuration file."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class NoAnswer(Exception):
    """Nobody answers on the socket, or supervisord is on its way out."""


class Refused(Exception):
    """supervisord answers that it cannot do this now."""


class Client:
    """One supervisord, by the folder of its socket.

    Every method may raise `NoAnswer` or `Refused`.
    """

    def __init__(self, run: Path) -> None:
        self._run = run

    def identifier(self) -> str:
        return str(self._call("getIdentification"))

    def pid(self) -> int:
        return cast(int, self._call("getPID"))

    def programs(self) -> tuple[ProgramState, ...]:
        return tuple(_program(info) for info in self._call("getAllProcessInfo"))

    def reload_configuration(self) -> Changes:
        """Read the file again; nothing is restarted yet. `Refused` for a bad file."""
        ((added, changed, removed),) = self._call("reloadConfig")
        return Changes(tuple(added), tuple(changed), tuple(removed))

    def remove(self, name: str) -> None:
        """Stop a program, wait until it is gone, and forget it."""
        self._call("stopProcessGroup", name, timeout_s=STOP_TIMEOUT_S)
        self._call("removeProcessGroup", name)

    def add(self, name: str) -> None:
        """Take a program from the configuration file and start it."""
        self._call("addProcessGroup", name)

    def start(self, name: str) -> None:
        """Start a program that does not run now, also one that waits for its next attempt."""
        with suppress(Refused):  # it is stopped already
            self._call("stopProcess", name, timeout_s=STOP_TIMEOUT_S)
        with suppress(Refused):  # it came up, or fails again: its state tells
            self._call("startProcess", name, False)

    def shut_down(self) -> None:
        """Ask supervisord to stop every program and then itself."""
        self._call("shutdown")

    def wake(self) -> None:
        """Cut its nap short: supervisord looks at its programs once a second or when spoken to."""
        self._call("getState")

    def _call(self, method: str, *arguments: object, timeout_s: float | None = None) -> Any:
        transport = _Transport(self._run, timeout_s or ANSWER_TIMEOUT_S)
        proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
        try:
            with proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except _NO_ANSWER as error:
            raise NoAnswer(str(error)) from error
        except xmlrpc.client.Fault as error:
            if error.faultString.startswith("SHUTDOWN_STATE"):
                raise NoAnswer(error.faultString) from error
            raise Refused(error.faultString) from error


def restarts(log: Iterable[str]) -> dict[str, int]:
    """How often each program was started again by itself, from the lines of supervisord's log.

    Starting to count anew when supervisord starts or the program is stopped on purpose. Pure.
    """
    spawned: Counter[str] = Counter()
    for line in log:
        found = _EVENT.search(line)
        if found is None:
            continue
        _, started, _, stopped, _ = found.groups()
        if started:
            spawned[started] += 1
        elif stopped:
            spawned.pop(stopped, None)
        else:
            spawned.clear()
    return {name: count - 1 for name, count in spawned.items()}


def _program(info: dict[str, Any]) -> ProgramState:
    alive = bool(info["pid"])
    return ProgramState(
        name=info["name"],
        state=info["statename"].lower(),
        pid=info["pid"],
        uptime_s=float(max(0, info["now"] - info["start"])) if alive else 0.0,
    )


class _Transport(xmlrpc.client.Transport):
    def __init__(self, run: Path, timeout_s: float) -> None:
        super().__init__()
        self._run, self._timeout_s = run, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._run, self._timeout_s)
        self._connection = (host, connection)
        return connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, run: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._run = run

    def connect(self) -> None:
        folder = os.open(self._run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{folder}/{SOCKET}")
        finally:
            os.close(folder)
