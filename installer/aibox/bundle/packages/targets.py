"""The releases that packages are resolved for, and what is known of them without a network."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aibox.errors import BadUsage, Fault
from aibox.pins import PackageFormat, Redistribution

KEYRINGS = "/usr/share/keyrings"


@dataclass(frozen=True)
class Distribution:
    """A family of releases on one archive.

    `components` are all that its archive has; what is in one of `free` anybody may hand on.
    `machines` translates names of architectures as Python and profiles know them.
    """

    name: str
    components: tuple[str, ...]
    free: tuple[str, ...]
    codenames: tuple[str, ...]

    @property
    def keyring(self) -> str:
        """Where its keyring package keeps the keys that sign its archive."""
        return f"{KEYRINGS}/{self.name}-archive-keyring.gpg"

    @property
    def keyring_package(self) -> str:
        return f"{self.name}-keyring" if self.name == "ubuntu" else f"{self.name}-archive-keyring"


@dataclass(frozen=True)
class Target:
    """A release: `archives` are (label, suites); `base` is what every installed system has."""

    name: str
    format: PackageFormat
    codename: str = ""
    distribution: Distribution | None = None
    archives: tuple[tuple[str, tuple[str, ...]], ...] = ()
    base: tuple[str, ...] = ()


DEBIAN = Distribution(
    "debian",
    ("main", "contrib", "non-free", "non-free-firmware"),
    ("main", "contrib"),
    (
        *("bullseye", "bookworm", "trixie", "forky", "duke", "sid"),
        *("oldstable", "stable", "testing", "unstable"),
    ),
)
UBUNTU = Distribution(
    "ubuntu",
    ("main", "restricted", "universe", "multiverse"),
    ("main", "universe"),
    ("focal", "jammy", "noble", "plucky", "questing", "resolute", "devel"),
)
DISTRIBUTIONS = (DEBIAN, UBUNTU)
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
POCKETS = ("", "updates", "security")
"""What a system in service takes packages from: the release, its corrections, its security."""

_SUITE = re.compile(r"(?P<codename>[a-z]+)(?:[-/](?P<pocket>[a-z-]+))?")
_RPM = re.compile(r"(rhel|rocky|almalinux|centos|fedora)-[0-9][0-9.]*")


def pocket_of(suite: str, distribution: Distribution) -> str | None:
    """Which pocket of the distribution a suite is (`bookworm-security`: `security`), or None."""
    match = _SUITE.fullmatch(suite.removesuffix("/"))
    if match is None or match["codename"] not in distribution.codenames:
        return None
    pocket = match["pocket"] or ""
    return pocket if pocket in POCKETS else None


def label_of(distribution: Distribution, pocket: str) -> str:
    """The label of the archive that holds a pocket."""
    return f"{distribution.name}-security" if pocket == "security" else distribution.name


def _deb(name: str, distribution: Distribution, codename: str, *base: str) -> Target:
    release = (distribution.name, (codename, f"{codename}-updates"))
    security = (label_of(distribution, "security"), (f"{codename}-security",))
    return Target(name, PackageFormat.DEB, codename, distribution, (release, security), base)


# What the installer of the distribution puts on every system besides its essential packages.
# Without `usr-is-merged` the solver would take `usrmerge`, which converts old systems.
TARGETS = {
    target.name: target
    for target in (
        _deb("debian-12", DEBIAN, "bookworm", "apt", "mount", "usr-is-merged"),
        _deb("debian-13", DEBIAN, "trixie", "apt", "mount"),
        _deb("ubuntu-22.04", UBUNTU, "jammy", "apt", "mount"),
        _deb("ubuntu-24.04", UBUNTU, "noble", "apt", "mount"),
    )
}


def target(name: str) -> Target:
    """The release of that name; raises `BadUsage` (`target-unknown`)."""
    if name in TARGETS:
        return TARGETS[name]
    if _RPM.fullmatch(name):
        return Target(name, PackageFormat.RPM)
    raise BadUsage(
        "target-unknown",
        f"packages cannot be resolved for a system named {name!r}",
        context=f"known: {', '.join(TARGETS)}, and rpm systems such as rhel-9, rocky-9, fedora-42",
        hint="correct the target in the profile, then: ./aibox lock",
        fault=Fault.YOU,
    )


def release_version(name: str) -> str:
    """What dnf calls `releasever`: the part behind the dash."""
    return name.partition("-")[2]


def redistribution(paths: tuple[str, ...], distribution: Distribution) -> Redistribution:
    """Who may hand packages on, by the component in their paths: `pool/<component>/…`."""
    components = {_component(path) for path in paths}
    if components <= set(distribution.free):
        return Redistribution.ALLOW
    return Redistribution.OPERATOR_ONLY


def _component(path: str) -> str:
    parts = path.split("/")[1:]
    # The archive of security updates has its pool one level deeper.
    return parts[1] if parts[:1] == ["updates"] and len(parts) > 1 else (parts or [""])[0]
