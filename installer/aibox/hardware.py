"""GPUs: what a profile needs, what a host has, and whether the one serves the other. Pure.

Memory is compared as the driver reports it, never as a data sheet names it (ECC takes its share
of it). Where no driver is loaded the PCI ids decide alone, and the answer says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from aibox.schema import Model

NVIDIA = "10de"

# vendor:device, as `lspci -n` writes them.
PciId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
DriverBranch = Annotated[str, StringConstraints(pattern=r"^[0-9]{3,4}$")]
DriverVersion = Annotated[str, StringConstraints(pattern=r"^[0-9]{3,4}(\.[0-9]{2,3}){1,2}$")]


class Modules(StrEnum):
    """The flavour of the kernel modules: open, or proprietary (none for Blackwell)."""

    OPEN = "open"
    PROPRIETARY = "proprietary"


class Fabric(StrEnum):
    """What joins the GPUs: nothing to manage, NVSwitch (Fabric Manager), NVLink 5 (also nvlsm)."""

    NONE = "none"
    NVSWITCH = "nvswitch"
    NVLINK5 = "nvlink5"


class PeerToPeer(StrEnum):
    """How GPUs reach one another's memory: by NVLink, by PCIe, or not at all."""

    NVLINK = "nvlink"
    PCIE = "pcie"
    OFF = "off"


class Quantisation(StrEnum):
    """Formats of weights, by the names the engine has for them; `none` is 16 bits a weight."""

    NONE = "none"
    AWQ = "awq"
    GPTQ = "gptq"
    COMPRESSED_TENSORS = "compressed-tensors"
    FP8 = "fp8"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"


