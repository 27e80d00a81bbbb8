"""The GPUs of this host: from the PCI bus without a driver, from NVML where one is loaded.

Reading only. What NVML refuses is a sentence in `Machine.problems`, never an exception: a host
with a broken driver is what this is asked about most.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from aibox.box import host
from aibox.hardware import NVIDIA, Fabric, Gpu, Machine, loaded_driver

SYS = Path("/sys")
PROC = Path("/proc")
# A GPU that fell off the bus lets NVML wait for ever.
NVML_TIMEOUT_S = 20.0
_DISPLAY = ("0x0300", "0x0302")
_BRIDGE = "0x0680"
_SWITCH_MANAGER = b"SW_MNG"
_VPD_BYTES = 4096

Api = Any
"""The module `pynvml`, or a double of it: it has no types of its own."""


def nvml() -> Api:
    """NVML's bindings; imported here alone, since most hosts never need them."""
    return importlib.import_module("pynvml")


def detect(
    sys: Path = SYS,
    proc: Path = PROC,
    api: Callable[[], Api] = nvml,
    timeout_s: float = NVML_TIMEOUT_S,
) -> Machine:
    """What this host has. `sys` and `proc` stand for /sys and /proc."""
    problems: list[str] = []
    gpus = tuple(_gpus(sys))
    driver = loaded_driver(_text(proc / "driver/nvidia/version"))
    if driver and gpus:
        gpus = _asked(gpus, api, timeout_s, problems)
    return Machine(
        gpus=gpus,
        fabric=_fabric(sys, problems) if gpus else Fabric.NONE,
        driver=driver,
        architecture=host.architecture(),
        memory_mib=_memory_mib(_text(proc / "meminfo")),
        root=os.geteuid() == 0,
        problems=tuple(problems),
    )


def free_mib(
    gpus: Sequence[Gpu], api: Callable[[], Api] = nvml, timeout_s: float = NVML_TIMEOUT_S
) -> tuple[int | None, ...]:
    """What nobody holds of the memory of each of these GPUs now; None where NVML does not say."""
    answer: list[tuple[int | None, ...]] = []
    thread = threading.Thread(target=lambda: answer.append(_free(gpus, api)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return answer[0] if answer else (None,) * len(gpus)


def _free(gpus: Sequence[Gpu], api: Callable[[], Api]) -> tuple[int | None, ...]:
    try:
        library = api()
        library.nvmlInit()
    except Exception:
        # Whatever ctypes or NVML raise: then nobody says.
        return (None,) * len(gpus)
    found = tuple(_tried(partial(_free_of, library, gpu), []) for gpu in gpus)
    _tried(library.nvmlShutdown, [])
    return found


def _free_of(library: Api, gpu: Gpu) -> int:
    handle = library.nvmlDeviceGetHandleByPciBusId(gpu.address.encode())
    return int(library.nvmlDeviceGetMemoryInfo(handle).free) >> 20


# -- without a driver ---------------------------------------------------------------------------


def _gpus(sys: Path) -> Iterator[Gpu]:
    for folder in _devices(sys):
        if _text(folder / "class").startswith(_DISPLAY):
            yield Gpu(
                address=folder.name,
                pci_id=f"{NVIDIA}:{_text(folder / 'device').removeprefix('0x')}",
                kernel_driver=_target(folder / "driver"),
            )


def _devices(sys: Path) -> list[Path]:
    """NVIDIA's PCI devices in the order of their addresses, which is the driver's."""
    folder = sys / "bus/pci/devices"
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [one for one in found if _text(one / "vendor") == f"0x{NVIDIA}"]


def _fabric(sys: Path, problems: list[str]) -> Fabric:
    """NVSwitches are PCI devices; those of NVLink 5 are told by the vital data of their bridges."""
    if any(_text(one / "class").startswith(_BRIDGE) for one in _devices(sys)):
        return Fabric.NVSWITCH
    for path in sorted(sys.glob("class/infiniband/*/device/vpd")):
        try:
            with path.open("rb") as stream:
                found = _SWITCH_MANAGER in stream.read(_VPD_BYTES)
        except OSError as error:
            problems.append(f"whether there is a fabric of NVLink 5 is not known: {error}")
            return Fabric.NONE
        if found:
            return Fabric.NVLINK5
    return Fabric.NONE


# -- with one -----------------------------------------------------------------------------------


def _asked(
    gpus: tuple[Gpu, ...], api: Callable[[], Api], timeout_s: float, problems: list[str]
) -> tuple[Gpu, ...]:
    """The same GPUs with what NVML adds; it is asked in a thread, because it may never answer."""
    answer: list[tuple[tuple[Gpu, ...], list[str]]] = []
    thread = threading.Thread(target=lambda: answer.append(_ask(gpus, api)), daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not answer:
        problems.append(f"NVML did not answer within {timeout_s:.0f} s: a GPU may be lost")
        return gpus
    told, refused = answer[0]
    problems.extend(refused)
    return told


def _ask(gpus: tuple[Gpu, ...], api: Callable[[], Api]) -> tuple[tuple[Gpu, ...], list[str]]:
    refused: list[str] = []
    try:
        library = api()
        library.nvmlInit()
    except Exception as error:
        # Whatever ctypes or NVML raise: the driver is what is being examined.
        return gpus, [f"NVML: {error}"]
    told = tuple(_told(library, gpu, refused) for gpu in gpus)
    _tried(library.nvmlShutdown, [])
    return told, refused


def _told(library: Api, gpu: Gpu, refused: list[str]) -> Gpu:
    try:
        handle = library.nvmlDeviceGetHandleByPciBusId(gpu.address.encode())
    except Exception as error:
        refused.append(f"NVML: {gpu}: {error}")
        return gpu
    memory = _tried(lambda: library.nvmlDeviceGetMemoryInfo(handle).total, refused)
    # Cards without MIG refuse the question, which is an answer.
    mig = _tried(lambda: library.nvmlDeviceGetMigMode(handle)[0], [])
    return replace(
        gpu,
        name=_plain(_tried(lambda: library.nvmlDeviceGetName(handle), refused)),
        uuid=_plain(_tried(lambda: library.nvmlDeviceGetUUID(handle), refused)),
        memory_mib=None if memory is None else int(memory) >> 20,
        capability=_tried(
            lambda: tuple(library.nvmlDeviceGetCudaComputeCapability(handle)), refused
        ),
        mig=mig == 1,
    )


def _tried(question: Callable[[], Any], refused: list[str]) -> Any:
    try:
        return question()
    except Exception as error:
        refused.append(f"NVML: {error}")
        return None


def _plain(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


# -- files --------------------------------------------------------------------------------------


def _memory_mib(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) >> 10
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _target(link: Path) -> str:
    try:
        return link.readlink().name
    except OSError:
        return ""
