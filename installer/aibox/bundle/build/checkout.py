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
from aibox.process import Completed

_LIMIT_S = 60
_TRACKED = re.compile(r"(?P<mode>100644|100755) [0-9a-f]+ 0\t(?P<path>[^\"].*)")


def program_files(content: Content) -> Files:
    """Path -> (bytes, whether it is executable) of every file of the program.

    Raises:
        Failed: `not-a-checkout`; `checkout-unusable` when a file is not a plain one or is gone.
    """
    lines = [line for line in _tracked(content) if belongs_to_program(line.partition("\t")[2])]
    return dict(_read(content, line) for line in lines)


def uncommitted(content: Content) -> tuple[str, ...]:
    """Paths of the program's files that are packed otherwise than they were last committed.

    That is allowed, the lock is reviewed and the program is signed as it is; but nobody could make
    the same bundle out of the commit.
    """
    done, lines = _git(content, "diff", "--name-only", "--relative", "HEAD")
    if done.status != 0:
        return ("everything: the checkout has no commit",)
    return tuple(path for path in lines if belongs_to_program(path))


def _tracked(content: Content) -> Iterable[str]:
    done, lines = _git(content, "ls-files", "--stage")
    if done.status != 0:
        raise Failed(
            "not-a-checkout",
            "only a Git checkout can be packed: Git tells which files belong to the program",
            context=done.text,
            hint="clone the project, and there: ./aibox bundle build",
            fault=Fault.YOU,
        )
    return lines


def _git(content: Content, *words: str) -> tuple[Completed, list[str]]:
    lines: list[str] = []
    # The owner of a checkout may be somebody else, for example when root packs it.
    settings = ("-c", f"safe.directory={content.root}", "-c", "core.quotePath=false")
    done = process.run(
        ("git", "--no-optional-locks", *settings, "-C", content.root, *words),
        environment=process.environment(),
        timeout_s=_LIMIT_S,
        on_line=lines.append,
    )
    return done, lines


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
