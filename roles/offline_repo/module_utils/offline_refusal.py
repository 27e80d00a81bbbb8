"""What the modules of this role refuse, and how they run a program."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "APT_LISTCHANGES_FRONTEND": "none",
    "APT_LISTBUGS_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "UCF_FORCE_CONFFOLD": "1",
}
"""English messages that can be read, and nobody is asked anything. A service that a library update
wants to restart is the owner's to restart: needrestart stays quiet."""

_SHOWN_LINES = 6


class Refused(Exception):
    """Something a person has to see to: what is wrong, its cause, and a command to type."""

    def __init__(self, what: str, *, cause: str = "", fix: str) -> None:
        super().__init__("".join((what, f" ({cause})" if cause else "", f"; {fix}")))


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit status and the lines of both streams."""

    status: int
    lines: tuple[str, ...]

    @property
    def complaint(self) -> str:
        """The lines that say what went wrong, else the last ones; short enough for a message."""
        wrong = [line for line in self.lines if line.startswith(("E:", "Error:", "dpkg: error"))]
        return " | ".join((wrong or list(self.lines))[-_SHOWN_LINES:])[:800]


def run(argv: Sequence[str]) -> Ended:
    """Run a program to its end with nobody to ask; a program that is not there is status 127."""
    inherited = {name: os.environ[name] for name in ("HOME", "TMPDIR", "TZ") if name in os.environ}
    environment = {"PATH": _path(), **inherited, **ENVIRONMENT}
    try:
        done = subprocess.run(
            list(argv),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except FileNotFoundError as error:
        return Ended(127, (f"E: {error.filename} is not installed",))
    return Ended(done.returncode, tuple(done.stdout.decode(errors="replace").splitlines()))


def _path() -> str:
    """dpkg refuses to work without the folders of administration in PATH."""
    standard = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
    inherited = os.environ.get("PATH", "").split(os.pathsep)
    return os.pathsep.join([*filter(None, inherited), *(p for p in standard if p not in inherited)])
