"""The lines to all hosts of a box: each looked at once, then worked on side by side."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from aibox import orders
from aibox.box import remote
from aibox.box.remote import Login, Remote, Session
from aibox.errors import AiboxError, Failed, Fault
from aibox.prepare import Workplace
from aibox.progress import Progress
from aibox.site import Host, Site

T = TypeVar("T")

ROOT = "/var/lib/aibox"
"""The box root on every host."""

REBOOT_S = 900.0
_POLL_S = 3.0


class Connections:
    """Hosts by name. `folder` is private and goes with the block."""

    def __init__(self, place: Workplace, site: Site, folder: Path) -> None:
        self.folder, self.root = folder, ROOT
        self._place = place
        self._remotes = {
            name: Remote(_login(name, host, folder)) for name, host in sorted(site.hosts.items())
        }
        self._architectures: dict[str, str] = {}
        self._refused: dict[str, AiboxError] = {}
        self._sessions: list[Session] = []
        self._stopping = threading.Event()

    @classmethod
    @contextmanager
    def open(cls, place: Workplace, site: Site, *, tolerant: bool = False) -> Iterator[Connections]:
        """Look at every host: can it be logged in to, and worked on?

        Raises what `Remote.require_usable` raises, unless `tolerant`: then `require` does.
        """
        remote.require_tools()
        with tempfile.TemporaryDirectory(prefix="aibox-hosts-") as folder:
            connections = cls(place, site, Path(folder))
            connections.each(connections._reach)
            if not tolerant:
                connections._refuse_unusable()
            yield connections

    def each(self, work: Callable[[str], T], names: Sequence[str] | None = None) -> dict[str, T]:
        """Do something for several hosts (all, if None) at once; what came of it, by name.

        Raises the first trouble by name once all have ended, with the others told in it.
        """
        asked = sorted(self._remotes) if names is None else list(names)
        if not asked:
            return {}
        with ThreadPoolExecutor(max_workers=len(asked)) as pool:
            running = {name: pool.submit(work, name) for name in asked}
            try:
                troubles = [error for one in running.values() if (error := one.exception())]
            except BaseException:
                self._stop()
                raise
        if troubles:
            raise _joined(troubles)
        return {name: one.result() for name, one in running.items()}

    def architecture(self, name: str) -> str:
        """Of a host, as its kernel names it."""
        return self._architectures[name]

    def require(self, name: str) -> None:
        """Raise why a host cannot be worked on, if it cannot."""
        if name in self._refused:
            raise self._refused[name]

    def remote(self, name: str) -> Remote:
        """The host itself."""
        return self._remotes[name]

    def installed_program(self, _name: str) -> list[str]:
        """What starts the command line that a host has in its box."""
        return ["env", f"AIBOX_HOME={self.root}", f"{self.root}/bin/aibox", "member"]

    def session(self, name: str, words: Sequence[str]) -> Session:
        """Speak with the command line of a host; the caller closes it."""
        say = self.teller(name)

        def relay(told: orders.Progress) -> None:
            say(f"{told.step}: {told.message}")

        session = self._remotes[name].session(words, relay)
        self._sessions.append(session)
        return session

    def teller(self, name: str) -> Callable[[str], None]:
        """What tells progress of one host."""
        return lambda line: self._place.report(Progress(name, line))

    def tick(self) -> None:
        """To be called now and then by what takes long; raises when all was stopped."""
        if self._stopping.is_set():
            raise Failed(
                "interrupted",
                "stopped on request",
                hint="the same command goes on: ./aibox install --inventory FILE --bundle BUNDLE",
                fault=Fault.YOU,
            )

    def await_reboot(self, name: str) -> None:
        """Wait until a host that goes down can be logged in to again.

        Raises `Failed` (`host-not-back`) after `REBOOT_S` seconds.
        """
        say, begun = self.teller(name), time.monotonic()
        # It still answers while it goes down; who asks for its boot afterwards sees which it was.
        time.sleep(_POLL_S)
        while True:
            try:
                self._remotes[name].require_usable()
                return
            except AiboxError as error:
                waited = time.monotonic() - begun
                if waited > REBOOT_S:
                    raise Failed(
                        "host-not-back",
                        f"the host {name} has not come back {waited:.0f} s after its reboot",
                        context=error.message,
                        hint="look at its console; when it runs, give the same command again: "
                        "./aibox install --inventory FILE --bundle BUNDLE",
                        fault=Fault.HOST,
                    ) from error
                say(f"waiting for it to come back ({waited:.0f} s)")
            self.tick()
            time.sleep(_POLL_S)

    def _reach(self, name: str) -> None:
        self.teller(name)("looking at the host")
        try:
            self._architectures[name] = self._remotes[name].require_usable()
        except AiboxError as error:
            self._refused[name] = error

    def _refuse_unusable(self) -> None:
        if self._refused:
            raise _joined([self._refused[name] for name in sorted(self._refused)])

    def _stop(self) -> None:
        """End what other threads wait for; hosts put themselves in order when their line is cut."""
        self._stopping.set()
        for session in self._sessions:
            session.cut()


def _joined(troubles: Sequence[BaseException]) -> BaseException:
    """One failure that tells of all, of the kind of the first."""
    first, *others = troubles
    if not others or not isinstance(first, AiboxError):
        return first
    told = [one.message for one in troubles if isinstance(one, AiboxError)]
    return type(first)(
        first.reference,
        "; ".join(dict.fromkeys(told)),
        context=first.context,
        hint=first.hint,
        fault=first.fault,
    )


def _login(name: str, host: Host, folder: Path) -> Login:
    known = None
    if host.host_key:
        known = folder / f"{name}.known_hosts"
        where = host.address if host.port == 22 else f"[{host.address}]:{host.port}"
        descriptor = os.open(known, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{where} {host.host_key}\n")
    return Login(name, host.address, host.user, host.port, host.key_file, known)
