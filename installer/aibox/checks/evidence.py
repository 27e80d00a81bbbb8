"""What the checks of GPUs look at: texts that commands and files said, gathered by an edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aibox.hardware import Gpu, Hardware, Machine
from aibox.preflight import Finding, Status


class Source(StrEnum):
    """Who was asked; the value is what a person would type to see the same."""

    CARDS = "nvidia-smi -q"
    TOPOLOGY = "nvidia-smi topo -m"
    LINKS = "nvidia-smi nvlink --status"
    VERSION = "cat /proc/driver/nvidia/version"
    MODULE = "modinfo nvidia"
    MODULES = "cat /proc/modules"
    KERNEL_LOG = "dmesg"
    COMMAND_LINE = "cat /proc/cmdline"
    HMM = "cat /sys/module/nvidia_uvm/parameters/uvm_disable_hmm"
    PACKAGES = "dpkg-query --show"
    DKMS = "dkms status"
    UNITS = "systemctl show"
    FABRIC_MANAGER = "nv-fabricmanager --version"
    CDI = "cat /var/run/cdi/nvidia.yaml"
    DOCKER = "docker info"
    CONTAINERS = "docker inspect"


@dataclass(frozen=True, slots=True)
class Image:
    """An image of the box: its name, and what it says of the CUDA it needs (empty: nothing)."""

    name: str
    reference: str
    requires_cuda: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything the checks know. A source that is in neither mapping was not there to ask.

    `wanted` is what the installed box needs; None where there is no box, or it needs no GPU.
    `refused` says why a source that is there did not answer. `existing` are those of the paths
    worth knowing that exist, `lost` those that the CDI specification names and that do not.
    `logs` are the last lines of each engine's container; `brings_driver` is whether the release
    has a driver to install.
    """

    machine: Machine
    wanted: Hardware | None = None
    images: tuple[Image, ...] = ()
    kernel: str = ""
    secure_boot: bool | None = None
    iommu: bool = False
    said: Mapping[Source, str] = field(default_factory=dict)
    refused: Mapping[Source, str] = field(default_factory=dict)
    existing: frozenset[str] = frozenset()
    lost: tuple[str, ...] = ()
    logs: Mapping[str, str] = field(default_factory=dict)
    brings_driver: bool = True

    def text(self, source: Source) -> str:
        """What a source said, empty when it said nothing."""
        return self.said.get(source, "")

    @property
    def used(self) -> tuple[Gpu, ...]:
        """The GPUs the box uses; all of them while there is none."""
        return self.machine.gpus[: self.wanted.count] if self.wanted else self.machine.gpus

    @property
    def severe(self) -> Status:
        """How bad it is when something is not there yet: only a box that is installed needs it."""
        return Status.VETO if self.wanted else Status.WARN


def good(check: str, found: str, expected: str) -> Finding:
    """A check that passed."""
    return Finding(check=check, status=Status.OK, found=found, expected=expected, fix="")


def bad(check: str, found: str, expected: str, *, fix: str) -> Finding:
    """A fault: the box cannot serve with it, or not for long."""
    return Finding(check=check, status=Status.VETO, found=found, expected=expected, fix=fix)


def doubtful(check: str, found: str, expected: str, *, fix: str) -> Finding:
    """Something that works now and is known to end badly, or that costs speed."""
    return Finding(check=check, status=Status.WARN, found=found, expected=expected, fix=fix)


def graded(status: Status, check: str, found: str, expected: str, *, fix: str) -> Finding:
    """A finding whose weight depends on whether a box needs it."""
    return Finding(check=check, status=status, found=found, expected=expected, fix=fix)
