"""Operating-system packages of any format: resolved and fetched by the tools of their target."""

from __future__ import annotations

from aibox.bundle.build import archive_files, debian, rpm
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.packages import python_folder, targets
from aibox.bundle.packages.mirrors import Mirrors
from aibox.pins import PackageFormat, PackageSet
from aibox.profile import PackagesWish
from aibox.progress import Report


def resolve(wish: PackagesWish, machine: str, mirrors: Mirrors, report: Report) -> PackageSet:
    """The closure of a wish; `machine` is `x86_64` or `aarch64`, the set has its own name for it.

    A set of the bundled Python has no base system: nothing of it is installed. Raises what
    `debian.resolve` and `rpm.resolve` raise.
    """
    if targets.target(wish.target).format is PackageFormat.RPM:
        return rpm.resolve(wish, machine, mirrors, report)
    architecture = targets.MACHINES.get(machine, machine)
    base = wish.wanted != python_folder.WANTED
    return debian.resolve(wish, architecture, mirrors, report, base=base)


def fetch(pins: PackageSet, cache: BlobCache, mirrors: Mirrors, report: Report) -> None:
    """Bring a set's files into the cache, checked by digest and, where only they are signed,
    by the packages' own signatures."""
    if pins.format is PackageFormat.RPM:
        rpm.fetch(pins, cache, mirrors, report)
    else:
        archive_files.fetch(pins, cache, mirrors, report)
