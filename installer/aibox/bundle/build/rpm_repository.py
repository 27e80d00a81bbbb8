"""A dnf repository of locked packages, made by createrepo_c and signed by the packager's key."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

from aibox import process
from aibox.bundle.build import programs
from aibox.bundle.build.package_key import AGAIN, PackageKey
from aibox.bundle.build.repository_files import (
    KEYRING_ASCII,
    STEP,
    Files,
    Repository,
    pool_blobs,
    pool_paths,
)
from aibox.errors import Failed, Fault
from aibox.pins import PackageSet
from aibox.progress import Progress, Report

LIMIT_S = 3600.0
_INDEX = "repodata/repomd.xml"


def make(
    pins: PackageSet, files: Files, key: PackageKey, date: datetime.date, report: Report
) -> Repository:
    """The repository of a resolved set; see `repository.make`."""
    programs.require({"createrepo_c": "createrepo-c"}, AGAIN)
    pool = pool_paths(pins)
    moment = int(datetime.datetime.combine(date, datetime.time(), datetime.UTC).timestamp())
    with programs.workspace("rpm") as folder:
        for number, (sha256, path) in enumerate(sorted(pool.items()), 1):
            report(Progress(STEP, f"{pins.name}: package {number} of {len(pool)}"))
            _copy(files(sha256), folder / path, moment)
        _create(pins, folder, moment, report)
        metadata = {
            f"repodata/{path.name}": path.read_bytes()
            for path in sorted((folder / "repodata").iterdir())
        }
    metadata[f"{_INDEX}.asc"] = key.sign(metadata[_INDEX], date, inline=False)
    metadata[KEYRING_ASCII] = key.armoured
    return Repository(
        pins.name, pins.format, "", pins.architecture, metadata, pool_blobs(pins, pool)
    )


def _copy(source: Path, target: Path, moment: int) -> None:
    # A copy: the metadata records the time of the file, and a link would share the cache's.
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
    os.utime(target, (moment, moment))


def _create(pins: PackageSet, folder: Path, moment: int, report: Report) -> None:
    options = (
        *("--no-database", "--simple-md-filenames", "--checksum", "sha256"),
        *("--general-compress-type", "gz"),
        *("--revision", str(moment), "--set-timestamp-to-revision"),
    )
    done, lines = programs.spoken(
        ["createrepo_c", *options, folder],
        environment=process.environment(),
        timeout_s=LIMIT_S,
        report=report,
        step=STEP,
        what=f"{pins.name}: index",
    )
    if done.status:
        raise Failed(
            "repository-not-made",
            f"createrepo_c could not make the repository of {pins.name}",
            context="; ".join(lines[-3:])[:400],
            hint="resolve the packages anew and build again: ./aibox lock",
            fault=Fault.UPSTREAM,
        )
