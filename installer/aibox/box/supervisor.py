"""The `process` runtime: the services of the box under the `supervisor` package.

supervisord keeps them alive, rotates their logs and compares its programs with its configuration
file. This module starts it, tells it that `current` has changed, and cleans up after its death.
What runs and from where is read from `current/config/supervisord.conf` alone, so the same code
serves an upgrade and a rollback.
"""

from __future__ import annotations

import configparser
import os
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from aibox import process
from aibox.box import environment, host
from aibox.box.filesystem import Filesystem
from aibox.box.runtime import ServiceStatus
from aibox.box.supervisor_client import (
    Changes,
    Client,
    NoAnswer,
    ProgramState,
    Refused,
    restarts,
)
from aibox.errors import AiboxError, Failed, Fault, NeedsPerson

CONFIGURATION = "current/config/supervisord.conf"
WHEELS = "current/tree/wheels"
_SUPERVISORD = ("-m", "supervisor.supervisord", "-c", CONFIGURATION)
LAUNCH_TIMEOUT_S = 30.0
RUNNING_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 75.0
TERM_TIMEOUT_S = 15.0
KILL_TIMEOUT_S = 10.0
POLL_S = 0.05
# A service that died this often while it was waited for will not come up.
DEATHS = 2
_DOWN = frozenset({"stopped", "exited", "backoff", "fatal"})
_ROUNDS = 5
_LOG_LINES = 5


@dataclass(frozen=True, slots=True)
class Settings:
    """What a generation's supervisord.conf says, as far as it matters here."""

    identifier: str
    environment: str
    address: str
    port: int
    services: tuple[str, ...]


