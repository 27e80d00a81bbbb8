"""A package repository as files, whatever its format: metadata made here, packages as blobs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from aibox.errors import BadUsage, Fault
from aibox.pins import Blob, PackageFormat, PackageSet

STEP = "repository"
KEYRING = "aibox-packages.gpg"
KEYRING_ASCII = "aibox-packages.asc"
REPORT_EVERY = 100

Files = Callable[[str], Path]


@dataclass(frozen=True)
class Repository:
    """Paths below its folder: `metadata` with their bytes, `pool` with the blobs they are.

    `suite` is the codename of a Debian or Ubuntu release, and empty for rpm.
    """

    name: str
    format: PackageFormat
    suite: str
    architecture: str
    metadata: Mapping[str, bytes]
    pool: Mapping[str, Blob]

    def write(self, folder: Path, files: Files) -> None:
        """Lay it out below a folder that is empty or absent; packages are linked, or copied."""
        for path, data in self.metadata.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for path, blob in self.pool.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(files(blob.sha256), target)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def pool_paths(pins: PackageSet) -> dict[str, str]:
    """Where each package lies, by its digest: its file's own name, all in one folder."""
    paths = {item.sha256: f"pool/{PurePosixPath(item.path).name}" for item in pins.packages}
    taken = list(paths.values())
    twice = sorted({path for path in taken if taken.count(path) > 1})
    if twice:
        raise BadUsage(
            "packages-same-name",
            f"two packages of {pins.name} have the same file name",
            context=twice[0],
            hint="take one of them out of the lock, then: ./aibox lock --check",
            fault=Fault.YOU,
        )
    return paths


def pool_blobs(pins: PackageSet, paths: Mapping[str, str]) -> dict[str, Blob]:
    """The blob at every path of the pool."""
    return {paths[item.sha256]: Blob(sha256=item.sha256, size=item.size) for item in pins.packages}
