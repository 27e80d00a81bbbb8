"""What preflight asks of a host, what it found there, and what follows: facts veto, never adapt.

The role `preflight` measures and judges; here are its variables and the form of its report.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from aibox.errors import Failed, Fault, PreflightVeto
from aibox.profile import Requires


class Status(StrEnum):
    """How a host does in one check."""

    OK = "ok"
    WARN = "warn"
    VETO = "veto"


class Finding(BaseModel):
    """One check: what was found, what the release expects, and a fix that ends in a command."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    check: str
    status: Status
    found: str
    expected: str
    fix: str


_REPORT = TypeAdapter(tuple[Finding, ...])


def variables(
    requires: Requires,
    *,
    root: Path,
    report: Path,
    ports: Sequence[int] = (),
    released: str = "",
) -> dict[str, object]:
    """For playbooks/preflight.yml: what the profile requires of the host that will hold `root`.

    `ports` are loopback ports that must be free: none when this box itself listens on them.
    `released` is a date (UTC, YYYY-MM-DD) before which no clock can be right.
    """
    return {
        "preflight_root": str(root),
        "preflight_report": str(report),
        "preflight_architectures": list(requires.architectures),
        "preflight_python_min": requires.python_min,
        "preflight_memory_mib_min": requires.memory_mib_min,
        "preflight_memory_mib_recommended": requires.memory_mib_recommended,
        "preflight_disk_mib_min": requires.disk_mib_min,
        "preflight_inodes_min": requires.inodes_min,
        "preflight_ports": list(ports),
        "preflight_not_before": released,
    }


@dataclass(frozen=True)
class ServerNeeds:
    """What the container runtime asks of a server beyond what a profile requires of any host."""

    distributions: tuple[str, ...]
    """As `ID VERSION_ID` of os-release(5), or shorter: `debian 13`, `rocky 9`."""
    kernels: tuple[str, ...] = ()
    """Those the release has packages for, as `uname -r` says; none for any."""
    driver: Literal["none", "signed", "built"] = "none"
    """Whether a GPU driver is installed, and whether its modules are compiled on the host."""
    driver_branch: str = ""
    disks: Mapping[Path, int] = field(default_factory=dict)
    """MiB that will be taken below a folder; those on one file system are added up."""
    shared_memory_mib: int = 0
    air_gapped: bool = False
    egress_probe: str = ""
    """HOST:PORT that must not be reached from an air-gapped host."""


def server_variables(
    requires: Requires,
    needs: ServerNeeds,
    *,
    root: Path,
    report: Path,
    ports: Sequence[int] = (),
    released: str = "",
) -> dict[str, object]:
    """For the entry point `judge_server` of the role preflight, which asks all that `judge` asks.

    `ports` must be free on every interface: none when this box itself listens on them.
    """
    return {
        **variables(requires, root=root, report=report, ports=ports, released=released),
        "preflight_systemd_required": True,
        "preflight_distributions": list(needs.distributions),
        "preflight_kernels": list(needs.kernels),
        "preflight_driver": needs.driver,
        "preflight_driver_branch": needs.driver_branch,
        "preflight_disks": [{"path": str(path), "mib": mib} for path, mib in needs.disks.items()],
        "preflight_shared_memory_mib_min": needs.shared_memory_mib,
        "preflight_air_gapped": needs.air_gapped,
        "preflight_egress_probe": needs.egress_probe,
    }


def read_report(path: Path) -> tuple[Finding, ...]:
    """The findings a role wrote, in its order; raises `Failed` when there are none to read.

    A report without findings is no report: a missing judgement must not pass for a good one.
    """
    try:
        findings = _REPORT.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise _unreadable(path, str(error)) from error
    if not findings:
        raise _unreadable(path, "it is empty")
    return findings


def veto(findings: Sequence[Finding], *, profile: str) -> PreflightVeto | None:
    """The error that names every veto with its fix, or None when the host can take the release."""
    vetoes = [finding for finding in findings if finding.status is Status.VETO]
    if not vetoes:
        return None
    reasons = "\n".join(
        f"  {finding.check}: found {finding.found}; expected {finding.expected}\n    {finding.fix}"
        for finding in vetoes
    )
    return PreflightVeto(
        "preflight-veto",
        f"this host cannot take the release; nothing was changed\n{reasons}",
        context=", ".join(finding.check for finding in vetoes),
        hint=f"put that right, then check again: ./aibox preflight --profile {profile}",
        fault=Fault.HOST,
    )


def _unreadable(path: Path, reason: str) -> Failed:
    return Failed(
        "report-unreadable",
        f"the report of an Ansible role cannot be read: {reason}",
        context=str(path),
        hint=f"read what Ansible printed: less {shlex.quote(str(path.parent / 'ansible.log'))}",
        fault=Fault.US,
    )
