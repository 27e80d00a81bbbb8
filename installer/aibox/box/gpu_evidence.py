"""Gathers what the checks of GPUs look at. Asks, and changes nothing, not even by asking:

nvidia-smi loads a driver that is not loaded, and a question to Docker's socket may start Docker;
so the one is asked only where the driver is loaded, the other only where Docker runs. A program
that does not answer in time is a sentence in the evidence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aibox import process
from aibox.checks import texts
from aibox.checks.evidence import Evidence, Image, Source
from aibox.errors import Failed
from aibox.hardware import Hardware, Machine
from aibox.serving import ENGINES

ROOT = Path("/")
TIMEOUT_S = 15.0
KEPT_LINES = 20_000
LOG_LINES = "400"
PROJECT = "com.docker.compose.project=aibox"
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
_CDI = ("var/run/cdi/nvidia.yaml", "etc/cdi/nvidia.yaml", "etc/cdi/nvidia.json")
_FILES = {
    Source.VERSION: "proc/driver/nvidia/version",
    Source.MODULES: "proc/modules",
    Source.COMMAND_LINE: "proc/cmdline",
    Source.HMM: "sys/module/nvidia_uvm/parameters/uvm_disable_hmm",
}
_ALWAYS: Mapping[Source, Sequence[str]] = {
    Source.MODULE: ("modinfo", "nvidia"),
    Source.KERNEL_LOG: ("dmesg",),
    Source.PACKAGES: (
        *("dpkg-query", "--show"),
        "--showformat=${db:Status-Abbrev}\\t${Package}\\t${Version}\\n",
        *("*nvidia*", "linux-image-*", "linux-modules-*", "linux-headers-*"),
    ),
    Source.DKMS: ("dkms", "status"),
    Source.FABRIC_MANAGER: ("nv-fabricmanager", "--version"),
}
# Hosts without dpkg: the same three columns; what is held there is another program's matter.
_RPM = (
    *("rpm", "--query", "--all", "--queryformat=ii \\t%{NAME}\\t%{VERSION}-%{RELEASE}\\n"),
    *("*nvidia*", "kernel-core"),
)
_JOURNAL = ("journalctl", "--dmesg", "--boot", "--no-pager", "--quiet")
_WITH_DRIVER: Mapping[Source, Sequence[str]] = {
    Source.CARDS: ("nvidia-smi", "-q"),
    Source.TOPOLOGY: ("nvidia-smi", "topo", "-m"),
    Source.LINKS: ("nvidia-smi", "nvlink", "--status"),
}
_UNITS = (
    *("docker.service", "nvidia-persistenced.service", "nvidia-fabricmanager.service"),
    *("nvidia-cdi-refresh.service", "unattended-upgrades.service", "apt-daily-upgrade.timer"),
    "dnf-automatic.timer",
)
_UNIT_FACTS = (
    "Id,LoadState,ActiveState,UnitFileState,After,"
    "ActiveEnterTimestampMonotonic,ExecMainExitTimestampMonotonic"
)
_LEFTOVERS = ("/usr/bin/nvidia-uninstall", "/var/log/nvidia-installer.log")
# A module that is not there, packages that are not there: an answer, not a refusal.
_NOTHING = ("not found", "no packages found", "no path found")


@dataclass(slots=True)
class _Heard:
    """What was said and what was refused, while it is gathered."""

    root: Path
    said: dict[Source, str] = field(default_factory=dict)
    refused: dict[Source, str] = field(default_factory=dict)

    def read(self, source: Source, name: str) -> None:
        try:
            self.said[source] = (self.root / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            self.refused[source] = error.strerror or str(error)

    def ask(self, source: Source, command: Sequence[str]) -> str:
        """Run a program where it is installed; its text, empty unless it answered."""
        if shutil.which(command[0], path=_path()) is None:
            return ""
        status, text = _run(command)
        if status == 0 or any(word in text.lower() for word in _NOTHING):
            self.said[source] = text
            return text
        last = text.strip().splitlines()[-1:] or [f"it ended with {status}"]
        self.refused[source] = last[0]
        return ""


def gather(
    machine: Machine,
    wanted: Hardware | None = None,
    images: Iterable[Image] = (),
    root: Path = ROOT,
) -> Evidence:
    """Look at everything; at nothing but the machine where there is no GPU.

    `root` stands for / (files only; programs are those of this host).
    """
    if not machine.gpus:
        return Evidence(machine, wanted)
    heard = _Heard(root)
    for source, name in _FILES.items():
        heard.read(source, name)
    for source, command in (*_ALWAYS.items(), *_of_driver(machine, heard).items()):
        heard.ask(source, command)
    if Source.PACKAGES not in heard.said:
        heard.ask(Source.PACKAGES, _RPM)
    if Source.KERNEL_LOG in heard.refused and heard.ask(Source.KERNEL_LOG, _JOURNAL):
        # Members of the group of the log may read what dmesg keeps for root.
        del heard.refused[Source.KERNEL_LOG]
    _units(heard)
    logs = _containers(heard)
    lost = _specification(heard)
    kernel = os.uname().release
    return Evidence(
        machine=machine,
        wanted=wanted,
        images=tuple(images),
        kernel=kernel,
        secure_boot=_secure_boot(root),
        iommu=any((root / "sys/class/iommu").glob("*")),
        said=heard.said,
        refused=heard.refused,
        existing=_existing(root, (*_LEFTOVERS, f"/lib/modules/{kernel}/build")),
        lost=lost,
        logs=logs,
    )


def _of_driver(machine: Machine, heard: _Heard) -> Mapping[Source, Sequence[str]]:
    """The questions to nvidia-smi: none without a driver, none when NVML already hung."""
    if not machine.driver:
        return {}
    hung = [one for one in machine.problems if "did not answer" in one]
    if hung:
        heard.refused[Source.CARDS] = hung[0]
        return {}
    return _WITH_DRIVER


def _units(heard: _Heard) -> None:
    """Each unit by itself: only then is it clear where the facts of one end."""
    if not (heard.root / "run/systemd/system").is_dir():
        return
    blocks = []
    for unit in _UNITS:
        status, text = _run(("systemctl", "show", unit, f"--property={_UNIT_FACTS}"))
        if status == 0:
            blocks.append(text)
        else:
            heard.refused[Source.UNITS] = text.strip().splitlines()[-1] if text.strip() else unit
    if blocks:
        heard.said[Source.UNITS] = "\n\n".join(blocks)


def _containers(heard: _Heard) -> dict[str, str]:
    """What Docker says of itself and of the engines' containers; the last lines of each."""
    if not (heard.root / "run/docker.pid").exists() or not heard.ask(
        Source.DOCKER, ("docker", "info")
    ):
        return {}
    status, text = _run(
        ("docker", "ps", "--all", "--filter", f"label={PROJECT}", "--format={{.Names}}")
    )
    engines = [name for name in text.split() if status == 0 and _is_engine(name)]
    if not engines:
        return {}
    heard.ask(Source.CONTAINERS, ("docker", "inspect", "--type=container", *engines))
    return {name: _run(("docker", "logs", "--tail", LOG_LINES, name))[1] for name in engines}


