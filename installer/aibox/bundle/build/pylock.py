"""Python packages out of a PEP 751 lock: which builds are ours, without any address. Pure."""

from __future__ import annotations

import tomllib
from typing import Any

from packaging.markers import Marker
from packaging.utils import canonicalize_name, parse_wheel_filename

from aibox.errors import Failed, Fault
from aibox.lock import Wheel, WheelFile

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
"""The interpreters of CPython that a release runs on."""
ARCHITECTURES = ("x86_64", "aarch64")
"""The machines that a release runs on."""


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
    supported = tuple(sorted(filter(_supported, files), key=lambda file: file.filename))
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


def _supported(file: WheelFile) -> bool:
    return any(
        _tag_fits(t.interpreter, t.abi, t.platform) for t in parse_wheel_filename(file.filename)[3]
    )


def _tag_fits(interpreter: str, abi: str, platform: str) -> bool:
    linux = platform.startswith(("manylinux", "linux")) and platform.endswith(ARCHITECTURES)
    if platform != "any" and not linux:
        return False
    ours = {"cp" + version.replace(".", "") for version in PYTHONS}
    if abi == "none":
        return interpreter in {"py3", *ours}
    if abi == "abi3":
        return interpreter.startswith("cp3") and int(interpreter[3:] or 0) <= 14
    return interpreter in ours and abi == interpreter
