"""What the box is and does right now; reading only."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from aibox import plan as plans
from aibox.box.journal import Intent
from aibox.box.runtime import ServiceStatus
from aibox.box.stalls import Stalls
from aibox.box.stalls import read as read_stalls
from aibox.box.store import Store
from aibox.difference import Difference
from aibox.measuring.basis import CHAT
from aibox.plan import Current
from aibox.record import Entry
from aibox.release import Release
from aibox.schema import Model
from aibox.site import Site


class State(StrEnum):
    """One word for the whole box."""

    RUNNING = "running"
    DEGRADED = "degraded"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    NOT_INSTALLED = "not-installed"


class Service(Model):
    """One service: `state` is the supervisor's word, `uptime_s` seconds."""

    name: str
    state: str
    pid: int | None
    uptime_s: float
    restarts: int


class Status(Model):
    """The `status` contract. `differences` compares the release with models.lock.

    `calibrations` says of each engine that can be measured whether its calibration counts: `none`,
    `valid, …` or `stale: …`; `calibration` is that of `chat`, "" without such an engine. `stalls`
    are engines that hung in the last day and were started anew.
    """

    release: str
    generation: int | None
    profile: str
    state: State
    url: str
    engine: str
    services: tuple[Service, ...]
    last_gate: dict[str, Any] | None
    differences: tuple[Difference, ...]
    calibration: str = ""
    calibrations: dict[str, str] = Field(default_factory=dict)
    stalls: tuple[Stalls, ...] = ()


def describe(
    store: Store,
    now: Current | None,
    services: tuple[ServiceStatus, ...],
    locked: Release | None,
    *,
    calibrations: Mapping[str, str] | None = None,
) -> Status:
    """Put the facts together; `locked` is what models.lock would install, None if unknown."""
    site = Site.model_validate(now.plan["site"]) if now else Site()
    counts = dict(calibrations or {})
    return Status(
        release=now.release.id if now else "",
        generation=now.generation if now else None,
        profile=now.release.profile if now else "",
        state=judge(now is not None, _is_interrupted(store), services),
        url=plans.address(site, now.release.runtime) if now else "",
        engine=plans.engine(now.release, site) if now else "",
        services=tuple(
            Service(name=s.name, state=s.state, pid=s.pid, uptime_s=s.uptime_s, restarts=s.restarts)
            for s in services
        ),
        last_gate=last_gate(store.history.read().entries),
        differences=plans.compare_releases(now.release, locked) if now and locked else (),
        calibration=counts.get(CHAT, ""),
        calibrations=counts,
        stalls=read_stalls(store.layout.root),
    )


def _is_interrupted(store: Store) -> bool:
    """Whether `recover` has something to do: an open intent, or a `current` that is lost."""
    return isinstance(store.journal.read(), Intent) or store.is_lost()


def judge(installed: bool, interrupted: bool, services: tuple[ServiceStatus, ...]) -> State:
    """The one word; an interrupted command outweighs what its services look like."""
    if interrupted:
        return State.INTERRUPTED
    if not installed:
        return State.NOT_INSTALLED
    running = [service.state == "running" for service in services]
    if running and all(running):
        return State.RUNNING
    return State.DEGRADED if any(running) else State.STOPPED


def last_gate(entries: tuple[Entry, ...]) -> dict[str, Any] | None:
    """The newest verdict of the record, with the generation it judged."""
    judged = [entry for entry in entries if entry.gate is not None]
    if not judged or judged[-1].gate is None:
        return None
    entry = judged[-1]
    gate = judged[-1].gate
    return {
        "generation": entry.generation,
        "finished": entry.finished.isoformat(),
        **gate.model_dump(mode="json"),
    }