def _is_engine(name: str) -> bool:
    _, _, service = name.partition("-")
    return service.partition("-")[0] in ENGINES


def _specification(heard: _Heard) -> tuple[str, ...]:
    """Read the CDI specification; which of the paths in it are not there, or other devices."""
    for name in _CDI:
        heard.read(Source.CDI, name)
        if Source.CDI in heard.said:
            break
    text = heard.said.get(Source.CDI, "")
    gone = [
        one for one in texts.cdi_paths(text) if not os.path.lexists(heard.root / one.lstrip("/"))
    ]
    others = (
        f"{path} as {numbers[0]}:{numbers[1]}"
        for path, numbers in texts.cdi_numbers(text).items()
        if path not in gone and _numbers(heard.root / path.lstrip("/")) != numbers
    )
    return (*gone, *others)


def _numbers(path: Path) -> tuple[int, int]:
    device = path.stat().st_rdev
    return os.major(device), os.minor(device)


def _secure_boot(root: Path) -> bool | None:
    """Whether the firmware refuses what nobody signed; None where it does not say."""
    try:
        # Four bytes of attributes, then the value.
        return (root / _SECURE_BOOT).read_bytes()[4:5] == b"\x01"
    except OSError:
        return None


def _existing(root: Path, paths: Iterable[str]) -> frozenset[str]:
    return frozenset(one for one in paths if (root / one.lstrip("/")).exists())


def _run(command: Sequence[str]) -> tuple[int, str]:
    """Exit status and text of a program; a program that fails to end is a status of its own."""
    lines: list[str] = []

    def keep(line: str) -> None:
        if len(lines) < KEPT_LINES:
            lines.append(line)

    try:
        done = process.run(
            command,
            environment={**process.environment(), "PATH": _path()},
            timeout_s=TIMEOUT_S,
            on_line=keep,
        )
    except Failed as failure:
        return 1, failure.message
    return done.status, "\n".join(lines)


def _path() -> str:
    """Programs of administrators too: an ordinary user's PATH leaves them out."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
