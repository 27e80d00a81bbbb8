"""The files of locked packages, from wherever this packager has their archives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request
from aibox.bundle.build.download import fetch as download
from aibox.bundle.packages import targets
from aibox.bundle.packages.mirrors import COMMAND, Mirrors
from aibox.errors import BadUsage, Fault
from aibox.pins import Package, PackageSet
from aibox.progress import Meter, Report

STEP = "packages"
_LOCAL = ("file:", "copy:")


def fetch(pins: PackageSet, cache: BlobCache, mirrors: Mirrors, report: Report) -> None:
    """Bring the files of the packages into the cache, each checked by its digest.

    Raises `BadUsage` (`archive-address-unknown`), and whatever `download.fetch` and the cache do.
    """
    archives = mirrors.archives(targets.target(pins.target), pins.architecture)
    addresses = {archive.label: archive.address.rstrip("/") for archive in archives}
    for package in pins.packages:
        if package.archive not in addresses:
            raise _no_address(package, pins)
    local = [item for item in pins.packages if addresses[item.archive].startswith(_LOCAL)]
    _adopt(local, addresses, cache, report)
    remote = [item for item in pins.packages if not addresses[item.archive].startswith(_LOCAL)]
    download([_request(item, addresses) for item in remote], cache, report, step=STEP)


def _adopt(
    packages: list[Package], addresses: Mapping[str, str], cache: BlobCache, report: Report
) -> None:
    meter = Meter(STEP, "local archives", sum(package.size for package in packages), report)
    for package in packages:
        folder = Path(unquote(urlsplit(addresses[package.archive]).path))
        cache.adopt(folder / package.path, package.sha256, package.size, meter.add)


def _request(package: Package, addresses: Mapping[str, str]) -> Request:
    address = f"{addresses[package.archive]}/{quote(package.path)}"
    what = f"{package.name} {package.version}"
    return Request(address, package.sha256, package.size, what)


def _no_address(package: Package, pins: PackageSet) -> BadUsage:
    return BadUsage(
        "archive-address-unknown",
        f"nobody says where the archive {package.archive!r} of {pins.target} is to be had",
        context=f"{package.name} {package.version} comes from it",
        hint=f"write an entry with this label into a mirrors file, then: {COMMAND}",
        fault=Fault.YOU,
    )
