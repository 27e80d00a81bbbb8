"""An apt repository of locked packages, so that a box installs them with its own tools.

It looks like an archive of the distribution (`dists/…`, `pool/…`), is signed by the packager's key
and names every package by its digest. Its bytes depend on the lock, the key and the date alone.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping

from aibox import digest
from aibox.bundle.build import deb_file
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.build.repository_files import (
    KEYRING,
    REPORT_EVERY,
    STEP,
    Files,
    Repository,
    pool_blobs,
    pool_paths,
)
from aibox.bundle.packages import control, targets
from aibox.errors import Fault, VerificationRefused
from aibox.pins import Package, PackageSet
from aibox.progress import Progress, Report

COMPONENT = "main"


def make(
    pins: PackageSet, files: Files, key: PackageKey, date: datetime.date, report: Report
) -> Repository:
    """The apt repository of a resolved set; `files` gives the path of each package's digest.

    Raises `VerificationRefused` (`deb-damaged`, `deb-other`) for packages that are not what the
    lock says, `BadUsage` (`packages-same-name`) for two that would have one path.
    """
    target = targets.target(pins.target)
    pool = pool_paths(pins)
    index = _index(pins, files, pool, report)
    binary = f"{COMPONENT}/binary-{pins.architecture}"
    parts = {
        f"{binary}/Packages": index,
        f"{binary}/Release": _component(target.codename, pins.architecture).encode(),
    }
    release = release_text(target.codename, pins, date, parts).encode()
    base = f"dists/{target.codename}"
    metadata = {
        **{f"{base}/{path}": data for path, data in parts.items()},
        f"{base}/Release": release,
        f"{base}/InRelease": key.sign(release, date, inline=True),
        f"{base}/Release.gpg": key.sign(release, date, inline=False),
        KEYRING: key.public,
    }
    return Repository(
        pins.name, pins.format, target.codename, pins.architecture, metadata, pool_blobs(pins, pool)
    )


def _index(pins: PackageSet, files: Files, pool: Mapping[str, str], report: Report) -> bytes:
    entries = []
    for number, package in enumerate(pins.packages):
        if number % REPORT_EVERY == 0:
            what = f"{pins.name}: package {number + 1} of {len(pins.packages)}"
            report(Progress(STEP, what))
        text = deb_file.control_text(files(package.sha256))
        entries.append(index_entry(package, text, pool[package.sha256]))
    # Every paragraph ends with an empty line, the last too: debootstrap drops it otherwise.
    return "".join(f"{entry}\n" for entry in sorted(entries)).encode()


def index_entry(package: Package, text: str, path: str) -> str:
    """A paragraph of `Packages`: the package's own control fields, and where its file is.

    Raises `VerificationRefused` (`deb-other`) when it is another package than the lock says.
    """
    fields = next(control.paragraphs(text.splitlines()), control.Paragraph(()))
    found = tuple(fields.get(name) for name in ("Package", "Version", "Architecture"))
    if found != (package.name, package.version, package.architecture):
        raise VerificationRefused(
            "deb-other",
            f"a file that the lock calls {package.name} {package.version} is another package",
            context=f"it says of itself: {' '.join(found)}",
            hint="resolve the packages anew and review the difference: ./aibox lock",
            fault=Fault.UPSTREAM,
        )
    return (
        text.rstrip("\n")
        + "\n"
        + control.written({"Filename": path, "Size": str(package.size), "SHA256": package.sha256})
    )


def _component(codename: str, architecture: str) -> str:
    return control.written(
        {
            "Archive": codename,
            "Component": COMPONENT,
            "Origin": "aibox",
            "Label": "aibox",
            "Architecture": architecture,
        }
    )


def release_text(
    codename: str, pins: PackageSet, date: datetime.date, parts: Mapping[str, bytes]
) -> str:
    """The Release file. It does not expire: a box keeps its repository for as long as it runs."""
    midnight = datetime.datetime.combine(date, datetime.time(), datetime.UTC)
    head = control.written(
        {
            "Origin": "aibox",
            "Label": f"aibox {pins.name}",
            "Suite": codename,
            "Codename": codename,
            "Date": format_date(midnight),
            "Architectures": pins.architecture,
            "Components": COMPONENT,
            "Description": f"packages of {pins.name} for {pins.target}",
        }
    )
    sums = [f" {digest.of_bytes(data)} {len(data)} {path}" for path, data in sorted(parts.items())]
    return "\n".join([head + "SHA256:", *sums, ""])


def format_date(moment: datetime.datetime) -> str:
    """As RFC 2822 writes it, by the names of no locale."""
    days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    months = (
        *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
        *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
    )
    day, month = days[moment.weekday()], months[moment.month - 1]
    return f"{day}, {moment:%d} {month} {moment:%Y %H:%M:%S} UTC"
