"""Which host of a box of several runs what, and how its services find one another. Pure.

A box of one host is the rule: there every service is found by its name in the network of the
containers. With `[hosts]` each host runs the services of its groups from a part of the release,
and who asks a service on another host asks at that host's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aibox.errors import BadUsage, Fault
from aibox.profile import PackageRole
from aibox.release import Release
from aibox.serving import ENGINES, image_of
from aibox.site import Container, Engine, Group, Host, Site

GROUP_OF: Mapping[str, Group] = {
    "gateway": "gateway",
    "web": "app",
    "ingest": "app",
    "qdrant": "vector",
    **dict.fromkeys(ENGINES, "gpu"),
}
"""The group whose hosts run a service."""

PORTS = {"web": 8642, "qdrant": 6333, **{name: one.port for name, one in ENGINES.items()}}
"""Where a service listens for the other hosts of the box."""

OWN_PORTS = {"web": 8642, "qdrant": 6333, **dict.fromkeys(ENGINES, 8000)}
"""Where it listens in its own container."""

ASKED_BY = {
    "web": ("gateway",),
    "qdrant": ("web", "ingest"),
    **{name: one.asked_by for name, one in ENGINES.items()},
}
"""Who asks a service."""

ORDER: tuple[Group, ...] = ("vector", "gpu", "app", "gateway", "monitoring")
"""Who is asked starts before who asks."""

_OF_GPUS = {PackageRole.NVIDIA_DRIVER, PackageRole.NVIDIA_CONTAINER_TOOLKIT, PackageRole.CUDA}


def services(release: Release, site: Site) -> tuple[str, ...]:
    """The services that the site's own host runs; all of them on a box of one host."""
    if not site.member:
        return release.services
    groups = site.hosts[site.member].groups
    return tuple(name for name in release.services if GROUP_OF[name] in groups)


def part(release: Release, site: Site) -> Release:
    """What of a release its site's own host needs: services with their images, weights, packages.

    It has another id than the release, which stays the one that a host is said to run.
    """
    if not site.member:
        return release
    mine = services(release, site)
    serving = {name: one for name, one in release.serving.items() if name in mine}
    models = {one.model for one in serving.values()}
    images = {one.image for one in serving.values()}
    images |= {image_of(name, release.service_images) for name in mine if name not in serving}
    has_gpus = any(one.gpus for one in serving.values())
    left_out = set() if has_gpus else _OF_GPUS
    roles = {name: role for name, role in release.package_roles.items() if role not in left_out}
    return release.model_copy(
        update={
            "services": mine,
            "serving": serving,
            "models": tuple(one for one in release.models if one.name in models),
            "images": tuple(one for one in release.images if one.name in images),
            "packages": tuple(
                one
                for one in release.packages
                if one.name in roles or one.name not in release.package_roles
            ),
            "package_roles": roles,
            "hardware": release.hardware if has_gpus else None,
        }
    )


def of_host(site: Site, name: str) -> Site:
    """The site as one of its hosts needs it: how to log in to the others is none of its matters.

    Files that the site names are those of the host that reads them. A gateway without a name is
    reached by its address.
    """
    hosts = {
        key: Host(address=host.address, port=host.port, groups=host.groups)
        for key, host in site.hosts.items()
    }
    groups, changes = site.hosts[name].groups, dict[str, object]()
    if "gateway" not in groups:
        kept = site.container.model_dump(exclude={"names", "certificate_file", "key_file"})
        changes["container"] = Container.model_validate(kept)
    elif not site.container.names:
        named = site.container.model_dump() | {"names": (site.hosts[name].address,)}
        changes["container"] = Container.model_validate(named)
    if "app" not in groups and (site.engine.api_key_file or site.engine.ca_file):
        without = {"api_key_file": "", "ca_file": ""}
        changes["engine"] = Engine.model_validate(site.engine.model_dump() | without)
    return site.model_copy(update={**changes, "hosts": hosts, "member": name})


def of_gateway(site: Site) -> Site:
    """The site as the host that browsers reach needs it."""
    name = next(name for name, host in site.hosts.items() if "gateway" in host.groups)
    return of_host(site, name)


def endpoint(release: Release, site: Site, service: str) -> str:
    """`host:port` at which the site's own host finds a service of the release."""
    if service in services(release, site):
        return f"{service}:{OWN_PORTS[service]}"
    return f"{_host_of(site, service).address}:{PORTS[service]}"


def published(release: Release, site: Site) -> dict[str, int]:
    """The services here that other hosts ask, and the port of this host where each does listen."""
    mine = services(release, site)
    return {
        name: PORTS[name]
        for name in mine
        if any(asker in release.services and asker not in mine for asker in ASKED_BY.get(name, ()))
    }


def reaching(release: Release, site: Site) -> dict[str, tuple[str, ...]]:
    """The services here that ask others elsewhere, and which."""
    mine = services(release, site)
    found = {
        name: tuple(
            asked
            for asked, askers in ASKED_BY.items()
            if name in askers and asked in release.services and asked not in mine
        )
        for name in mine
    }
    return {name: asked for name, asked in found.items() if asked}


def peers(release: Release, site: Site) -> list[dict[str, object]]:
    """Where the services here may go: addresses of other hosts, each with its TCP ports."""
    ports: dict[str, set[int]] = {}
    for asked in reaching(release, site).values():
        for name in asked:
            ports.setdefault(_host_of(site, name).address, set()).add(PORTS[name])
    return [{"address": key, "ports": sorted(ports[key])} for key in sorted(ports)]


def askers(release: Release, site: Site) -> list[str]:
    """The addresses of the hosts that ask the services here, sorted."""
    asking = {asker for name in published(release, site) for asker in ASKED_BY[name]}
    mine = services(release, site)
    away = {name for name in asking & set(release.services) if name not in mine}
    return sorted(
        {
            host.address
            for host in site.hosts.values()
            if any(GROUP_OF[name] in host.groups for name in away)
        }
    )


def _host_of(site: Site, service: str) -> Host:
    """The one host of a service; `require_placed` sees to it that there is one."""
    return next(host for host in site.hosts.values() if GROUP_OF[service] in host.groups)


def stages(site: Site) -> list[list[str]]:
    """The names of the hosts in the order of their start; those of one list start together."""
    last = {name: max(map(ORDER.index, _serving(host.groups))) for name, host in site.hosts.items()}
    return [
        sorted(name for name in site.hosts if last[name] == key) for key in sorted({*last.values()})
    ]


def _serving(groups: Iterable[Group]) -> list[Group]:
    return [group for group in groups if group != "monitoring"] or ["monitoring"]


def require_placed(release: Release, site: Site) -> None:
    """Raise `BadUsage` unless every service has exactly one host and every host a service."""
    needed = {GROUP_OF[name] for name in release.services if name in GROUP_OF}
    for group in ORDER:
        having = sorted(name for name, host in site.hosts.items() if group in host.groups)
        if group in needed and len(having) != 1:
            facts = f"it is on {', '.join(having)}" if having else "no host is in it"
            raise _misplaced(f"the group {group!r} needs exactly one host", facts)
    for name, host in sorted(site.hosts.items()):
        if not needed.intersection(host.groups):
            groups = ", ".join(host.groups)
            raise _misplaced(
                f"the host {name!r} would run nothing", f"no service of {release.profile}: {groups}"
            )


def _misplaced(message: str, facts: str) -> BadUsage:
    return BadUsage(
        "hosts-misplaced",
        message,
        context=facts,
        hint="correct [hosts] in the site file, then: ./aibox install --inventory FILE",
        fault=Fault.YOU,
    )
