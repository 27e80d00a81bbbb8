"""What runs the services of a box, and how the box is spoken to: its runtime decides both.

A box keeps the runtime of its first generation, so any generation on its disk tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aibox import loading, placing
from aibox import plan as plans
from aibox import release as releases
from aibox.assistant import Assistant
from aibox.box import container_images, footing, host
from aibox.box import runtime as box
from aibox.box.containers import Containers
from aibox.box.docker_engine import DockerEngine
from aibox.box.http import Tls
from aibox.box.store import Store
from aibox.box.supervisor import Supervisor
from aibox.errors import AiboxError, BadUsage, Fault
from aibox.footing import AUTHORITY
from aibox.plan import Current
from aibox.profile import Runtime
from aibox.progress import Progress, Report
from aibox.site import Container, Site

STEP = "services"
DEATHS = 3
"""A service that died so often while it was waited for will not come up."""


def kind(store: Store) -> Runtime:
    """The runtime of the box; `PROCESS` where there is no generation that could tell."""
    for number in reversed(store.generations()):
        return releases.parse(store.manifest(number)).runtime
    return Runtime.PROCESS


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
    root = store.layout.root
    footing.provide(store.filesystem, root, footing.read(store.layout.generation(number)))
    site = plans.stored_site(store.file(number, "plan.json"))
    loading.run(
        placing.part(releases.parse(store.manifest(number)), site).images,
        store.layout.tree(number),
        host.architecture(),
        engine=DockerEngine(),
        notes=store.layout.loaded_images,
        filesystem=store.filesystem,
        report=report,
    )


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
    return not site.member or "gateway" in placing.services(now.release, site)


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
