"""The program as it is packed: the tracked files of the checkout that the packager runs from.

Git names them, so that nothing that merely lies there gets into a bundle, and tells which are
executable, whatever umask and file system the packager has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from aibox import process
from aibox.bundle.program import Files
from aibox.content import Content, belongs_to_program
from aibox.errors import Failed, Fault

_LIMIT_S = 60
_TRACKED = re.compile(r"(?P<mode>100644|100755) [0-9a-f]+ 0\t(?P<path>[^\"].*)")


def program_files(content: Content) -> Files:
    """Path -> (bytes, whether it is executable) of every file of the program.

    Raises:
        Failed: `not-a-checkout`; `checkout-unusable` when a file is not a plain one or is gone.
    """
    lines = [line for line in _tracked(content) if belongs_to_program(line.partition("\t")[2])]
    return dict(_read(content, line) for line in lines)


def _tracked(content: Content) -> Iterable[str]:
    lines: list[str] = []
    # The owner of a checkout may be somebody else, for example when root packs it.
    settings = ("-c", f"safe.directory={content.root}", "-c", "core.quotePath=false")
    done = process.run(
        ("git", *settings, "-C", content.root, "ls-files", "--stage"),
        environment=process.environment(),
        timeout_s=_LIMIT_S,
        on_line=lines.append,
    )
    if done.status != 0:
        raise Failed(
            "not-a-checkout",
            "only a Git checkout can be packed: Git tells which files belong to the program",
            context=done.text,
            hint="clone the project, and there: ./aibox bundle build",
            fault=Fault.YOU,
        )
    return lines


def _read(content: Content, line: str) -> tuple[str, tuple[bytes, bool]]:
    found = _TRACKED.fullmatch(line)
    path = content.root / line.partition("\t")[2]
    if not found or path.is_symlink() or not path.is_file():
        raise Failed(
            "checkout-unusable",
            "a tracked file of the program is gone, in conflict or not a plain file",
            context=line,
            hint="see what is wrong with it: git status, then: ./aibox bundle build",
            fault=Fault.YOU,
        )
    return found["path"], (path.read_bytes(), found["mode"] == "100755")