class Supervisor:
    """Implements `aibox.box.runtime.Runtime`. The caller holds the box."""

    def __init__(
        self,
        root: Path,
        *,
        filesystem: Filesystem | None = None,
        on_event: Callable[[str], None] = lambda _line: None,
    ) -> None:
        self._root = root
        self._filesystem = filesystem or Filesystem()
        self._say = on_event
        self._client = Client(root / "run")

    def apply(self) -> None:
        """Make the running services equal what `current` says; returns when all of them run.

        Restarts exactly the services whose inputs changed, and supervisord when its own
        environment did; builds that environment when it is missing or damaged. Raises `Failed`
        (`port-taken`, `service-not-starting`) and what `environment.ensure` raises.
        """
        settings = read_settings(self._root)
        self._prepare(settings)
        self._require_port(settings)
        before = self._restarts()
        if not self._update(settings):
            self.stop()
            before = {}
            self._launch(settings)
        self._await_running(settings, before)

    def stop(self) -> None:
        """Stop every process of the box, also those whose supervisord was killed."""
        with suppress(NoAnswer):
            self._shut_down()
        self._end_leftovers()
        for leftover in sorted((self._root / "run").glob("*.sock")):
            self._filesystem.unlink(leftover)

    def services(self) -> tuple[ServiceStatus, ...]:
        """Every service of `current`; `unsupervised` when processes outlived their supervisord."""
        try:
            names = read_settings(self._root).services
        except AiboxError:
            return ()
        try:
            found = {program.name: program for program in self._client.programs()}
        except NoAnswer:
            found = {}
        absent = "unsupervised" if not found and host.box_processes(self._root) else "stopped"
        counts = self._restarts() if found else {}
        return tuple(_status(name, found.get(name), absent, counts.get(name, 0)) for name in names)

    def _prepare(self, settings: Settings) -> None:
        for name in ("run", "logs"):
            self._filesystem.make_directory(self._root / name)
        environment.ensure(
            self._root,
            settings.environment,
            sorted((self._root / WHEELS).glob("*.whl")),
            filesystem=self._filesystem,
            on_event=self._say,
        )

    def _require_port(self, settings: Settings) -> None:
        if host.port_is_free(settings.address, settings.port):
            return
        if not host.is_answered_by(self._root, settings.port):
            raise _port_taken(settings, host.holders(settings.port))

    def _update(self, settings: Settings) -> bool:
        """Let a running supervisord follow `current`; False when it must be (re)started instead."""
        try:
            if self._client.identifier() != settings.identifier:
                return False
            self._follow(self._client.reload_configuration())
        except (NoAnswer, Refused):
            return False
        return True

    def _follow(self, changes: Changes) -> None:
        for name in (*changes.removed, *changes.changed):
            self._say(f"services: stopping {name}")
            self._client.remove(name)
        for name in (*changes.changed, *changes.added):
            self._say(f"services: starting {name}")
            self._client.add(name)
        for program in self._client.programs():
            if program.state in _DOWN:
                self._client.start(program.name)

    def _launch(self, settings: Settings) -> None:
        self._say(f"services: starting {', '.join(settings.services)}")
        variables = {host.MARK: settings.identifier, "PYTHONSAFEPATH": "1"}
        ended = process.run(
            [f"environments/{settings.environment}/bin/python", *_SUPERVISORD],
            cwd=self._root,
            environment=process.environment({**variables, "PYTHONDONTWRITEBYTECODE": "1"}),
            timeout_s=LAUNCH_TIMEOUT_S,
        )
        if ended.status != 0:
            raise _not_started(ended.lines[-1] if ended.lines else f"status {ended.status}")

    def _await_running(self, settings: Settings, before: dict[str, int]) -> None:
        deadline = time.monotonic() + RUNNING_TIMEOUT_S
        while time.monotonic() < deadline:
            programs = self._programs()
            if all(program.state == "running" for program in programs):
                return
            if self._has_given_up(programs, before):
                break
            time.sleep(POLL_S)
        waiting = [program for program in self._programs() if program.state != "running"]
        self._require_port(settings)
        raise self._service_not_starting(waiting)

    def _programs(self) -> tuple[ProgramState, ...]:
        try:
            return self._client.programs()
        except NoAnswer as error:
            raise _not_started(_tail(self._root / "logs/supervisord.log")) from error

    def _has_given_up(self, programs: Iterable[ProgramState], before: dict[str, int]) -> bool:
        failing = [program for program in programs if program.state in ("backoff", "fatal")]
        counts = self._restarts() if failing else {}
        return any(
            program.state == "fatal"
            or _since(counts.get(program.name, 0), before.get(program.name, 0)) >= DEATHS
            for program in failing
        )

    def _shut_down(self) -> None:
        pid = self._client.pid()
        self._say("services: stopping")
        with _Handles([pid]) as alive:
            self._client.shut_down()
            deadline = time.monotonic() + STOP_TIMEOUT_S
            while alive.wait(POLL_S) and time.monotonic() < deadline:
                with suppress(NoAnswer):  # its socket closes a moment before its process ends
                    self._client.wake()

    def _end_leftovers(self) -> None:
        """End what is left of the box: TERM, then KILL, until nothing is found any more."""
        for number, patience in [(signal.SIGTERM, TERM_TIMEOUT_S)] + [
            (signal.SIGKILL, KILL_TIMEOUT_S)
        ] * _ROUNDS:
            found = host.box_processes(self._root)
            if not found:
                return
            self._say(f"services: ending {len(found)} left-over processes")
            end(found, number, patience)
        if stuck := host.box_processes(self._root):
            raise _does_not_end(stuck)

    def _restarts(self) -> dict[str, int]:
        lines: list[str] = []
        for name in ("supervisord.log.1", "supervisord.log"):
            with suppress(OSError):
                lines += (self._root / "logs" / name).read_text("utf-8", "replace").splitlines()
        return restarts(lines)

    def _service_not_starting(self, waiting: Sequence[ProgramState]) -> Failed:
        name = waiting[0].name if waiting else "supervisord"
        log = self._root / "logs" / f"{name}.log"
        return Failed(
            "service-not-starting",
            f"the service {name} does not stay up",
            context=_tail(log),
            hint=f"read why with: tail -n 50 '{log}'",
            fault=Fault.US,
        )


