"""What runs the services of a box, and how the box is spoken to: its runtime decides both.

A box keeps the runtime of its first generation, so any generation on its disk tells it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aibox import digest, loading, placement
from aibox import plan as plans
from aibox import release as releases
from aibox.assistant import Assistant
from aibox.box import compiled, container_images, gpus, host, prerequisites
from aibox.box import runtime as box
from aibox.box.containers import Containers
from aibox.box.docker_engine import DockerEngine
from aibox.box.http import Tls
from aibox.box.store import Store
from aibox.box.supervisor import Supervisor
from aibox.errors import AiboxError, BadUsage, Fault, NeedsPerson
from aibox.measuring import basis
from aibox.plan import Current
from aibox.prerequisites import AUTHORITY, CACHES, Prerequisites
from aibox.profile import Runtime
from aibox.progress import Progress, Report
from aibox.release import Release
from aibox.site import Container, Site

STEP = "services"
DEATHS = 3
"""A service that died so often while it was waited for will not come up."""


def kind(store: Store) -> Runtime:
    """The runtime of the box; `PROCESS` where there is no generation.

    Any that can be read tells it. Raises `NeedsPerson` where there are some, and all are damaged.
    """
    damage: NeedsPerson | None = None
    for number in reversed(store.generations()):
        try:
            return releases.parse(store.manifest(number)).runtime
        except NeedsPerson as error:
            damage = damage or error
        except OSError:
            damage = damage or _unreadable(store, number)
    if damage is not None:
        raise damage
    return Runtime.PROCESS


def _unreadable(store: Store, number: int) -> NeedsPerson:
    return NeedsPerson(
        "generation-unreadable",
        f"generation {number} is damaged, and no other can be read",
        context=str(store.layout.generation(number)),
        hint="see what is damaged with: ./aibox doctor",
        fault=Fault.HOST,
    )


def services(store: Store, report: Report) -> box.Runtime:
    """Whoever starts and stops the services of this box."""

    def say(line: str) -> None:
        report(Progress(STEP, line))

    if kind(store) is Runtime.PROCESS:
        return Supervisor(store.layout.root, filesystem=store.filesystem, on_event=say)
    return containers(store, report)


def containers(store: Store, report: Report) -> Containers:
    """The services of a box of containers; the images of `current` are loaded when needed."""
    return Containers(
        store.layout.root,
        load_images=lambda: make_ready(store, report),
        on_event=lambda line: report(Progress(STEP, line)),
    )


def watch(runtime: box.Runtime, deaths: int = DEATHS) -> Callable[[], str]:
    """What says which service has died `deaths` times from now on, "" while none has."""
    before = {service.name: service.restarts for service in runtime.services()}

    def dying() -> str:
        for service in runtime.services():
            died = service.restarts - before.get(service.name, 0)
            if died >= deaths:
                return f"the service {service.name} has died {died} times since it was started"
        return ""

    return dying


def sweep(store: Store) -> tuple[str, ...]:
    """Remove the images that no generation of the box names any more; none for processes."""
    if kind(store) is Runtime.PROCESS:
        return ()
    kept = [store.layout.generation(number) for number in store.generations()]
    return container_images.sweep(DockerEngine(), kept)


def clear(store: Store, report: Report) -> None:
    """Stop the services, and leave nothing of them but what lies in the box."""
    if kind(store) is Runtime.PROCESS:
        services(store, report).stop()
        return
    containers(store, report).remove()
    try:
        container_images.sweep(DockerEngine(), ())
    except AiboxError as error:
        # Without an engine there are no images either.
        if error.reference != "docker-absent":
            raise


def make_ready(store: Store, report: Report) -> None:
    """Have what the containers of `current` stand on: folders, secrets, images in Docker."""
    number = store.current()
    if number is None:
        return
    root, release = store.layout.root, releases.parse(store.manifest(number))
    needed = prerequisites.read(store.layout.generation(number))
    _place_compiled(store, number, release, needed, report)
    prerequisites.provide(store.filesystem, root, needed)
    site = plans.stored_site(store.file(number, "plan.json"))
    loading.run(
        placement.part(release, site).images,
        store.layout.tree(number),
        host.architecture(),
        engine=DockerEngine(),
        notes=store.layout.loaded_images,
        filesystem=store.filesystem,
        report=report,
    )


def _place_compiled(
    store: Store, number: int, release: Release, needed: Prerequisites, report: Report
) -> None:
    """What the release carries for engines that have compiled nothing here yet, where it fits."""
    files = {pin.name: f"files/{pin.name}/{pin.filename}" for pin in release.files}
    for folder in (one.path for one in needed.folders if one.path.startswith(f"{CACHES}/")):
        service = folder.removeprefix(f"{CACHES}/").rpartition("-")[0]
        source = store.layout.tree(number) / files.get(f"{compiled.WISH}{service}", "files/-")
        target = store.layout.root / folder
        if not compiled.is_wanting(target) or not source.is_file():
            continue
        hardware = hardware_of(release, service)
        layout = store.layout
        reason = compiled.place(store.filesystem, source, target, layout.staging, hardware)
        told = f"not taken, it compiles anew: {reason}" if reason else "taken"
        report(Progress(STEP, f"what was compiled for {service} elsewhere: {told}"))


def hardware_of(release: Release, service: str) -> tuple[str, ...]:
    """For what an engine compiles here: its GPUs, or the processors, and what these can do."""
    found = basis.hardware(gpus.detect(), release.serving[service].gpus, os.cpu_count() or 1)
    return (*found, compiled.processor())


@dataclass(frozen=True, slots=True)
class Packed:
    """What an engine compiled, as a file: how many files are in it, its size and digest."""

    service: str
    file: Path
    files: int
    size: int
    sha256: str


def pack_compiled(store: Store, now: Current, service: str, output: Path) -> Packed:
    """Write what an engine of this box compiled into a new file; the box is left as it is.

    Raises `BadUsage` (`nothing-compiled`) and `Failed` (`compiled-not-written`).
    """
    folder = _compiled_folder(store, now, service)
    if folder is None:
        raise BadUsage(
            "nothing-compiled",
            f"no engine {service} of this box has compiled anything",
            hint="see which services run here: ./aibox status",
            fault=Fault.YOU,
        )
    files = compiled.pack(folder, hardware_of(now.release, service), output)
    with output.open("rb") as written:
        sha256, size = digest.of_stream(written)
    return Packed(service, output, files, size, sha256)


def _compiled_folder(store: Store, now: Current, service: str) -> Path | None:
    if service not in now.release.serving:
        return None
    needed = prerequisites.read(store.layout.generation(now.generation))
    paths = [one.path for one in needed.folders if one.path.startswith(f"{CACHES}/{service}-")]
    folders = [store.layout.root / path for path in paths]
    return next((folder for folder in folders if folder.is_dir()), None)


def assistant(store: Store, now: Current) -> Assistant:
    """The running box, as it is spoken to on this host.

    Raises `BadUsage` (`gateway-elsewhere`) on a host of several that has no gateway.
    """
    site = Site.model_validate(now.plan["site"])
    if now.release.runtime is Runtime.PROCESS:
        return Assistant(site.server.port)
    if not has_gateway(now):
        raise _gateway_elsewhere(site)
    return Assistant(site.container.port, _tls(store.layout.root, site.container))


def has_gateway(now: Current) -> bool:
    """Whether the box is spoken to on this host: not on every one of several."""
    site = Site.model_validate(now.plan["site"])
    return not site.member or "gateway" in placement.services(now.release, site)


class Probe:
    """Whether what runs on this host is ready: asked through the gateway, or of Docker."""

    def __init__(self, store: Store, now: Current, report: Report) -> None:
        self._assistant = assistant(store, now) if has_gateway(now) else None
        self._containers = containers(store, report)

    def ready(self) -> tuple[bool, str]:
        """Whether it is, and if not, why. Raises what Docker raises where there is no gateway."""
        if self._assistant is not None:
            return self._assistant.ready()
        reason = self._containers.unready()
        return not reason, reason


def _gateway_elsewhere(site: Site) -> BadUsage:
    hosts = [name for name, host in site.hosts.items() if "gateway" in host.groups]
    return BadUsage(
        "gateway-elsewhere",
        "this host is one of several, and the box answers on another",
        context=f"the gateway is on {', '.join(hosts)}",
        hint="give the command there; what runs here: ./aibox status",
        fault=Fault.YOU,
    )


def _tls(root: Path, site: Container) -> Tls:
    if site.certificate_file:
        return Tls(Path(site.certificate_file), site.names[0])
    return Tls(root / AUTHORITY, "localhost")
