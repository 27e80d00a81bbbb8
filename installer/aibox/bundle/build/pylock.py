"""Python packages out of a PEP 751 lock: which builds are ours, without any address. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from itertools import product
from typing import Any

from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

from aibox import objects
from aibox.errors import Failed, Fault
from aibox.lock import Wheel, WheelFile

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The interpreters of CPython that a release runs on."""
ARCHITECTURES = ("x86_64", "aarch64")
"""The machines that a release runs on."""

_GLIBC = re.compile(r"manylinux_([0-9]+)_([0-9]+)_")
_ABIS = {"abi3": 1, "none": 2}
_OLD_TAGS = {"manylinux2014_": (2, 17), "manylinux2010_": (2, 12), "manylinux1_": (2, 5)}


def parse(text: str) -> tuple[Wheel, ...]:
    """Packages and their supported builds; licence and owner are not known from here.

    Raises `Failed` for a package without a build for Linux.
    """
    packages = [item for item in tomllib.loads(text)["packages"] if _needed(item)]
    return tuple(_wheel(package) for package in packages)


def _needed(package: dict[str, Any]) -> bool:
    """Whether any supported interpreter on Linux needs it (markers of other systems drop it)."""
    if "marker" not in package:
        return True
    marker = Marker(package["marker"])
    linux = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
    return any(
        marker.evaluate({**linux, "python_version": version, "python_full_version": f"{version}.9"})
        for version in PYTHONS
    )


def _wheel(package: dict[str, Any]) -> Wheel:
    files = [
        WheelFile(
            filename=item.get("name") or item["url"].rsplit("/", 1)[-1],
            size=item["size"],
            sha256=item["hashes"]["sha256"],
        )
        for item in package.get("wheels", ())
    ]
    supported = _supported(files)
    if not supported:
        raise Failed(
            "package-without-wheel",
            f"{package['name']} {package['version']} has no wheel for Linux, only a source",
            hint="choose a version that has one, then: ./aibox lock",
            fault=Fault.UPSTREAM,
        )
    return Wheel(
        name=canonicalize_name(package["name"]),
        version=package["version"],
        licence="unknown",
        owner="unknown",
        files=supported,
    )


def _supported(files: Iterable[WheelFile]) -> tuple[WheelFile, ...]:
    """One build for each interpreter and machine that has any, sorted by name.

    A box takes the build that it ranks first of those in the lock, so none is there in vain.
    """
    offered = list(files)
    chosen = set()
    for python, machine in product(PYTHONS, ARCHITECTURES):
        fitting = [file for file in offered if objects.fits(file.filename, (python,), (machine,))]
        if fitting:
            chosen.add(min(fitting, key=_preference))
    return tuple(sorted(chosen, key=lambda file: file.filename))


def _preference(file: WheelFile) -> tuple[int, int, tuple[int, int], str]:
    """The least is best: made for the interpreter, the newest stable ABI, the oldest C library."""
    tags = parse_wheel_filename(file.filename)[3]
    abi, minor = min((_ABIS.get(tag.abi, 0), -int(tag.interpreter[3:] or 0)) for tag in tags)
    return abi, minor, min(_libc(tag.platform) for tag in tags), file.filename


def _libc(platform: str) -> tuple[int, int]:
    """The C library (glibc) that a platform tag asks for (PEP 600 and the tags before it)."""
    found = _GLIBC.match(platform)
    if found:
        return int(found[1]), int(found[2])
    return next((v for name, v in _OLD_TAGS.items() if platform.startswith(name)), (0, 0))
