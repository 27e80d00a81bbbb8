"""Run pip inside an environment and watch how far it is."""

from __future__ import annotations

import contextlib
import os
import re
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from child import running
from pip_failures import explain
from progress import Progress
from wanted import Wanted

LOCKED_PACKAGE = re.compile(r"^[A-Za-z0-9][\w.-]*==", re.MULTILINE)


def install(wanted: Wanted, progress: Progress, guard: int) -> str:
    """Install exactly what the lock pins, wheels only, every one checked against its hashes.

    `guard` is the descriptor of the held lock file. Everything pip says goes to `pip.log`.
    Returns a summary for people. Raises `Refused`.
    """
    environment = wanted.environment
    downloads = environment / "downloads"
    downloads.mkdir()
    watch = _Watch(wanted, downloads)
    with (
        (environment / "pip.log").open("w", encoding="utf-8") as log,
        running(
            _command(wanted),
            output=subprocess.PIPE,
            guard=guard,
            environment=_surroundings(wanted, downloads),
        ) as pip,
    ):
        for line in _lines(pip, lambda: progress.update(*watch.status())):
            log.write(line + "\n")
            watch.see(line)
    if pip.returncode != 0:
        raise explain(watch.lines, wanted)
    return watch.summary()


def _command(wanted: Wanted) -> list[str | Path]:
    # -I: neither PYTHON* variables nor the folder one stands in decide what pip imports.
    pip: list[str | Path] = [wanted.environment / "bin" / "python", "-I", "-m", "pip"]
    rules = ["--require-hashes", "--only-binary", ":all:", "--retries", "3"]
    quiet = ["--no-input", "--no-color", "--progress-bar", "off", "--disable-pip-version-check"]
    source = ("--no-index", "--find-links", wanted.wheels) if wanted.wheels else ()
    return [*pip, "install", *rules, *quiet, *source, "-r", wanted.lock]


def _surroundings(wanted: Wanted, downloads: Path) -> dict[str, str]:
    kept = dict(os.environ)
    if wanted.wheels:
        # No setting of this machine adds a source of packages, or takes one away.
        kept = {name: value for name, value in kept.items() if not name.startswith("PIP_")}
        kept["PIP_CONFIG_FILE"] = os.devnull
    # A user's pip.conf may set these for other purposes; each would send packages elsewhere.
    elsewhere = {"PIP_TARGET": "", "PIP_PREFIX": "", "PIP_ROOT": "", "PIP_USER": "0"}
    return {**kept, **elsewhere, "TMPDIR": str(downloads)}


def _lines(process: subprocess.Popen[bytes], on_wait: Callable[[], None]) -> Iterator[str]:
    """What the process prints, line by line, calling `on_wait` at least twice a second."""
    assert process.stdout is not None
    pending = b""
    while True:
        on_wait()
        if not select.select([process.stdout], [], [], 0.5)[0]:
            continue
        block = os.read(process.stdout.fileno(), 1 << 16)
        if not block:
            break
        *whole, pending = (pending + block).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
    if pending:
        yield pending.decode(errors="replace")


class _Watch:
    """Where pip stands, read from its lines and from the folder that it downloads into."""

    def __init__(self, wanted: Wanted, downloads: Path) -> None:
        self.lines: list[str] = []
        self._installed = 0
        self._most_bytes = 0
        self._downloads = downloads
        self._total = len(LOCKED_PACKAGE.findall(wanted.lock.read_text(encoding="utf-8")))
        self._found = 0
        self._doing = "reading the bundle" if wanted.wheels else "asking the package index"

    def see(self, line: str) -> None:
        self.lines.append(line)
        words = line.split()
        match words[:1]:
            case ["Ignoring"]:
                self._total -= 1
            case ["Collecting" | "Processing"]:
                self._found += 1
                self._doing = "fetching"
            case ["Installing"]:
                self._doing = "installing"
            case ["Successfully"]:
                self._installed = len(words) - 2
        if "Retrying (" in line:
            self._doing = "the package index does not answer, trying again"

    def status(self) -> tuple[str, str]:
        """What pip does, and how much of it is done."""
        self._most_bytes = max(self._most_bytes, _bytes_below(self._downloads))
        return self._doing, f"{self._found} of {self._total} packages{self._fetched()}"

    def summary(self) -> str:
        """What was done."""
        return f"{self._installed} packages{self._fetched()}"

    def _fetched(self) -> str:
        """Nothing is, where the packages lie at hand."""
        return f", {self._most_bytes / 1e6:.1f} MB" if self._most_bytes else ""


def _bytes_below(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # pip moves and removes files meanwhile; one that is gone counts as nothing.
            with contextlib.suppress(OSError):
                total += (Path(parent) / name).stat().st_size
    return total
