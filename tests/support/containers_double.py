"""A host double: Docker and systemd as the container runtime meets them, in memory.

`start` does what the unit's `docker compose up` does: it leaves a container that is as the file
says alone, makes it anew when inputs or image differ, and starts it when it stands still.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from aibox.box import compose_file
from aibox.box.compose_file import INPUTS_LABEL
from aibox.box.docker_engine import Container, EngineFacts, Tagged
from aibox.box.system_units import UnitState
from aibox.errors import Failed, Fault

IMAGE = "aibox/app:0123456789abcdef"
IMAGE_ID = "sha256:" + "a" * 64


def compose_text(services: dict[str, str], image: str = IMAGE) -> str:
    """A Compose file of services and their inputs."""
    return yaml.safe_dump(
        {
            "name": "aibox",
            "services": {
                name: {"image": image, "labels": {INPUTS_LABEL: inputs}}
                for name, inputs in services.items()
            },
        }
    )


def write_generation(root: Path, number: int, services: dict[str, str], image: str = IMAGE) -> None:
    """A generation with a Compose file, which `current` then names."""
    config = root / f"gens/{number}/config"
    config.mkdir(parents=True)
    (config / "compose.yaml").write_text(compose_text(services, image))
    (root / "current").unlink(missing_ok=True)
    (root / "current").symlink_to(f"gens/{number}")


def container(service: str, inputs: str, number: int = 0, **fields: object) -> Container:
    """A running container as `docker compose` makes it."""
    made = Container(
        id=f"{service}-{number}",
        service=service,
        labels={INPUTS_LABEL: inputs},
        image=IMAGE_ID,
        state="running",
        pid=100 + number,
        started=time.time() - 60,
    )
    return dataclasses.replace(made, **fields)  # type: ignore[arg-type]


def unit(service: str, active: str = "active", restarts: int = 0) -> UnitState:
    return UnitState(service, True, active, "running", restarts)


@dataclass
class HostDouble:
    """Implements `Engine` and `Units`. `dying` services never stay up."""

    root: Path
    images: dict[str, str] = field(default_factory=lambda: {IMAGE: IMAGE_ID})
    by_id: dict[str, Container] = field(default_factory=dict)
    by_name: dict[str, UnitState] = field(default_factory=dict)
    dying: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    before: Callable[[str], None] = lambda _what: None
    docker_answers: bool = True
    in_use: set[str] = field(default_factory=set)
    docker_root: Path = Path("/")
    loaded: list[bytes] = field(default_factory=list)
    id_of_loaded: str = IMAGE_ID
    keeps_manifests: bool = False
    _numbers: Iterable[int] = field(default_factory=lambda: itertools.count(1))

    # -- Engine ---------------------------------------------------------------------------------

    def facts(self) -> EngineFacts:
        return EngineFacts("26.1.5", (1, 45), self.docker_root, self.keeps_manifests)

    def image_id(self, tag: str) -> str | None:
        return self.images.get(tag)

    def tagged(self, repositories: str) -> tuple[Tagged, ...]:
        start = repositories.removesuffix("*")
        return tuple(Tagged(t, i) for t, i in self.images.items() if t.startswith(start))

    def load(self, archive: Iterable[bytes], on_line: Callable[[str], None]) -> None:
        self._do("load")
        self.loaded.append(b"".join(archive))
        on_line("Loading layer")

    def remove_image(self, tag: str) -> None:
        if tag in self.in_use:
            raise Failed("docker-refused", "in use", hint="none", fault=Fault.HOST)
        self._do(f"remove image {tag}")
        self.images.pop(tag, None)

    def containers(self, project: str) -> tuple[Container, ...]:
        assert project == "aibox"
        if not self.docker_answers:
            raise Failed("docker-no-answer", "no answer", hint="none", fault=Fault.HOST)
        return tuple(self.by_id.values())

    def logs(self, container: str, lines: int) -> tuple[str, ...]:
        return (f"{container} says why",)[-lines:]

    def stop_container(self, container: str) -> None:
        self._do(f"stop container {container}")
        self._halt(container)

    def remove_container(self, container: str) -> None:
        self._do(f"remove {container}")
        self.by_id.pop(container, None)

    def remove_networks(self, project: str) -> None:
        self._do(f"remove networks of {project}")

    # -- Units ----------------------------------------------------------------------------------

    def states(self, services: Iterable[str]) -> tuple[UnitState, ...]:
        absent = UnitState("", True, "inactive", "dead", 0)
        return tuple(
            self.by_name.get(name, dataclasses.replace(absent, service=name)) for name in services
        )

    def known(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    def start(self, service: str) -> None:
        self._do(f"start {service}")
        self._up(service)

    def restart(self, service: str) -> None:
        self._do(f"restart {service}")
        self._down(service)
        self._up(service)

    def stop(self, services: Iterable[str]) -> None:
        for service in services:
            self._do(f"stop {service}")
            self._down(service)

    # -- what happens ---------------------------------------------------------------------------

    def _do(self, what: str) -> None:
        self.before(what)
        self.done.append(what)

    def _up(self, service: str) -> None:
        if service in self.dying:
            self.by_name[service] = unit(service, "activating", restarts=3)
            stands = {"state": "exited", "pid": None, "exit_code": 1}
            died = container(service, "any", next(iter(self._numbers)), **stands)
            self.by_id[died.id] = died
            return
        file = compose_file.read(self.root / "current/config/compose.yaml")
        (wanted,) = (one for one in file if one.name == service)
        self.by_name[service] = unit(service)
        image = self.images[wanted.image]
        for one in [one for one in self.by_id.values() if one.service == service]:
            if (one.labels.get(INPUTS_LABEL), one.image) == (wanted.inputs, image):
                self.by_id[one.id] = dataclasses.replace(one, state="running", pid=one.pid or 77)
                return
            del self.by_id[one.id]
        made = container(service, wanted.inputs, next(iter(self._numbers)), image=image)
        self.by_id[made.id] = made

    def _down(self, service: str) -> None:
        self.by_name.pop(service, None)
        for one in [one for one in self.by_id.values() if one.service == service]:
            self._halt(one.id)

    def _halt(self, container: str) -> None:
        stopped = dataclasses.replace(self.by_id[container], state="exited", pid=None)
        self.by_id[container] = stopped
