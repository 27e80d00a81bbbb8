"""What a wheel holds, and which wheels are refused.

A wheel is only ever unpacked, never run, so the danger is in what its files would do once they
are importable: a `.pth` or `sitecustomize` file runs at every start of Python without being
imported (how a hijacked LiteLLM release stole credentials in 2026), and a module named like one
of the standard library takes its place.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from aibox.errors import AiboxError, Fault, VerificationRefused

RUN_AT_START = frozenset({"sitecustomize", "usercustomize"})
# Schemes of a `.data` folder whose files belong among the packages; the rest is not installed.
_IMPORTABLE = frozenset({"purelib", "platlib"})
_OTHER = frozenset({"scripts", "data", "headers"})
_BOOKKEEPING = frozenset({"RECORD", "RECORD.jws", "RECORD.p7s"})


@dataclass(frozen=True, slots=True)
class Content:
    """One file as its wheel records it: size in bytes and sha256, 64 hex digits."""

    size: int
    sha256: str


def contents(wheel: Path) -> dict[str, Content]:
    """The files that installing this wheel must leave, by path below the packages folder.

    Raises `VerificationRefused` for anything that is not a wheel, a file its RECORD does not
    name (or names without sha256), a path that leaves the folder, and names that run by themselves.
    """
    try:
        parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            recorded = _read_record(archive, names)
    except InvalidWheelFilename as error:
        raise refused(wheel.name, "it is not a wheel; only wheels are installed") from error
    except (OSError, zipfile.BadZipFile, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise refused(wheel.name, f"it cannot be read as a wheel: {error}") from error
    problem = problem_of(names, recorded)
    if problem:
        raise refused(wheel.name, problem)
    return {
        place: content for name, content in recorded.items() if (place := _place(name)) is not None
    }


def merged(wheels: Iterable[Path]) -> dict[str, Content]:
    """The files of many wheels together; raises `VerificationRefused` when two disagree."""
    together: dict[str, Content] = {}
    for wheel in wheels:
        for path, content in contents(wheel).items():
            if together.setdefault(path, content) != content:
                raise refused(wheel.name, f"another wheel holds a different {path}")
    return together


def problem_of(names: Sequence[str], recorded: Mapping[str, Content]) -> str:
    """Why a wheel with these files is refused, or an empty string. Pure."""
    if len(set(names)) != len(names):
        return "it holds a file twice"
    held = {name for name in names if not _is_bookkeeping(name)}
    if different := held ^ set(recorded):
        return f"its RECORD and its files differ: {min(different)}"
    return next((text for name in sorted(names) if (text := _name_problem(name))), "")


def refused(what: str, why: str) -> AiboxError:
    """The refusal of a wheel."""
    return VerificationRefused(
        "wheel-refused",
        f"{what} is refused: {why}",
        hint="pin another version of the package, then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def _name_problem(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        return f"a path leaves its folder: {name}"
    place = _place(name)
    if place is None:
        return "" if path.parts[1] in _OTHER else f"it has a folder of unknown purpose: {name}"
    if place.endswith(".pth"):
        return f"{name} would run at every start of Python"
    module = PurePosixPath(place).parts[0].partition(".")[0]
    if module in RUN_AT_START:
        return f"{name} would run at every start of Python"
    if module in sys.stdlib_module_names:
        return f"{name} would take the place of a standard module"
    return ""


def _place(name: str) -> str | None:
    """Where a file of the archive is installed; None for scripts, manual pages and headers."""
    first, *rest = PurePosixPath(name).parts
    if not rest or not first.endswith(".data"):
        return name
    if len(rest) > 1 and rest[0] in _IMPORTABLE:
        return "/".join(rest[1:])
    return None


def _read_record(archive: zipfile.ZipFile, names: Sequence[str]) -> dict[str, Content]:
    records = [name for name in names if _is_bookkeeping(name) and name.endswith("/RECORD")]
    if len(records) != 1:
        raise ValueError(f"it holds {len(records)} RECORD files")
    rows = csv.reader(io.StringIO(archive.read(records[0]).decode()))
    return {
        row[0]: Content(size=int(row[2]), sha256=_hex(row[1]))
        for row in rows
        if row and not _is_bookkeeping(row[0])
    }


def _is_bookkeeping(name: str) -> bool:
    """Whether it is the RECORD (or its signature), which cannot record itself."""
    folder, _, file = name.partition("/")
    return folder.endswith(".dist-info") and file in _BOOKKEEPING


def _hex(recorded: str) -> str:
    """`sha256=<urlsafe base64 without padding>` (binary distribution format) as hex digits."""
    algorithm, _, text = recorded.partition("=")
    if algorithm != "sha256":
        raise ValueError(f"a file is recorded without sha256: {recorded!r}")
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
    except binascii.Error as error:
        raise ValueError(f"a digest is malformed: {recorded!r}") from error
