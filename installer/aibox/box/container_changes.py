"""What has to be done so that the containers are what the Compose file says. Pure.

A container carries the digest of everything it read when it was made; systemd keeps it running.
So a service is right when its unit is active and one of its containers runs with the wanted
digest and image; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from aibox.box.compose_file import INPUTS_LABEL, ComposeService, ordered
from aibox.box.docker_engine import Container
from aibox.box.system_units import UnitState

_IDLE = frozenset({"inactive", "failed", "unknown"})
_ONE_OFF = "com.docker.compose.oneoff"


class Verb(StrEnum):
    """What is done to a service, or (`REMOVE`) to one of its containers."""

    STOP = "stop"
    REMOVE = "remove"
    START = "start"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do; `container` is the id of the one to remove."""

    verb: Verb
    service: str
    container: str = ""


@dataclass(frozen=True, slots=True)
class Scene:
    """What there is: the containers of the project, the units, and the ids of images by name."""

    containers: tuple[Container, ...]
    units: Mapping[str, UnitState]
    images: Mapping[str, str | None]

    def right(self, service: ComposeService) -> Container | None:
        """The running container that is what the service must be."""
        fitting = (one for one in self.of(service.name) if self._fits(one, service))
        return next(fitting, None)

    def of(self, name: str) -> Iterable[Container]:
        """The containers of a service; those that a person made by hand are no part of it."""
        return (
            one
            for one in self.containers
            if one.service == name and one.labels.get(_ONE_OFF) != "True"
        )

    def is_idle(self, name: str) -> bool:
        """Whether systemd does nothing for the service."""
        unit = self.units.get(name)
        return unit is None or unit.active in _IDLE

    def is_up(self, service: ComposeService) -> bool:
        """Whether it runs as it must and systemd watches over it."""
        unit = self.units.get(service.name)
        return unit is not None and unit.active == "active" and self.right(service) is not None

    def _fits(self, container: Container, service: ComposeService) -> bool:
        return (
            container.state == "running"
            and container.labels.get(INPUTS_LABEL) == service.inputs
            and container.image == self.images.get(service.image)
        )


def steps(wanted: Sequence[ComposeService], scene: Scene) -> tuple[Step, ...]:
    """What to do, in this order: what is no longer wanted goes first, the first asked starts first.

    Nothing for a service that is as it must be.
    """
    names = {service.name for service in wanted}
    present = {one.service for one in scene.containers} | set(scene.units)
    dropped = reversed(ordered(present - names))
    away = [step for name in dropped for step in _away(name, scene)]
    return (*away, *(step for service in wanted for step in _toward(service, scene)))


def _away(name: str, scene: Scene) -> Iterable[Step]:
    if not scene.is_idle(name):
        yield Step(Verb.STOP, name)
    for one in scene.of(name):
        yield Step(Verb.REMOVE, name, one.id)


def _toward(service: ComposeService, scene: Scene) -> Iterable[Step]:
    """A container that outlived its unit is only watched over again, or replaced, by a start."""
    if scene.is_up(service):
        return
    yield Step(Verb.START if scene.is_idle(service.name) else Verb.RESTART, service.name)
