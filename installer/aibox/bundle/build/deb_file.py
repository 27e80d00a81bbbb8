"""Reading a .deb through dpkg-deb, which knows every compression that Debian and Ubuntu use.

Only files whose digest is locked get here. Even so their members are not believed: whoever takes
files out of one goes through `files`, which refuses what has no business below a folder.
"""

from __future__ import annotations

import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from aibox import process
from aibox.bundle.packages import copyright as copyrights
from aibox.bundle.packages.control import Paragraph, paragraphs
from aibox.errors import Fault, VerificationRefused
from aibox.pins import PackageSet
from aibox.progress import Progress, Report

STEP = "packages"
CONTROL_S = 60.0
MEMBERS_LIMIT = 1_000_000
MEMBER_LIMIT = 2 << 30
"""Bytes of one file of a package that are read at the most."""

_DOCUMENTS = "usr/share/doc/"


def control_text(path: Path) -> str:
    """The control file, without trailing blanks; raises `VerificationRefused` (`deb-damaged`)."""
    lines: list[str] = []
    done = process.run(
        ["dpkg-deb", "--field", path],
        environment=process.environment(),
        timeout_s=CONTROL_S,
        on_line=lines.append,
    )
    if done.status or not lines:
        raise damaged(path, done.lines[-1] if done.lines else "it has no control file")
    return "\n".join(lines)


def control(path: Path) -> Paragraph:
    """The fields of the control file."""
    return next(paragraphs(control_text(path).splitlines()))


def hazard(member: tarfile.TarInfo) -> str:
    """Why a member must not be taken out of a package by a program that is root, or nothing."""
    name = member.name.removeprefix("./")
    if name.startswith("/") or ".." in name.split("/"):
        return "its path leaves the folder"
    if member.issym() and _leaves(name, member.linkname):
        return f"it points out of the folder, to {member.linkname}"
    if member.mode & (stat.S_ISUID | stat.S_ISGID) and member.isfile():
        return "it runs with somebody else's rights (setuid)"
    if not (member.isfile() or member.isdir() or member.issym()):
        return "it is neither file, folder nor symbolic link"
    return ""


def _leaves(name: str, target: str) -> bool:
    depth = name.count("/")
    if target.startswith("/"):
        return True
    for part in target.split("/"):
        depth += {"..": -1, "": 0, ".": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


Reader = Callable[[], bytes]


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, Reader]]:
    """Everything in a package's file system, in order; a reader gives the bytes of a file.

    Readers are good until the next member. Raises `VerificationRefused` (`deb-damaged`) for an
    archive that ends early or has absurdly many or large members.
    """
    with _file_system(path) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for number, member in enumerate(archive):
                    if number >= MEMBERS_LIMIT or member.size > MEMBER_LIMIT:
                        raise damaged(path, f"{member.name[:80]!r} is beyond all limits")
                    yield member, _reader(archive, member)
        except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
            raise damaged(path, str(error)) from error


def _reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Reader:
    def read() -> bytes:
        stream = archive.extractfile(member)
        return b"" if stream is None else stream.read()

    return read


@contextmanager
def _file_system(path: Path) -> Iterator[IO[bytes]]:
    """The unpacked data member as a stream; dpkg-deb's own complaint becomes ours."""
    command = ["dpkg-deb", "--fsys-tarfile", str(path)]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=process.environment(),
    ) as child:
        if child.stdout is None or child.stderr is None:
            raise AssertionError("started without pipes")
        try:
            yield child.stdout
            while child.stdout.read(1 << 20):
                pass
        except BaseException:
            child.kill()
            raise
        complaint = child.stderr.read(4096).decode("utf-8", "replace").strip()
        if child.wait():
            raise damaged(path, complaint)


def damaged(path: Path, facts: str) -> VerificationRefused:
    """A package file that is not one, or that holds what a package must not hold."""
    return VerificationRefused(
        "deb-damaged",
        f"{path.name} is not a package that can be used",
        context=facts[:300],
        hint="take another version of the package, then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def licences(pins: PackageSet, files: Callable[[str], Path], report: Report) -> dict[str, str]:
    """The licence of every package by its SHA-256, from the packages' own copyright files.

    `files` gives the path of a digest. Packages of one source share a documentation folder by
    link: such a link is followed to the package it names.
    """
    found: dict[str, str] = {}
    links: dict[str, str] = {}
    by_name: dict[str, str] = {}
    for number, package in enumerate(pins.packages, 1):
        what = f"{pins.name}: licence of {package.name}, {number} of {len(pins.packages)}"
        report(Progress(STEP, what))
        text, link = _copyright(files(package.sha256), package.name)
        found[package.sha256] = by_name[package.name] = copyrights.licence_of(text)
        if link:
            links[package.sha256] = link
    return {sha256: by_name.get(links.get(sha256, ""), text) for sha256, text in found.items()}


def _copyright(path: Path, name: str) -> tuple[str, str]:
    """The text of a package's copyright file, or the package whose folder it refers to."""
    for member, read in members(path):
        inside = member.name.removeprefix("./")
        if inside == f"{_DOCUMENTS}{name}" and member.issym():
            return "", member.linkname.rstrip("/").rpartition("/")[2]
        if inside == f"{_DOCUMENTS}{name}/copyright":
            if member.issym():
                return "", member.linkname.rpartition("/")[0].rpartition("/")[2]
            if member.isfile() and member.size <= copyrights.LIMIT:
                return read().decode("utf-8", "replace"), ""
    return "", ""
