"""What Ansible does for a box of containers: judge its server, bring packages, units and rules.

Everything it needs lies in a sealed generation, so that it can be done again without the medium:
after a reboot, or when it was interrupted. It does not activate and it does not roll back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aibox import objects, placement, playbooks
from aibox import plan as plans
from aibox import release as releases
from aibox.box import host, prerequisites, resumption
from aibox.box.resumption import Resumption
from aibox.box.store import Store
from aibox.bundle import source
from aibox.bundle.packages import targets
from aibox.content import Content
from aibox.errors import BadUsage, Fault, NeedsPerson
from aibox.lock import Role
from aibox.pins import PackageSet
from aibox.plan import Plan
from aibox.preflight import Finding, ServerNeeds, Status, read_report, server_variables
from aibox.prerequisites import Prerequisites
from aibox.profile import PackageRole
from aibox.progress import Progress, Report
from aibox.record import Action
from aibox.release import Release
from aibox.render import render_system_units
from aibox.site import Site

REPORTING = (
    *("container_runtime", "nvidia_driver", "nvidia_container_toolkit", "cuda"),
    *("firewall", "hardening"),
)
"""The roles of `provision_server` that leave findings."""
STATE = "provision"
"""Where the roles write down what they brought, below the box root."""
DOCKER_ROOT = Path("/var/lib/docker")
# Packages and what they unpack to, beside images: Docker with all it needs is 400 MB.
SYSTEM_MIB = 1500
# An image is unpacked to about three times what it is packed.
UNPACKED = 3
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Reports:
    """Where the roles leave their findings, in the folder of one run."""

    folder: Path

    def variables(self) -> dict[str, str]:
        """The paths that the roles are given, by the names of their variables."""
        return {
            **{f"{role}_report": self._path(role, "report") for role in REPORTING},
            "nvidia_driver_outcome": self._path("nvidia_driver", "outcome"),
        }

    def _path(self, role: str, what: str) -> str:
        return str(self.folder / f"{role}.{what}.json")

    def read(self) -> tuple[Finding, ...]:
        """All of them, of the roles that left any."""
        files = sorted(self.folder.glob("*.report.json"))
        return tuple(finding for path in files for finding in read_report(path))

    def reasons_to_reboot(self) -> tuple[str, ...]:
        """Why the roles want a reboot; they never do it themselves."""
        outcomes = [json.loads(path.read_bytes()) for path in self.folder.glob("*.outcome.json")]
        return tuple(
            str(reason)
            for outcome in outcomes
            if outcome.get("reboot_required")
            for reason in outcome.get("reboot_reasons", ())
        )


def judge(
    store: Store, content: Content, release: Release, plan: Plan, report: Report, released: str = ""
) -> tuple[Finding, ...]:
    """Every finding about this host as a server for the plan; changes nothing.

    `released` is a date (YYYY-MM-DD) before which no clock can be right.
    """
    with playbooks.run_folder(store) as folder:
        asked = server_variables(
            release.requires,
            needs(placement.part(release, plan.site), plan.site, store.layout.root),
            root=store.layout.root,
            report=folder / "preflight.json",
            ports=() if store.current() else _ports(release, plan.site),
            released=released,
        )
        playbooks.run(content, "preflight_server", folder, asked, report)
        return read_report(folder / "preflight.json")


def _ports(release: Release, site: Site) -> tuple[int, ...]:
    """The ports at which this host will listen."""
    own = (site.container.port,) if "gateway" in placement.services(release, site) else ()
    return (*own, *sorted(placement.published(release, site).values()))


def needs(release: Release, site: Site, root: Path) -> ServerNeeds:
    """What the release asks of a server, beside what its profile requires of any host.

    `release` is the part that the server runs.
    """
    ours = [item for item in release.packages if item.name in release.package_roles]
    driver = _of(release, PackageRole.NVIDIA_DRIVER, ours)
    return ServerNeeds(
        distributions=tuple(sorted({item.target.replace("-", " ", 1) for item in ours})),
        kernels=tuple(sorted({kernel for item in driver for kernel in item.kernels})),
        driver="built" if driver else "none",
        disks={
            root: release.requires.disk_mib_min,
            DOCKER_ROOT: UNPACKED * _size_of_images(release) // MIB,
            Path("/var"): SYSTEM_MIB,
        },
        shared_memory_mib=max(
            (item.shared_memory_mib for item in release.serving.values()), default=0
        ),
        air_gapped=site.container.air_gapped,
    )


def _size_of_images(release: Release) -> int:
    """Bytes of all images, packed, a layer counted once."""
    machine = host.architecture()
    blobs = {
        blob.sha256: blob.size
        for image in release.images
        for blob in objects.platform(image, machine).layers
    }
    return sum(blobs.values())


def prepare(store: Store, content: Content, report: Report, lock: int) -> None:
    """Make the folders of the box, before anything is staged in it."""
    wanted = {"box_layout_root": str(store.layout.root)}
    with playbooks.run_folder(store) as folder:
        playbooks.run(content, "prepare_server", folder, wanted, report, lock)


def provide(
    store: Store, content: Content, number: int, action: Action, report: Report, lock: int
) -> None:
    """Bring the server to what a sealed generation needs. Safe to repeat.

    `lock` is the descriptor of the box's lock. Raises `NeedsPerson` (`reboot-needed`) when only a
    reboot brings what is missing: what waits for it is written down, and `rebooted` finds it.
    """
    whole = releases.parse(store.manifest(number))
    site = plans.stored_site(store.file(number, "plan.json"))
    made = placement.part(whole, site)
    with playbooks.run_folder(store) as folder:
        reports = Reports(folder)
        units = folder / "units"
        units.mkdir(mode=0o700)
        for name, text in _units(store, made).items():
            (units / name).write_bytes(text)
        wanted = {
            **_layout(store, number),
            **_packages(store, made, number),
            **_firewall(whole, site),
            **reports.variables(),
            "stack_units_source": str(units),
            "hardening_root": str(store.layout.root),
        }
        playbooks.run(content, "provision_server", folder, wanted, report, lock)
        findings, reasons = reports.read(), reports.reasons_to_reboot()
    for finding in findings:
        if finding.status is not Status.OK:
            report(Progress("provision", f"{finding.check}: {finding.found}; {finding.fix}"))
    if reasons:
        waiting = Resumption(generation=number, action=action, boot=store.boot, reasons=reasons)
        resumption.write(store.filesystem, store.layout.root, waiting)
        raise _reboot_needed(waiting)


def rebooted(store: Store) -> Resumption:
    """The installation that waited for this boot.

    Raises `BadUsage` when none waits, `NeedsPerson` when the reboot has not been.
    """
    waiting = resumption.read(store.layout.root)
    if waiting is None or waiting.generation not in store.generations():
        raise BadUsage(
            "nothing-to-resume",
            "no installation waits for a reboot",
            context=str(store.layout.root),
            hint="see what runs: ./aibox status",
            fault=Fault.YOU,
        )
    if waiting.boot == store.boot:
        raise _reboot_needed(waiting)
    return waiting


def _reboot_needed(waiting: Resumption) -> NeedsPerson:
    return NeedsPerson(
        "reboot-needed",
        "the installation goes on by itself after a reboot of the server, and not before",
        context="; ".join(waiting.reasons),
        hint="reboot it now: sudo systemctl reboot",
        fault=Fault.HOST,
    )


def remove(store: Store, content: Content, report: Report, lock: int, *, purge: bool) -> None:
    """Give the server back: units, rules, packages and users that the box brought."""
    number = store.current() or max(store.generations(), default=None)
    wanted = {
        **({} if number is None else _layout(store, number)),
        "box_layout_root": str(store.layout.root),
        "box_layout_purge": purge,
        "server_state": str(store.layout.root / STATE),
    }
    with playbooks.run_folder(store) as folder:
        playbooks.run(content, "remove_server", folder, wanted, report, lock)


def _firewall(whole: Release, site: Site) -> dict[str, object]:
    """Of the box's own networks alone: what else the host lets in and out is its owner's matter."""
    return {
        "firewall_mode": "enforce",
        "firewall_peers": placement.peers(whole, site),
        "firewall_published_ports": sorted(placement.published(whole, site).values()),
        "firewall_askers": placement.askers(whole, site),
    }


def _units(store: Store, made: Release) -> Mapping[str, bytes]:
    held = {
        item.sha256: source.opener(store.layout.blob(item.sha256))
        for item in made.of_role(Role.TEMPLATES)
    }
    return render_system_units(source.templates(made, held), str(store.layout.root))


def _layout(store: Store, number: int) -> dict[str, object]:
    wanted = prerequisites.read(store.layout.generation(number))
    return {
        "box_layout_root": str(store.layout.root),
        "box_layout_users": [
            {"name": f"aibox-{name}", "uid": uid} for name, uid in sorted(wanted.users.items())
        ],
        "box_layout_service_folders": _service_folders(wanted),
    }


def _service_folders(wanted: Prerequisites) -> list[dict[str, str]]:
    return [
        {"path": folder.path, "owner": f"aibox-{folder.user}"}
        for folder in sorted(wanted.folders, key=lambda one: one.path)
    ]


def _packages(store: Store, made: Release, number: int) -> dict[str, object]:
    """The repositories for this host, and what each role takes from its own."""
    here = host.operating_system()
    sets = [
        item
        for item in objects.packages(made, host.architecture())
        if item.target == here and item.name in made.package_roles
    ]
    runtime = _of(made, PackageRole.CONTAINER_RUNTIME, sets)
    driver = _of(made, PackageRole.NVIDIA_DRIVER, sets) if made.hardware else []
    toolkit = _of(made, PackageRole.NVIDIA_CONTAINER_TOOLKIT, sets)
    cuda = _of(made, PackageRole.CUDA, sets)
    return {
        "server_state": str(store.layout.root / STATE),
        "server_repositories": [
            {
                "name": item.name,
                "source": str(store.layout.tree(number) / objects.repository(item)),
                "format": item.format.value,
                "suite": targets.target(item.target).codename,
            }
            for item in sets
        ],
        "server_installs_driver": bool(driver),
        "server_installs_toolkit": bool(toolkit),
        "server_installs_cuda": bool(cuda),
        **(_container_runtime(runtime[0]) if runtime else {}),
        **(_driver(driver[0], made) if driver else {}),
        **(_toolkit(toolkit[0]) if toolkit else {}),
        **(_cuda(cuda[0]) if cuda else {}),
    }


def _container_runtime(item: PackageSet) -> dict[str, object]:
    compose = [name for name in item.wanted if name.startswith("docker-compose")]
    return {
        "container_runtime_repository": item.name,
        "container_runtime_format": item.format.value,
        "container_runtime_engine_packages": [n for n in item.wanted if n not in compose],
        "container_runtime_compose_packages": compose,
    }


def _driver(item: PackageSet, made: Release) -> dict[str, object]:
    hardware = made.hardware
    if hardware is None:
        return {}
    return {
        "nvidia_driver_repository": item.name,
        "nvidia_driver_format": item.format.value,
        "nvidia_driver_available": _versions(item),
        "nvidia_driver_branch": hardware.driver_branch,
        "nvidia_driver_modules": hardware.modules.value,
        "nvidia_driver_fabric": hardware.fabric.value,
        "nvidia_driver_floor": hardware.driver_min,
    }


def _toolkit(item: PackageSet) -> dict[str, object]:
    return {
        "nvidia_container_toolkit_repository": item.name,
        "nvidia_container_toolkit_format": item.format.value,
        "nvidia_container_toolkit_available": _versions(item),
        "nvidia_container_toolkit_packages": list(item.wanted),
    }


def _cuda(item: PackageSet) -> dict[str, object]:
    return {
        "cuda_repository": item.name,
        "cuda_format": item.format.value,
        "cuda_packages": list(item.wanted),
    }


def _versions(item: PackageSet) -> list[str]:
    return [f"{one.name}={one.version}" for one in item.packages]


def _of(made: Release, role: PackageRole, sets: Sequence[PackageSet]) -> list[PackageSet]:
    return [item for item in sets if made.package_roles.get(item.name) is role]
