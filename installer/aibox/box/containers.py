"""The `container` runtime: the services of the box as Compose services, each kept by a unit.

systemd starts `docker compose up` for one service and starts it again when it ends; Docker itself
never restarts anything, so a generation that was left does not come back. What has to run is read
from `current/config/compose.yaml` alone, so the same code serves an upgrade and a rollback.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from aibox.box import compose_file
from aibox.box.compose_file import PROJECT, ComposeService
from aibox.box.container_changes import Scene, Step, Verb, steps
from aibox.box.docker_engine import Container, DockerEngine, Engine
from aibox.box.mounts import mounted_generations
from aibox.box.runtime import ServiceStatus
from aibox.box.system_units import SystemUnits, Units, UnitState, unit_of
from aibox.errors import AiboxError, Failed, Fault

CONFIGURATION = Path("current") / compose_file.FILE
RUNNING_TIMEOUT_S = 120.0
# Whoever dies at once is seen to die; whether it answers is for the gate to ask.
SETTLED_S = 2.0
# A service that died this often while it was waited for will not come up.
DEATHS = 3
POLL_S = 0.3
SAY_EVERY_S = 4.0
LOG_LINES = 5


class Containers:
    """Implements `aibox.box.runtime.Runtime`. The caller holds the box."""

    def __init__(
        self,
        root: Path,
        *,
        engine: Engine | None = None,
        units: Units | None = None,
        load_images: Callable[[], object] = lambda: None,
        on_event: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`load_images` has the images of `current` in Docker; it is asked before they are used."""
        self._root = root
        self._engine = engine or DockerEngine()
        self._patience = _Patience(on_event)
        self._units = units or SystemUnits(self._patience.tick)
        self._load_images = load_images
        self._say = on_event

    def apply(self) -> None:
        """Make the running services equal what `current` says; returns when all of them run.

        Restarts exactly the services whose inputs or image changed, takes away those that are not
        wanted any more. Raises `NeedsPerson` (`generation-has-no-services`), `Failed`
        (`service-not-starting`, `image-not-loaded`, what Docker and systemd raise).
        """
        wanted = compose_file.read(self._root / CONFIGURATION)
        self._load_images()
        scene = self._look(wanted, self._units.known())
        _require_images(wanted, scene)
        named = {service.name: service for service in wanted}
        before = {unit.service: unit.restarts for unit in scene.units.values()}
        for step in steps(wanted, scene):
            self._do(step)
            before[step.service] = 0
            if step.service in named:
                # One after the other: two at once would both make the network that they share.
                self._await(named[step.service], 0.0, 0)
        for service in wanted:
            self._await(service, SETTLED_S, before.get(service.name, 0))

    def stop(self) -> None:
        """Stop every service; also containers that outlived their unit, or this program."""
        known = self._units.known()
        if known:
            self._say("services: stopping")
            with self._patience.of("services: stopping"):
                self._units.stop(reversed(compose_file.ordered(known)))
        for left in self._containers_if_docker_is_there():
            if left.state in ("running", "paused", "restarting"):
                self._say(f"services: ending {left.service}, which nobody watches")
                self._engine.stop_container(left.id)

    def services(self) -> tuple[ServiceStatus, ...]:
        """Every service of `current`. Its state is `unknown` when Docker does not answer."""
        try:
            wanted = compose_file.read(self._root / CONFIGURATION)
        except AiboxError:
            return ()
        units = self._unit_states(wanted)
        try:
            found = self._engine.containers(PROJECT)
        except AiboxError:
            return tuple(_unknown(one.name, units.get(one.name)) for one in wanted)
        scene, now = Scene(found, units, {}), time.time()
        return tuple(_status(service.name, scene, now) for service in wanted)

    def unready(self) -> str:
        """Why what `current` says does not all run and answer its own health check yet; or ""."""
        wanted = compose_file.read(self._root / CONFIGURATION)
        scene = self._look(wanted)
        for service in wanted:
            container = scene.right(service)
            if container is None or not scene.is_up(service):
                return f"{service.name} does not run"
            if container.health not in ("", "healthy"):
                return f"{service.name} is {container.health}"
        return ""

    def remove(self) -> None:
        """Stop everything and remove the containers and networks; nothing if there are none."""
        self.stop()
        found = self._containers_if_docker_is_there()
        for container in found:
            self._engine.remove_container(container.id)
        if found:
            self._engine.remove_networks(PROJECT)

    def mounted_generations(self) -> frozenset[int]:
        """The generations that running containers still use; `gc` must keep them."""
        return mounted_generations(self._root)

    def _look(self, wanted: Sequence[ComposeService], others: Iterable[str] = ()) -> Scene:
        names = {*(service.name for service in wanted), *others}
        return Scene(
            self._engine.containers(PROJECT),
            {unit.service: unit for unit in self._units.states(sorted(names))},
            {image: self._engine.image_id(image) for image in {one.image for one in wanted}},
        )

    def _do(self, step: Step) -> None:
        doing = f"services: {_DOING[step.verb]} {step.service}"
        self._say(doing)
        with self._patience.of(doing):
            match step.verb:
                case Verb.STOP:
                    self._units.stop([step.service])
                case Verb.START:
                    self._units.start(step.service)
                case Verb.RESTART:
                    self._units.restart(step.service)
                case Verb.REMOVE:
                    self._engine.remove_container(step.container)

    def _await(self, service: ComposeService, settled_s: float, restarts: int) -> None:
        """Wait until the service has run for `settled_s`; `restarts` do not count against it."""
        deadline = time.monotonic() + RUNNING_TIMEOUT_S
        with self._patience.of(f"services: waiting for {service.name}"):
            while True:
                scene = self._look([service])
                if scene.is_up(service) and _age(scene.right(service), time.time()) >= settled_s:
                    return
                unit = scene.units.get(service.name)
                if _has_given_up(unit, restarts) or time.monotonic() >= deadline:
                    raise self._not_starting(service)
                self._patience.tick()
                time.sleep(POLL_S)

    def _not_starting(self, service: ComposeService) -> Failed:
        name = service.name
        return Failed(
            "service-not-starting",
            f"the service {name} does not stay up",
            context=self._last_words(name, self._after_its_end(service)),
            hint=f"read why with: journalctl --all --unit {unit_of(name).removesuffix('.service')}",
            fault=Fault.US,
        )

    def _after_its_end(self, service: ComposeService) -> Scene:
        """What is there once it has ended again: one that runs for a moment has no exit code."""
        deadline = time.monotonic() + SETTLED_S
        scene = self._look([service])
        while _runs(scene.of(service.name)) and time.monotonic() < deadline:
            time.sleep(POLL_S)
            scene = self._look([service])
        return scene

    def _last_words(self, name: str, scene: Scene) -> str:
        latest = max(scene.of(name), key=lambda one: one.started, default=None)
        if latest is None:
            unit = scene.units.get(name)
            return f"it has no container; its unit is {unit.active if unit else 'unknown'}"
        lines = [line.strip() for line in self._engine.logs(latest.id, LOG_LINES)]
        said = latest.error or " | ".join(filter(None, lines)) or "it wrote no log"
        return f"{latest.state}, exit code {latest.exit_code}: {said}"

    def _unit_states(self, wanted: Sequence[ComposeService]) -> dict[str, UnitState]:
        try:
            states = self._units.states([service.name for service in wanted])
        except AiboxError:
            return {}
        return {unit.service: unit for unit in states}

    def _containers_if_docker_is_there(self) -> tuple[Container, ...]:
        try:
            return self._engine.containers(PROJECT)
        except AiboxError as error:
            if error.reference != "docker-absent":
                raise
            return ()