class Hardware(Model):
    """The section [hardware] of a profile: the GPUs it is for, and the driver they get.

    `memory_mib_min` is per GPU, as reported. `warnings` are told before anything is installed.
    """

    gpus: Annotated[tuple[PciId, ...], Field(min_length=1)]
    count: Annotated[int, Field(ge=1, le=16)]
    memory_mib_min: Annotated[int, Field(gt=0)]
    driver_branch: DriverBranch
    driver_min: DriverVersion
    modules: Modules
    fabric: Fabric = Fabric.NONE
    peer_to_peer: PeerToPeer = PeerToPeer.OFF
    quantisations: Annotated[tuple[Quantisation, ...], Field(min_length=1)]
    warnings: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _is_of_one_mind(self) -> Hardware:
        if self.driver_min.split(".")[0] != self.driver_branch:
            raise ValueError("driver_min must be a version of driver_branch")
        if self.count == 1 and self.peer_to_peer is not PeerToPeer.OFF:
            raise ValueError("one GPU has no peer: peer_to_peer must be off")
        if self.fabric is not Fabric.NONE and self.peer_to_peer is not PeerToPeer.NVLINK:
            raise ValueError("a fabric joins GPUs by NVLink: peer_to_peer must be nvlink")
        return self


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a host. What only a driver knows is empty or None without one.

    `address` is its place on the PCI bus (`0000:65:00.0`), `kernel_driver` what holds it.
    """

    address: str
    pci_id: str
    kernel_driver: str = ""
    name: str = ""
    uuid: str = ""
    memory_mib: int | None = None
    capability: tuple[int, int] | None = None
    mig: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.pci_id} at {self.address}".lstrip()


@dataclass(frozen=True, slots=True)
class Machine:
    """What a host has: its GPUs in the order of the bus, which is the driver's own order.

    `driver` is the version that is loaded, "" without; `problems` say what could not be read.
    """

    gpus: tuple[Gpu, ...] = ()
    fabric: Fabric = Fabric.NONE
    driver: str = ""
    architecture: str = "x86_64"
    memory_mib: int = 0
    root: bool = False
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """Why a profile does not fit a host (no reason: it fits), and what to know if it does."""

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.reasons


def match(wanted: Hardware | None, machine: Machine) -> Match:
    """Compare what a profile needs (None: no GPU) with what a host has.

    The driver is never a reason: an installation brings its own; it is a note.
    """
    if wanted is None:
        idle = len(machine.gpus)
        return Match(notes=(f"leaves {_gpus(idle)} unused",) if idle else ())
    return Match(
        reasons=tuple(_reasons(wanted, machine)),
        notes=(*_notes(wanted, machine), *wanted.warnings),
    )


def used(wanted: Hardware, machine: Machine) -> tuple[Gpu, ...]:
    """The GPUs the profile would use: engines count them from the first one."""
    return machine.gpus[: wanted.count]


def _reasons(wanted: Hardware, machine: Machine) -> Iterator[str]:
    fitting = sum(gpu.pci_id in wanted.gpus for gpu in machine.gpus)
    if fitting < wanted.count:
        yield f"needs {wanted.count} of {', '.join(wanted.gpus)}; the host has {_has(machine)}"
    else:
        for number, gpu in enumerate(used(wanted, machine)):
            yield from _reasons_of(wanted, number, gpu)
        if wanted.fabric is not machine.fabric:
            yield f"is for fabric {wanted.fabric.value!r}; the host has {machine.fabric.value!r}"


def _reasons_of(wanted: Hardware, number: int, gpu: Gpu) -> Iterator[str]:
    if gpu.pci_id not in wanted.gpus:
        yield f"GPU {number} is another one ({gpu}), and a profile counts its GPUs from the first"
        return
    if gpu.mig:
        yield f"GPU {number} is in slices (MIG); whole again by: nvidia-smi -i {number} -mig 0"
    if gpu.memory_mib is not None and gpu.memory_mib < wanted.memory_mib_min:
        yield f"GPU {number} reports {gpu.memory_mib} MiB, needs {wanted.memory_mib_min}"


def _notes(wanted: Hardware, machine: Machine) -> Iterator[str]:
    mine = used(wanted, machine)
    if any(gpu.memory_mib is None for gpu in mine):
        yield (
            "no driver says how much memory the GPUs have: their PCI ids decided alone; "
            f"{wanted.memory_mib_min} MiB each are checked when the driver is there"
        )
    if idle := len(machine.gpus) - len(mine):
        yield f"leaves {_gpus(idle)} unused"
    if machine.driver and not version(machine.driver) >= version(wanted.driver_min):
        yield f"the loaded driver {machine.driver} is older than {wanted.driver_min}"
    elif machine.driver and branch(machine.driver) != wanted.driver_branch:
        yield f"the loaded driver {machine.driver} is of another branch than {wanted.driver_branch}"


def _has(machine: Machine) -> str:
    counted: dict[str, int] = {}
    for gpu in machine.gpus:
        told = f"{gpu.pci_id} {gpu.name}".rstrip()
        counted[told] = counted.get(told, 0) + 1
    return ", ".join(f"{count} of {told}" for told, count in counted.items()) or "no NVIDIA GPU"


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"


def version(text: str) -> tuple[int, ...]:
    """A driver's version as numbers; what is not a number ends it."""
    parts: list[int] = []
    for part in text.split("."):
        if not part.isdecimal():
            break
        parts.append(int(part))
    return tuple(parts)


def branch(text: str) -> str:
    """The branch of a driver's version: its first number."""
    return text.split(".")[0]


_LOADED = re.compile(r"Kernel Module(?: for \S+)?\s+([0-9]+(?:\.[0-9]+)+)")


def loaded_driver(text: str) -> str:
    """The version in the text of /proc/driver/nvidia/version; empty when there is none."""
    found = _LOADED.search(text)
    return found.group(1) if found else ""


NATIVE_FROM = {
    Quantisation.FP8: (8, 9),
    # May hold FP8, which older cards would only store.
    Quantisation.COMPRESSED_TENSORS: (8, 9),
    Quantisation.MXFP4: (8, 0),
    Quantisation.NVFP4: (10, 0),
}
"""The compute capability from which on a card computes in a format, where not all of them do."""
