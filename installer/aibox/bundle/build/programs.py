"""Starting the tools of the packager's machine: present or a clear word, and never silent."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from aibox import process
from aibox.errors import Failed, Fault
from aibox.process import Completed
from aibox.progress import Progress, Report

HEARTBEAT_S = 4.0
PROXIES = ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy")
CERTIFICATES = "SSL_CERT_FILE"


def require(programs: Mapping[str, str], again: str) -> None:
    """Refuse (`tool-missing`) unless every program is there; values are their Debian packages."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        packages = " ".join(sorted({programs[name] for name in missing}))
        raise Failed(
            "tool-missing",
            f"this machine lacks {', '.join(missing)}",
            context="only the packager's machine needs it",
            hint=f"install it (Debian and Ubuntu: apt-get install {packages}), then: {again}",
            fault=Fault.HOST,
        )


def network_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """An environment with this machine's proxies and certificates, by apt's names for them."""
    found = {name: os.environ.get(name) or os.environ.get(name.upper()) for name in PROXIES}
    kept = {name: value for name, value in found.items() if value}
    return process.environment({**kept, **extra}, keep=(CERTIFICATES,))


def spoken(
    argv: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    report: Report,
    step: str,
    what: str,
) -> tuple[Completed, tuple[str, ...]]:
    """Run a program and say what it does at least every `HEARTBEAT_S`; returns all its lines."""
    voice = _Voice(report, step, what)
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        voice.heard(line)

    done = process.run(
        argv, environment=environment, timeout_s=timeout_s, on_line=on_line, on_tick=voice.tick
    )
    return done, tuple(lines)


class _Voice:
    """Passes a program's last line on once in a while, and the seconds when it says nothing."""

    def __init__(self, report: Report, step: str, what: str) -> None:
        self._report, self._step, self._what = report, step, what
        self._started = self._told = time.monotonic()
        self._last = ""

    def heard(self, line: str) -> None:
        self._last = line

    def tick(self) -> None:
        now = time.monotonic()
        if now - self._told >= HEARTBEAT_S:
            self._told = now
            said = f"{self._what}: {now - self._started:.0f} s"
            self._report(
                Progress(self._step, f"{said}: {self._last[:120]}" if self._last else said)
            )


@contextmanager
def workspace(prefix: str) -> Iterator[Path]:
    """A folder of its own, removed at the end; TMPDIR says on which disk."""
    with TemporaryDirectory(prefix=f"aibox-{prefix}-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # apt downloads as a user of its own, which has to get through here.
        folder.chmod(0o755)
        yield folder
