"""Hosts and hardware wishes for tests; memory as drivers report it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from aibox.hardware import Gpu, Hardware, Machine

A100_PCIE = "10de:20b5"
A100_SXM = "10de:20b2"
T4 = "10de:1eb8"
RTX_4090 = "10de:2684"

TWO_A100 = Hardware.model_validate(
    {
        "gpus": (A100_PCIE, A100_SXM),
        "count": 2,
        "memory_mib_min": 81000,
        "driver_branch": "580",
        "driver_min": "580.65.06",
        "modules": "open",
        "peer_to_peer": "nvlink",
        "quantisations": ("none", "awq"),
    }
)
ONE_4090 = TWO_A100.model_copy(
    update={"gpus": (RTX_4090,), "count": 1, "memory_mib_min": 24000, "warnings": ("ask NVIDIA",)}
)


def gpu(pci_id: str = A100_PCIE, memory_mib: int | None = 81920, *, mig: bool = False) -> Gpu:
    """A GPU whose driver is loaded, or without one where its memory is None."""
    return Gpu(
        "", pci_id, name="" if memory_mib is None else "Card", memory_mib=memory_mib, mig=mig
    )


def machine(*gpus: Gpu, **about: object) -> Machine:
    """A server with these GPUs, in this order on the bus."""
    placed = tuple(replace(one, address=f"0000:{17 + n:02x}:00.0") for n, one in enumerate(gpus))
    base = Machine(gpus=placed, driver="580.65.06", memory_mib=256000, root=True)
    return replace(base, **about)  # type: ignore[arg-type]


def add_pci_device(sys: Path, address: str, pci_id: str, kind: str, driver: str = "") -> None:
    """One device of a double of /sys; `kind` is its class, such as `0x030200`."""
    folder = sys / "bus/pci/devices" / address
    folder.mkdir(parents=True)
    vendor, device = pci_id.split(":")
    (folder / "vendor").write_text(f"0x{vendor}\n")
    (folder / "device").write_text(f"0x{device}\n")
    (folder / "class").write_text(f"{kind}\n")
    if driver:
        (folder / "driver").symlink_to(f"../../../drivers/{driver}")
