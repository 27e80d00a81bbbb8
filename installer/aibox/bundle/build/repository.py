"""The repository of a set of locked packages, in the format of its target."""

from __future__ import annotations

import datetime

from aibox.bundle.build import deb_repository, rpm_repository
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.build.repository_files import Files, Repository
from aibox.pins import PackageFormat, PackageSet
from aibox.progress import Report


def make(
    pins: PackageSet, files: Files, key: PackageKey, date: datetime.date, report: Report
) -> Repository:
    """The repository of a resolved set, signed by `key`; `files` gives the path of each digest.

    Its bytes depend on the set, the key and `date` alone. Raises `VerificationRefused`
    (`deb-damaged`, `deb-other`) for packages that are not what the lock says, `BadUsage`
    (`packages-same-name`), `Failed` (`tool-missing`).
    """
    if pins.format is PackageFormat.RPM:
        return rpm_repository.make(pins, files, key, date, report)
    return deb_repository.make(pins, files, key, date, report)
