"""The units of the services in the system's systemd, through systemctl."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aibox import process
from aibox.errors import Failed, Fault

ANSWER_TIMEOUT_S = 30.0
# A service may take its unit's whole TimeoutStopSec to stop before it starts again.
JOB_TIMEOUT_S = 600.0
_PREFIX, _SUFFIX = "aibox@", ".service"
_PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "NRestarts", "Result")


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit. `active` and `sub` are systemd's words (active, activating, failed …; running,
    auto-restart, dead …), `restarts` counts those by `Restart=` since it was started."""

    service: str
    loaded: bool
    active: str
    sub: str
    restarts: int
    result: str = "success"


class Units(Protocol):
    """What supervision needs of systemd; every method may raise `Failed`."""

    def states(self, services: Iterable[str]) -> tuple[UnitState, ...]:
        """The units of these services, whether they exist or not."""

    def known(self) -> tuple[str, ...]:
        """The services whose units are loaded, running or failed."""

    def start(self, service: str) -> None:
        """Start one that does not run, even if it failed too often."""

    def restart(self, service: str) -> None:
        """Stop and start one."""

    def stop(self, services: Iterable[str]) -> None:
        """Stop these and wait until they are."""


class SystemUnits:
    """Implements `Units`; `on_wait` is called about twice a second while systemd works."""

    def __init__(self, on_wait: Callable[[], None] = lambda: None) -> None:
        self._on_wait = on_wait

    def states(self, services: Iterable[str]) -> tuple[UnitState, ...]:
        names = [unit_of(service) for service in services]
        if not names:
            return ()
        asked = f"--property={','.join(_PROPERTIES)}"
        return parse_states(self._run("show", asked, *names).text)

    def known(self) -> tuple[str, ...]:
        options = ("--all", "--plain", "--no-legend", "--full")
        listed = self._run("list-units", *options, f"{_PREFIX}*{_SUFFIX}").lines
        return tuple(service_of(line.split()[0]) for line in listed)

    def start(self, service: str) -> None:
        self._forget_failure(service)
        self._job("start", service)

    def restart(self, service: str) -> None:
        self._forget_failure(service)
        self._job("restart", service)

    def stop(self, services: Iterable[str]) -> None:
        names = list(services)
        if names:
            self._job("stop", *names)

    def _forget_failure(self, service: str) -> None:
        """So that a start is not refused because it failed too often, and restarts count anew."""
        # It answers 1 for a unit that nobody has started yet.
        self._command("reset-failed", [unit_of(service)], ANSWER_TIMEOUT_S)

    def _job(self, verb: str, *services: str) -> None:
        ended = self._command(verb, [unit_of(one) for one in services], JOB_TIMEOUT_S)
        if ended.status != 0:
            raise _refused(verb, services[0], ended.text)

    def _run(self, verb: str, *words: str) -> process.Completed:
        ended = self._command(verb, words, ANSWER_TIMEOUT_S)
        if ended.status != 0:
            raise _no_answer(ended.text)
        return ended

    def _command(self, verb: str, words: Sequence[str], timeout_s: float) -> process.Completed:
        return process.run(
            ["systemctl", verb, "--no-pager", *words],
            environment=process.environment(),
            timeout_s=timeout_s,
            on_tick=self._on_wait,
        )


def reboot() -> None:
    """Ask systemd to reboot this host; returns at once. Raises `Failed` when it refuses."""
    ended = process.run(
        ["systemctl", "--no-block", "reboot"],
        environment=process.environment(),
        timeout_s=ANSWER_TIMEOUT_S,
    )
    if ended.status != 0:
        raise Failed(
            "reboot-refused",
            "systemd does not reboot this host",
            context=ended.text[-300:] or "it said nothing",
            hint="reboot it by hand, then give the same command again: sudo systemctl reboot",
            fault=Fault.HOST,
        )


def unit_of(service: str) -> str:
    """The unit that keeps a service running."""
    return f"{_PREFIX}{service}{_SUFFIX}"


def service_of(unit: str) -> str:
    """The service that a unit keeps running."""
    return unit.removeprefix(_PREFIX).removesuffix(_SUFFIX)


def parse_states(text: str) -> tuple[UnitState, ...]:
    """The answer of `systemctl show` for several units. Pure.

    Each begins anew where a property is told again: blank lines between them do not arrive here.
    """
    units: list[dict[str, str]] = []
    for line in text.splitlines():
        key, _, value = line.partition("=")
        if not units or key in units[-1]:
            units.append({})
        units[-1][key] = value
    return tuple(_state(unit) for unit in units)


def _state(unit: dict[str, str]) -> UnitState:
    return UnitState(
        service=service_of(unit.get("Id", "")),
        loaded=unit.get("LoadState") == "loaded",
        active=unit.get("ActiveState", "unknown"),
        sub=unit.get("SubState", "unknown"),
        restarts=int(unit.get("NRestarts") or 0),
        result=unit.get("Result", "success"),
    )


def _no_answer(why: str) -> Failed:
    return Failed(
        "systemd-no-answer",
        "systemd does not answer",
        context=why[-300:] or "it said nothing",
        hint="see whether it runs on this host: systemctl is-system-running",
        fault=Fault.HOST,
    )


def _refused(verb: str, service: str, why: str) -> Failed:
    unit = unit_of(service)
    return Failed(
        "unit-refused",
        f"systemd could not {verb} the service {service}",
        context=why[-300:] or unit,
        hint=f"read why with: journalctl --all --unit {unit.removesuffix(_SUFFIX)}",
        fault=Fault.HOST,
    )
