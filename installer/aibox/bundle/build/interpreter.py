"""The Python that a bundle brings for hosts whose own is too old, as a tar of files alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from aibox.bundle.build import deb_file
from aibox.bundle.build.repository_files import Files
from aibox.bundle.packages import python_folder
from aibox.bundle.packages.python_folder import Entry
from aibox.pins import PackageSet
from aibox.progress import Progress, Report

STEP = "interpreter"


def make(pins: PackageSet, files: Files, output: Path, report: Report) -> None:
    """Write the tar of a relocatable Python to `output`; `pins` resolve `python_folder.wish`.

    Regular files alone, sorted, without owner and time: the same packages give the same bytes. It
    may be unpacked anywhere; `bin/python3` starts it.

    Raises `VerificationRefused` (`deb-damaged`) for packages with members that have no business in
    it, `Failed` (`interpreter-incomplete`) when a library lacks.
    """
    taken: dict[str, bytes] = {}
    for number, package in enumerate(pins.packages, 1):
        what = f"{pins.name}: {package.name}, package {number} of {len(pins.packages)}"
        report(Progress(STEP, what))
        taken |= _taken(files(package.sha256))
    write_tar(python_folder.assemble(taken, pins.architecture), output)


def _taken(path: Path) -> dict[str, bytes]:
    """The files of one package that have a place in the folder, by that place."""
    found = {}
    for member, read in deb_file.members(path):
        inside = member.name.removeprefix("./")
        place = python_folder.place(inside)
        if place is None or member.issym() or member.isdir():
            continue
        if reason := deb_file.hazard(member):
            raise deb_file.damaged(path, f"{inside[:200]}: {reason}")
        found[place] = read()
    return found


def write_tar(folder: Mapping[str, Entry], output: Path) -> None:
    """An uncompressed tar of the files, made byte by byte from their paths and contents."""
    with tarfile.open(output, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path, entry in sorted(folder.items()):
            member = tarfile.TarInfo(path)
            member.size = len(entry.data)
            member.mode = 0o755 if entry.executable else 0o644
            archive.addfile(member, io.BytesIO(entry.data))
