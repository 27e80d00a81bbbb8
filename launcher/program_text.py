"""Reading program.txt, which names every file of a program (written by aibox.bundle.program)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from refusal import NOT_WHAT_IT_SHOULD_BE, Refused

FIRST_LINE = "aibox-program 1"
_FILE = re.compile(
    r"file (?P<mode>644|755) (?P<sha256>[0-9a-f]{64}) (?P<size>\d{1,12}) (?P<path>.+)"
)
_OTHER = re.compile(r"(python|interpreter) .+")
_PATH = re.compile(r"[^/\\\x00-\x1f]+(/[^/\\\x00-\x1f]+)*")


@dataclass(frozen=True)
class ProgramFile:
    """A file below the folder of the program; `size` in bytes, its blob is named by `sha256`."""

    path: str
    mode: int
    sha256: str
    size: int


def parse(text: bytes) -> tuple[ProgramFile, ...]:
    """Every file, in the order of the text. Raises `Refused` for anything unexpected."""
    first, *lines = text.decode("utf-8", "replace").removesuffix("\n").split("\n")
    if first != FIRST_LINE:
        raise _invalid(first)
    files = tuple(_file(line) for line in lines if not _OTHER.fullmatch(line))
    if len({file.path for file in files}) < len(files):
        raise _invalid("a path that is named twice")
    return files


def _file(line: str) -> ProgramFile:
    found = _FILE.fullmatch(line)
    if not found or not _PATH.fullmatch(found["path"]) or _leads_out(found["path"]):
        raise _invalid(line)
    return ProgramFile(found["path"], int(found["mode"], 8), found["sha256"], int(found["size"]))


def _leads_out(path: str) -> bool:
    return bool({".", ".."} & set(path.split("/")))


def _invalid(what: str) -> Refused:
    return Refused(
        "program-text-invalid",
        "program.txt in the bundle is not one that this version can read",
        fault="an upstream tool",
        hint="use the ./aibox of the same bundle; see which it is: ls -l program.txt aibox",
        context=ascii(what[:200]),
        exit_code=NOT_WHAT_IT_SHOULD_BE,
    )