def read_settings(root: Path) -> Settings:
    """What `current` says about its services; raises `NeedsPerson` when it cannot be read."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    try:
        parser.read_string((root / CONFIGURATION).read_text(encoding="utf-8"))
        address, _, port = parser["aibox"]["listen"].rpartition(":")
        return Settings(
            identifier=parser["supervisord"]["identifier"],
            environment=parser["aibox"]["environment"],
            address=address.strip("[]"),
            port=int(port),
            services=tuple(
                section.removeprefix("program:")
                for section in parser.sections()
                if section.startswith("program:")
            ),
        )
    except (OSError, ValueError, KeyError, configparser.Error) as error:
        raise NeedsPerson(
            "generation-has-no-services",
            "the current generation does not say what to run",
            context=f"{root / CONFIGURATION}: {error}",
            hint="repair the box with: ./aibox recover",
            fault=Fault.HOST,
        ) from error


def end(processes: Sequence[host.Process], number: signal.Signals, patience_s: float) -> None:
    """Signal exactly these processes and wait until they are gone, at most `patience_s`."""
    with _Handles([known.pid for known in processes]) as alive:
        for known in processes:
            # Asked again behind the open handle: a pid that was reused is never signalled.
            if known.pid in alive.handles and host.still_is(known):
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(alive.handles[known.pid], number)
        deadline = time.monotonic() + patience_s
        while (left := deadline - time.monotonic()) > 0 and alive.wait(left):
            pass


class _Handles(ExitStack):
    """Handles of processes, which tell when they end even if they are not our children."""

    def __init__(self, pids: Iterable[int]) -> None:
        super().__init__()
        self.handles: dict[int, int] = {}
        self._selector = self.enter_context(selectors.DefaultSelector())
        for pid in pids:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                self.callback(os.close, handle)
                self.handles[pid] = handle
                self._selector.register(handle, selectors.EVENT_READ)

    def wait(self, timeout_s: float) -> bool:
        """Wait for one of them to end; whether any still lives."""
        if self._selector.get_map():
            for key, _ in self._selector.select(timeout_s):
                self._selector.unregister(key.fd)
        return bool(self._selector.get_map())


def _since(count: int, before: int) -> int:
    # A count that fell began anew, because the service was stopped on purpose meanwhile.
    return count - before if count >= before else count


def _status(name: str, program: ProgramState | None, absent: str, count: int) -> ServiceStatus:
    if program is None:
        return ServiceStatus(name, absent, None, 0.0, 0)
    return ServiceStatus(name, program.state, program.pid or None, program.uptime_s, count)


def _tail(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return "it wrote no log"
    return " | ".join(line.strip() for line in lines[-_LOG_LINES:]) or "its log is empty"


def _port_taken(settings: Settings, found: Sequence[host.Process]) -> Failed:
    by = ", ".join(f"process {known.pid} ({known.command[:80]})" for known in found)
    return Failed(
        "port-taken",
        f"port {settings.port} of this host is used by another program",
        context=f"{settings.address}:{settings.port} is held by {by or 'another user'}",
        hint="end that program, or set another port under [server] in a site file, then: "
        "./aibox install --profile local --inventory FILE",
        fault=Fault.HOST,
    )


def _not_started(why: str) -> Failed:
    return Failed(
        "services-not-started",
        "the supervisor of the services could not be started",
        context=why,
        hint="see what is wrong on this host with: ./aibox doctor",
        fault=Fault.US,
    )


def _does_not_end(stuck: Sequence[host.Process]) -> Failed:
    return Failed(
        "process-not-ending",
        "a process of the box cannot be ended, not even by SIGKILL",
        context=", ".join(f"{known.pid} {known.command[:80]}" for known in stuck),
        hint="it waits for a disk or a device: check with dmesg, then: ./aibox stop",
        fault=Fault.HOST,
    )
