"""Evidence for checks of GPUs: published texts of tests/assets/gpu, and what is written here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from aibox.checks.evidence import Evidence, Source
from aibox.hardware import Gpu, Hardware, Machine
from aibox.preflight import Finding, Status
from machines import TWO_A100

ASSETS = Path(__file__).parents[1] / "assets/gpu"
KERNEL = "6.8.0-60-generic"
DRIVER = "550.54.14"
H100_NVL = "10de:2321"
# The two cards of nvidia-smi-q.h100-nvl.txt.
CARDS = tuple(
    Gpu(address, H100_NVL, "nvidia", "NVIDIA H100 NVL", uuid, 95830, (9, 0))
    for address, uuid in (("0000:ad:00.0", "GPU-806f8ea2"), ("0000:ae:00.0", "GPU-db6d02a2"))
)
HOST = Machine(gpus=CARDS, driver=DRIVER, memory_mib=512000, root=True)
WANTED = TWO_A100.model_copy(
    update={"gpus": (H100_NVL,), "driver_branch": "550", "driver_min": "550.54.14"}
)
# After the documentation of modinfo: what a signed, open module says of itself.
MODULE = f"""\
filename:       /lib/modules/{KERNEL}/kernel/nvidia-550srv-open/nvidia.ko
version:        {DRIVER}
license:        Dual MIT/GPL
signer:         Canonical Ltd. Kernel Module Signing
"""


def asset(name: str) -> str:
    """A published text."""
    return (ASSETS / name).read_text(encoding="utf-8")


SMI = asset("nvidia-smi-q.h100-nvl.txt")


def evidence(machine: Machine = HOST, wanted: Hardware | None = None, **about: object) -> Evidence:
    """A host with two healthy H100 NVL; what is given comes in place of it."""
    said = {
        Source.CARDS: SMI,
        Source.MODULE: MODULE,
        Source.VERSION: f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {DRIVER}  x\n",
        Source.MODULES: "nvidia_uvm 12 4 - Live 0x0\nnvidia 34 7 nvidia_uvm, Live 0x0\n",
    }
    base = Evidence(machine=machine, wanted=wanted, kernel=KERNEL, said=said)
    return replace(base, **about)  # type: ignore[arg-type]


def saying(source: Source, text: str, base: Evidence | None = None) -> Evidence:
    """The same, with one source saying something else."""
    known = base or evidence()
    return replace(known, said={**known.said, source: text})


def named(
    examine: Callable[[Evidence], Iterator[Finding]], known: Evidence, check: str
) -> list[Finding]:
    """The findings of one check."""
    return [one for one in examine(known) if one.check == check]


def states(findings: list[Finding]) -> list[Status]:
    """Only how grave they are."""
    return [one.status for one in findings]
