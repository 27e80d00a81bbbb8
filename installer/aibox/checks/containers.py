"""Docker and its way to the GPUs: CDI, and how the engines' containers are made.

| check | what people run into |
|---|---|
| docker and gpus | too old for CDI (§2.6); 29.5 refuses some registries' images (25) |
| gpu devices | Docker sees none; by the runtime instead of CDI they vanish after a reload (6) |
| cdi specification | files or devices in it are gone, or of another driver (17) |
| order at boot | Docker started before the specification was made (18) |
| container toolkit | its parts differ; before 1.20 compatibility libraries are in the way (1) |
| NAME shared memory | 64 MiB for several GPUs (11) |
| NAME open files | too few (30) |
| NAME devices | by the runtime, or a slice chosen by the environment (6, 22) |
"""

from __future__ import annotations

from collections.abc import Iterator

from aibox.checks import texts
from aibox.checks.evidence import Evidence, Source, bad, doubtful, good, graded
from aibox.checks.texts import Container, Docker
from aibox.hardware import version
from aibox.preflight import Finding, Status

GENERATE = "make it anew: nvidia-ctk cdi generate --output=/var/run/cdi/nvidia.yaml"
AGAIN = "let an installation set it up: ./aibox install"
FIRST_WITH_CDI = (26, 1)
FIRST_TOOLKIT = (1, 20)
LEAST_SHARED = 1 << 30
LEAST_FILES = 65535
_TOOLKIT = (
    *("nvidia-container-toolkit", "nvidia-container-toolkit-base"),
    *("libnvidia-container-tools", "libnvidia-container1"),
)
_REFRESH = "nvidia-cdi-refresh.service"


def examine(evidence: Evidence) -> Iterator[Finding]:
    """Every finding about containers; none while there is no Docker that answers."""
    yield from _toolkit(evidence)
    yield from _specification(evidence)
    yield from _order(evidence)
    if Source.DOCKER in evidence.said:
        docker = texts.docker(evidence.text(Source.DOCKER))
        yield from _docker(evidence, docker)
        yield from _devices(evidence, docker)
    for container in texts.containers(evidence.text(Source.CONTAINERS)):
        yield from _container(container)


def _docker(evidence: Evidence, docker: Docker) -> Iterator[Finding]:
    numbers, expected = version(docker.version), "26.1 or newer"
    if not numbers:
        return
    if numbers < FIRST_WITH_CDI:
        yield graded(evidence.severe, "docker and gpus", docker.version, expected, fix=AGAIN)
    elif numbers[:2] == (29, 5):
        fix = (
            "where an image is refused as of incorrect format, use another version: ./aibox install"
        )
        yield doubtful("docker and gpus", docker.version, f"{expected}, not 29.5", fix=fix)
    else:
        yield good("docker and gpus", docker.version, expected)


def _devices(evidence: Evidence, docker: Docker) -> Iterator[Finding]:
    gpus = [one for one in docker.cdi_devices if one.startswith("nvidia.com/gpu=")]
    expected = "GPUs known to Docker by CDI"
    if docker.default_runtime == "nvidia" and docker.cgroup_driver == "systemd":
        found = "the default runtime is nvidia: its GPUs vanish after systemctl daemon-reload"
        yield doubtful("gpu devices", found, expected, fix=AGAIN)
    elif gpus:
        yield good("gpu devices", ", ".join(gpus[:3]), expected)
    elif evidence.machine.driver:
        yield graded(evidence.severe, "gpu devices", "none", expected, fix=AGAIN)


def _specification(evidence: Evidence) -> Iterator[Finding]:
    text, driver = evidence.text(Source.CDI), evidence.machine.driver
    if not text or not driver:
        return
    others = sorted(texts.cdi_drivers(text) - {driver})
    expected = f"every path there, of driver {driver}"
    if evidence.lost:
        found = f"{len(evidence.lost)} of its paths are gone: {', '.join(evidence.lost[:3])}"
        yield bad("cdi specification", found, expected, fix=GENERATE)
    elif others:
        found = f"made for driver {', '.join(others)}"
        yield bad("cdi specification", found, expected, fix=GENERATE)
    else:
        yield good("cdi specification", f"{len(texts.cdi_paths(text))} paths", expected)


def _order(evidence: Evidence) -> Iterator[Finding]:
    known = texts.units(evidence.text(Source.UNITS))
    if not {"docker.service", _REFRESH} <= set(known):
        return
    started = _microseconds(known["docker.service"], "ActiveEnterTimestampMonotonic")
    made = _microseconds(known[_REFRESH], "ExecMainExitTimestampMonotonic")
    after = known["docker.service"].get("After", "").split()
    expected = "the specification is made before Docker starts"
    if _REFRESH in after or not started or started >= made:
        yield good("order at boot", "as expected", expected)
    else:
        found = f"Docker started {(made - started) / 1e6:.1f} s before it was made"
        fix = "restart the box now, and let an installation order them: ./aibox install"
        yield doubtful("order at boot", found, expected, fix=fix)


def _microseconds(unit: dict[str, str], name: str) -> int:
    value = unit.get(name, "")
    return int(value) if value.isdecimal() else 0


def _toolkit(evidence: Evidence) -> Iterator[Finding]:
    parts = {
        one.name: one.version.partition("-")[0]
        for one in texts.packages(evidence.text(Source.PACKAGES))
        if one.name in _TOOLKIT
    }
    if not parts:
        return
    told, expected = ", ".join(sorted(set(parts.values()))), "1.20 or newer, all parts alike"
    if len(set(parts.values())) > 1:
        yield bad("container toolkit", told, expected, fix=AGAIN)
    elif version(told) < FIRST_TOOLKIT and version(evidence.machine.driver) >= (580,):
        found = f"{told}: CUDA may find an image's own driver library (Error 803)"
        yield doubtful("container toolkit", found, expected, fix=AGAIN)
    else:
        yield good("container toolkit", told, expected)


def _container(container: Container) -> Iterator[Finding]:
    drivers = {driver for driver, _ in container.devices}
    gpus = sum(len(devices) for _, devices in container.devices)
    if not drivers:
        return
    yield _shared(container, gpus)
    if container.open_files is not None and container.open_files < LEAST_FILES:
        found = f"{container.open_files} at most"
        yield doubtful(f"{container.name} open files", found, f"{LEAST_FILES}", fix=AGAIN)
    if drivers != {"cdi"}:
        found = f"by {', '.join(sorted(drivers)) or 'the runtime'}"
        expected = "by CDI, which survives systemctl daemon-reload"
        yield doubtful(f"{container.name} devices", found, expected, fix=AGAIN)
    if container.visible.startswith("MIG-"):
        found = "a slice (MIG) is chosen by CUDA_VISIBLE_DEVICES"
        yield bad(f"{container.name} devices", found, "chosen by CDI alone", fix=AGAIN)


def _shared(container: Container, gpus: int) -> Finding:
    least = LEAST_SHARED * max(gpus, 1) if gpus > 1 else 0
    found, expected = f"{container.shared_memory >> 20} MiB", f"{least >> 20} MiB or more"
    status = Status.VETO if container.shared_memory < least else Status.OK
    return graded(status, f"{container.name} shared memory", found, expected, fix=AGAIN)
