"""Whether a driver compiles for a kernel: tried before a bundle leaves, not on site.

A driver that comes as source (DKMS) is compiled on the box, against the headers of its kernel.
The builder does the same in a root of the target's release, made of the bundle's packages alone
and cut off from every network.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Sequence
from pathlib import Path

from aibox import process
from aibox.bundle.build import deb_file, programs
from aibox.bundle.build.repository_files import Files, Repository
from aibox.bundle.manifest import Proof
from aibox.bundle.packages import dkms
from aibox.bundle.packages.targets import MACHINES
from aibox.errors import Failed, Fault
from aibox.pins import Package, PackageFormat, PackageSet
from aibox.progress import Progress, Report

STEP = "driver"
SCRIPT = Path(__file__).with_name("prove_driver.sh")
LIMIT_S = 3600.0
PROBE_S = 30.0
DOES_NOT_COMPILE = 10
LOG_LIMIT = 64 << 20

_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_TOOLS = ("debootstrap", "unshare", "chroot", "mount", "gpgv")
# The installed root against the packages that it is made of (3.4 for a driver on Debian 12).
_ROOM = 5
_NAMESPACES = ("unshare", "--mount", "--pid", "--net", "--fork", "--kill-child")


def modules(pins: PackageSet, files: Files) -> tuple[Package, ...]:
    """The packages of a set whose modules are compiled on the box, and those with their sources."""
    # Reading hundreds of control files takes seconds; only these can be meant.
    likely = [item for item in pins.packages if "dkms" in item.name and item.name != "dkms"]
    if pins.format is PackageFormat.RPM:
        return tuple(likely)
    by_name = {package.name: package for package in pins.packages}
    found: dict[str, Package] = {}
    for package in likely:
        control = deb_file.control(files(package.sha256))
        if dkms.is_module(control):
            named = [by_name[name] for name in dkms.source_packages(control) if name in by_name]
            found |= {item.name: item for item in (*named, package)}
    return tuple(found.values())


def prove_all(
    pins: PackageSet, repository: Repository, files: Files, report: Report
) -> tuple[Proof, ...]:
    """A proof for each kernel of a set that has modules to compile; none for other sets."""
    if not modules(pins, files):
        return ()
    return tuple(prove(pins, kernel, repository, files, report) for kernel in pins.kernels)


def prove(
    pins: PackageSet, kernel: str, repository: Repository, files: Files, report: Report
) -> Proof:
    """Compile the modules of a set for one kernel, from `repository` alone.

    Where this machine cannot, the proof says so and why. Raises `Failed`: `driver-does-not-compile`
    with the compiler's first error, `driver-not-tried` when the packages do not even install.
    """
    packages = modules(pins, files)
    names = ", ".join(f"{item.name} {item.version}" for item in packages)
    what = f"{names} compiles for the kernel {kernel} on {pins.target}"
    if reason := why_not(pins, repository):
        return Proof(what=what, proven=False, reason=f"not proven on this builder: {reason}")
    with programs.workspace("driver") as folder:
        repository.write(folder / "repository", files)
        report(Progress(STEP, f"compiling {names} for {kernel}"))
        paths = [path for item in packages for path in _paths(repository, item)]
        status, lines = _run(folder, repository, kernel, paths, report)
        if status == DOES_NOT_COMPILE:
            raise _does_not_compile(names, kernel, _log(folder / "root" / "make.log") or lines)
        if status:
            raise _not_tried(names, kernel, lines)
    return Proof(what=what, proven=True)


def _paths(repository: Repository, package: Package) -> list[str]:
    return [path for path, blob in repository.pool.items() if blob.sha256 == package.sha256]


def why_not(pins: PackageSet, repository: Repository) -> str:
    """Why this machine cannot compile for the set's target, or nothing."""
    if pins.format is PackageFormat.RPM:
        return "modules of rpm systems are compiled on none"
    own = MACHINES.get(platform.machine(), platform.machine())
    if pins.architecture != own:
        return f"it has the architecture {own}, the packages {pins.architecture}"
    if os.geteuid() != 0:
        return "installing packages into a root of their own wants root"
    lacking = [name for name in _TOOLS if shutil.which(name) is None]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    if not (_SCRIPTS / repository.suite).exists():
        return f"its debootstrap does not know {repository.suite}"
    return _no_namespaces() or _no_room(pins)


def _no_namespaces() -> str:
    done = process.run([*_NAMESPACES, "true"], environment=process.environment(), timeout_s=PROBE_S)
    return f"it makes no namespaces ({' '.join(done.lines[-1:])})" if done.status else ""


def _no_room(pins: PackageSet) -> str:
    needed = _ROOM * sum(package.size for package in pins.packages)
    with programs.workspace("room") as folder:
        free = shutil.disk_usage(folder).free
    return f"{needed} bytes of temporary room are needed, {free} free" if free < needed else ""


def _run(
    folder: Path, repository: Repository, kernel: str, packages: Sequence[str], report: Report
) -> tuple[int, tuple[str, ...]]:
    done, lines = programs.spoken(
        [
            *(*_NAMESPACES, "sh", SCRIPT, folder / "repository", folder / "root"),
            *(repository.suite, repository.architecture, kernel),
            *(str(len(os.sched_getaffinity(0))), *packages),
        ],
        environment=process.environment(),
        timeout_s=LIMIT_S,
        report=report,
        step=STEP,
        what=f"kernel {kernel}",
    )
    return done.status, lines


def _log(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            return stream.read(LOG_LIMIT).decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def _does_not_compile(names: str, kernel: str, log: Sequence[str]) -> Failed:
    return Failed(
        "driver-does-not-compile",
        f"{names} does not compile for the kernel {kernel}; nothing was bundled",
        context=dkms.first_error(log)[:400],
        hint="wish for another version of the driver or another kernel in the profile (the box "
        "must run that kernel), then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def _not_tried(names: str, kernel: str, lines: Sequence[str]) -> Failed:
    return Failed(
        "driver-not-tried",
        f"the packages do not install into an empty root, so {names} could not be compiled "
        f"for {kernel}",
        context="; ".join(lines[-3:])[:400],
        hint="resolve the packages anew and build again: ./aibox lock",
        fault=Fault.UPSTREAM,
    )
