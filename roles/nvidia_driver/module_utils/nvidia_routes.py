"""The ways to an NVIDIA driver: which packages a distribution has it in, as a table."""

from __future__ import annotations

import re
from dataclasses import dataclass

Alternatives = tuple[str, ...]


@dataclass(frozen=True)
class Wish:
    """What is known of a host, what its release asks for, and what the bundle carries."""

    system: str
    architecture: str
    kernel: str
    branch: int
    modules: str
    fabric: str = "none"
    floor: str = ""
    diagnosis: bool = False
    gpus: tuple[str, ...] = ()
    available: tuple[tuple[str, str], ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """The device half of every PCI identity."""
        return tuple(gpu.rpartition(":")[2].lower() for gpu in self.gpus)

    @property
    def rpm(self) -> bool:
        return not self.system.startswith(("ubuntu-", "debian-"))

    def version_of(self, name: str) -> str:
        """The driver's version that a package carries (`580.178.04`), or nothing."""
        return next((upstream(found) for known, found in self.available if known == name), "")

    def names(self) -> frozenset[str]:
        """All that may be asked of the bundle: names, and names with a version (`name=version`)."""
        full = {f"{name}={version.rpartition(':')[2]}" for name, version in self.available}
        return frozenset(full | {name for name, _ in self.available})


@dataclass(frozen=True)
class Route:
    """One way to a driver. `needs` are filled with the wish's values; of alternatives the first
    that the bundle carries is taken, in this order. `version_of` names what carries the version.
    """

    name: str
    systems: str
    modules: str
    needs: tuple[Alternatives, ...]
    version_of: Alternatives
    compiles: bool
    wanted: tuple[Alternatives, ...] = ()
    branches: tuple[int, int] = (0, 9999)


def upstream(version: str) -> str:
    """A package's version without epoch and revision: `3:580.65.06-1.el9` is `580.65.06`."""
    return version.rpartition(":")[2].partition("-")[0]


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare by."""
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


_HEADERS: Alternatives = ("linux-headers-{kernel}",)
_UBUNTU, _DEBIAN, _DEBS = r"ubuntu-.*", r"debian-.*", r"(ubuntu|debian)-.*"
_RPMS = r"(rhel|rocky|almalinux|centos)-[0-9]+"
_WITH_BRANCH, _WITHOUT_BRANCH = (0, 589), (590, 9999)
_CANONICAL_VERSION: Alternatives = ("nvidia-utils-{branch}-server",)
_PINNING: Alternatives = ("nvidia-driver-pinning-{version}", "nvidia-driver-pinning-{branch}")


def _canonical_user(suffix: str) -> tuple[Alternatives, ...]:
    return (
        (f"nvidia-headless-no-dkms-{{branch}}-server{suffix}",),
        _CANONICAL_VERSION,
        ("libnvidia-compute-{branch}-server",),
    )


def _canonical_signed(flavour: str, ready: tuple[Alternatives, ...], suffix: str) -> Route:
    """Modules that Canonical compiled and signed: no compiler, and Secure Boot lets them pass."""
    return Route(
        name=f"ubuntu-signed-{flavour}",
        systems=_UBUNTU,
        modules=flavour,
        needs=(*ready, *_canonical_user(suffix)),
        # Signatures lie in a package of their own, on x86-64 alone.
        wanted=(("linux-signatures-nvidia-{kernel}",),),
        version_of=_CANONICAL_VERSION,
        compiles=False,
    )


def _canonical_source(flavour: str, suffix: str) -> Route:
    return Route(
        name=f"ubuntu-dkms-{flavour}",
        systems=_UBUNTU,
        modules=flavour,
        needs=(
            *(_HEADERS, ("gcc",), ("make",), ("dkms",)),
            (f"nvidia-kernel-source-{{branch}}-server{suffix}",),
            (f"nvidia-dkms-{{branch}}-server{suffix}",),
            *_canonical_user(suffix),
        ),
        version_of=_CANONICAL_VERSION,
        compiles=True,
    )


def _nvidia_deb(name: str, flavour: str, *needs: Alternatives, branches: tuple[int, int]) -> Route:
    """NVIDIA's own packages; the last of `needs` carries the version."""
    return Route(
        name=name,
        systems=_DEBS,
        modules=flavour,
        needs=(_HEADERS, *needs),
        # Ubuntu 26.04 compresses its modules with it.
        wanted=(("zstd",),),
        version_of=needs[-1],
        compiles=True,
        branches=branches,
    )


def _debian_own(flavour: str, module: str) -> Route:
    return Route(
        name=f"debian-{flavour}",
        systems=_DEBIAN,
        modules=flavour,
        needs=(
            *(_HEADERS, (module,), ("firmware-nvidia-gsp",)),
            *(("nvidia-smi",), ("libcuda1",), ("nvidia-persistenced",)),
        ),
        version_of=(module,),
        compiles=True,
    )


def _rpm(name: str, flavour: str, *kernel: Alternatives, compiles: bool) -> Route:
    """NVIDIA's packages for RHEL and its kin. Their module streams are not enabled: the bundle's
    repository is read without them, and holds one driver.
    """
    user = ("nvidia-driver-cuda", "nvidia-driver-libs", "libnvidia-ml", "nvidia-persistenced")
    return Route(
        name=name,
        systems=_RPMS,
        modules=flavour,
        needs=(*kernel, *((package,) for package in user)),
        version_of=("nvidia-driver-cuda",),
        compiles=compiles,
    )


_RPM_COMPILER: tuple[Alternatives, ...] = (
    ("kernel-devel={kernel_version}",),
    ("kernel-headers={kernel_version}", "kernel-headers"),
    *(("gcc",), ("elfutils-libelf-devel",), ("dkms",)),
)

# In order of preference: ready and signed modules before sources to compile here.
ROUTES = (
    _canonical_signed("open", (("linux-modules-nvidia-{branch}-server-open-{kernel}",),), "-open"),
    _canonical_signed(
        "proprietary",
        (
            ("linux-objects-nvidia-{branch}-server-{kernel}",),
            ("linux-modules-nvidia-{branch}-server-{kernel}",),
        ),
        "",
    ),
    _canonical_source("open", "-open"),
    _canonical_source("proprietary", ""),
    _nvidia_deb(
        *("nvidia-open", "open"),
        ("nvidia-open-{branch}", "nvidia-driver-{branch}-open"),
        branches=_WITH_BRANCH,
    ),
    _nvidia_deb(
        "nvidia-proprietary", "proprietary", ("cuda-drivers-{branch}",), branches=_WITH_BRANCH
    ),
    _nvidia_deb("nvidia-pinned-open", "open", _PINNING, ("nvidia-open",), branches=_WITHOUT_BRANCH),
    _nvidia_deb(
        *("nvidia-pinned-open-compute", "open", _PINNING),
        *(("libnvidia-compute",), ("nvidia-dkms-open",)),
        branches=_WITHOUT_BRANCH,
    ),
    _nvidia_deb(
        *("nvidia-pinned-proprietary", "proprietary", _PINNING, ("cuda-drivers",)),
        branches=_WITHOUT_BRANCH,
    ),
    _debian_own("open", "nvidia-open-kernel-dkms"),
    _debian_own("proprietary", "nvidia-kernel-dkms"),
    _rpm(
        *("rpm-ready-open", "open", ("kmod-nvidia-open-{version}-{short_kernel}",)),
        compiles=False,
    ),
    _rpm(
        *("rpm-ready-proprietary", "proprietary", ("kmod-nvidia-{version}-{short_kernel}",)),
        compiles=False,
    ),
    _rpm(
        *("rpm-dkms-open", "open", *_RPM_COMPILER, ("kmod-nvidia-open-dkms",)),
        compiles=True,
    ),
    _rpm(
        *("rpm-dkms-proprietary", "proprietary", *_RPM_COMPILER, ("kmod-nvidia-latest-dkms",)),
        compiles=True,
    ),
)