_DOING = {
    Verb.STOP: "stopping",
    Verb.REMOVE: "removing a container of",
    Verb.START: "starting",
    Verb.RESTART: "restarting",
}


class _Patience:
    """Says at least every five seconds what is waited for."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say, self._what = say, ""
        self._since = self._told = 0.0

    def of(self, what: str) -> _Patience:
        """Begin to wait for something."""
        self._what, self._since = what, time.monotonic()
        self._told = self._since
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_error: object) -> None:
        self._what = ""

    def tick(self) -> None:
        """Still waiting."""
        now = time.monotonic()
        if self._what and now - self._told >= SAY_EVERY_S:
            self._told = now
            self._say(f"{self._what} ({now - self._since:.0f} s)")


def _require_images(wanted: Sequence[ComposeService], scene: Scene) -> None:
    missing = sorted({one.image for one in wanted if scene.images[one.image] is None})
    if missing:
        raise Failed(
            "image-not-loaded",
            "Docker does not have an image that the current generation runs",
            context=", ".join(missing),
            hint="load it from the box's own store with: ./aibox start",
            fault=Fault.HOST,
        )


def _has_given_up(unit: UnitState | None, before: int) -> bool:
    if unit is None:
        return False
    # A count that fell began anew, because somebody started the unit meanwhile.
    deaths = unit.restarts - before if unit.restarts >= before else unit.restarts
    return unit.active == "failed" or deaths >= DEATHS


def _runs(found: Iterable[Container]) -> bool:
    return any(one.state == "running" for one in found)


def _age(container: Container | None, now: float) -> float:
    """Seconds since it started; a clock that was set back does not make anybody wait forever."""
    if container is None:
        return 0.0
    return now - container.started if container.started <= now else SETTLED_S


def _unknown(name: str, unit: UnitState | None) -> ServiceStatus:
    return ServiceStatus(name, "unknown", None, 0.0, unit.restarts if unit else 0)


def _status(name: str, scene: Scene, now: float) -> ServiceStatus:
    unit = scene.units.get(name)
    restarts = unit.restarts if unit else 0
    running = next((one for one in scene.of(name) if one.pid), None)
    if running is None:
        return ServiceStatus(name, _idle_word(unit), None, 0.0, restarts)
    uptime = max(0.0, now - running.started)
    return ServiceStatus(name, _running_word(running, unit), running.pid, uptime, restarts)


def _idle_word(unit: UnitState | None) -> str:
    if unit is None or unit.active not in ("failed", "active", "activating"):
        return "stopped"
    return "failed" if unit.active == "failed" else "restarting"


def _running_word(container: Container, unit: UnitState | None) -> str:
    if container.state != "running":
        return container.state
    if unit is not None and unit.active != "active":
        return "unsupervised"
    # Not yet asked by Docker is no fault: whether the box answers is for the gate to say.
    return "unhealthy" if container.health == "unhealthy" else "running"
