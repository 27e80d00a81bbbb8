"""GPUs as a host shows them: without a driver, with one, and with one that is broken."""

from __future__ import annotations

import sys as system
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from aibox.box import gpus
from aibox.hardware import Fabric, Gpu, Machine
from machines import A100_PCIE, A100_SXM, add_pci_device

GPU = "0x030200"
LOADED = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"


class NvmlRefusal(Exception):
    """A double of NVMLError."""


@dataclass
class DoubleNvml:
    """A double of pynvml; what `refuses` names raises, as the real functions do."""

    refuses: frozenset[str] = frozenset()
    mig: int = 0
    names: type = str
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> object:
        def function(*arguments: object) -> object:
            self.asked.append(name)
            if name in self.refuses:
                raise NvmlRefusal(f"{name} refused")
            return {
                "nvmlDeviceGetHandleByPciBusId": lambda: arguments[0],
                "nvmlDeviceGetMemoryInfo": lambda: SimpleNamespace(total=81920 << 20, free=3 << 30),
                "nvmlDeviceGetMigMode": lambda: [self.mig, self.mig],
                "nvmlDeviceGetName": lambda: b"Card" if self.names is bytes else "Card",
                "nvmlDeviceGetUUID": lambda: "GPU-1",
                "nvmlDeviceGetCudaComputeCapability": lambda: [8, 0],
            }.get(name, lambda: None)()

        return function


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A double of /sys and /proc of a server with two GPUs, another card and a bridge."""
    sys = tmp_path / "sys"
    add_pci_device(sys, "0000:ca:00.0", A100_SXM, GPU, driver="nouveau")
    add_pci_device(sys, "0000:17:00.0", A100_PCIE, GPU)
    add_pci_device(sys, "0000:02:00.0", "1a03:2000", "0x030000", driver="ast")
    add_pci_device(sys, "0000:17:00.1", "10de:1aef", "0x040300")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal:       24684080 kB\nMemFree: 1 kB\n")
    return tmp_path


def load_driver(host: Path) -> None:
    (host / "proc/driver/nvidia").mkdir(parents=True)
    (host / "proc/driver/nvidia/version").write_text(LOADED)


def detect(host: Path, api: object, timeout_s: float = 20.0) -> Machine:
    return gpus.detect(host / "sys", host / "proc", lambda: api, timeout_s)


def test_gpus_are_found_without_a_driver_in_the_order_of_the_bus(host: Path) -> None:
    found = detect(host, None)
    assert [(one.address, one.pci_id, one.kernel_driver) for one in found.gpus] == [
        ("0000:17:00.0", A100_PCIE, ""),
        ("0000:ca:00.0", A100_SXM, "nouveau"),
    ]
    assert all(one.memory_mib is None for one in found.gpus)
    assert (found.driver, found.memory_mib, found.problems) == ("", 24105, ())


def test_a_host_without_anything_to_read_has_nothing(tmp_path: Path) -> None:
    found = gpus.detect(tmp_path / "sys", tmp_path / "proc")
    assert (found.gpus, found.fabric, found.driver, found.memory_mib) == ((), Fabric.NONE, "", 0)


def test_the_real_host_is_read_without_a_complaint() -> None:
    assert gpus.detect().memory_mib > 0


def test_the_bindings_are_not_imported_where_no_driver_is_loaded(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(system.modules, "pynvml", raising=False)
    gpus.detect(host / "sys", host / "proc")
    assert "pynvml" not in system.modules


@pytest.mark.parametrize("names", [str, bytes])
def test_a_driver_adds_what_it_knows(host: Path, names: type) -> None:
    load_driver(host)
    found = detect(host, DoubleNvml(names=names, mig=1))
    assert found.driver == "580.95.05"
    assert found.problems == ()
    first = found.gpus[0]
    assert (first.name, first.uuid, first.memory_mib) == ("Card", "GPU-1", 81920)
    assert (first.capability, first.mig) == ((8, 0), True)


def test_a_card_without_mig_is_no_problem(host: Path) -> None:
    load_driver(host)
    found = detect(host, DoubleNvml(refuses=frozenset({"nvmlDeviceGetMigMode"})))
    assert not found.gpus[0].mig
    assert found.problems == ()


@pytest.mark.parametrize(
    "refused",
    [
        "nvmlInit",
        "nvmlDeviceGetHandleByPciBusId",
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetName",
        "nvmlDeviceGetUUID",
        "nvmlDeviceGetCudaComputeCapability",
        "nvmlShutdown",
    ],
)
def test_what_nvml_refuses_is_said_and_the_gpus_stay(host: Path, refused: str) -> None:
    load_driver(host)
    found = detect(host, DoubleNvml(refuses=frozenset({refused})))
    assert [one.pci_id for one in found.gpus] == [A100_PCIE, A100_SXM]
    told = " ".join(found.problems)
    assert (f"{refused} refused" in told) == (refused != "nvmlShutdown")


def test_the_real_bindings_without_a_library_are_a_problem_not_a_crash(host: Path) -> None:
    load_driver(host)
    found = gpus.detect(host / "sys", host / "proc")
    assert len(found.gpus) == 2
    assert found.problems[0].startswith("NVML: ")


def test_bindings_that_are_not_there_are_a_problem_not_a_crash(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_driver(host)
    monkeypatch.setitem(system.modules, "pynvml", None)
    assert "pynvml" in gpus.detect(host / "sys", host / "proc").problems[0]


def test_nvml_that_never_answers_is_left_behind(host: Path) -> None:
    load_driver(host)
    release = threading.Event()

    class Hanging:
        """A double of NVML on a host whose GPU fell off the bus."""

        def nvmlInit(self) -> None:  # noqa: N802
            release.wait(30)
            raise NvmlRefusal("gone")

    found = detect(host, Hanging(), timeout_s=0.05)
    release.set()
    assert "did not answer" in found.problems[0]
    assert len(found.gpus) == 2


def test_switches_on_the_bus_are_a_fabric(host: Path) -> None:
    add_pci_device(host / "sys", "0000:c1:00.0", "10de:22a3", "0x068000")
    assert detect(host, None).fabric is Fabric.NVSWITCH


@pytest.mark.parametrize(("vpd", "fabric"), [(b"..SW_MNG..", "nvlink5"), (b"ConnectX", "none")])
def test_switches_of_nvlink_5_are_told_by_their_vital_data(
    host: Path, vpd: bytes, fabric: str
) -> None:
    device = host / "sys/class/infiniband/mlx5_0/device"
    device.mkdir(parents=True)
    (device / "vpd").write_bytes(vpd)
    assert detect(host, None).fabric == fabric


def test_vital_data_that_cannot_be_read_is_said(host: Path) -> None:
    (host / "sys/class/infiniband/mlx5_0/device/vpd").mkdir(parents=True)
    assert "not known" in detect(host, None).problems[0]


def test_what_nobody_holds_of_each_gpu_is_told() -> None:
    found = [Gpu("0000:17:00.0", "10de:20b5"), Gpu("0000:ca:00.0", "10de:20b2")]
    assert gpus.free_mib(found, lambda: DoubleNvml()) == (3072, 3072)
    assert gpus.free_mib([], lambda: DoubleNvml()) == ()


@pytest.mark.parametrize("refused", ["nvmlInit", "nvmlDeviceGetMemoryInfo"])
def test_what_nvml_does_not_say_is_unknown(refused: str) -> None:
    double = DoubleNvml(refuses=frozenset({refused}))
    assert gpus.free_mib([Gpu("0000:17:00.0", "10de:20b5")], lambda: double) == (None,)


def test_an_nvml_that_never_says_what_is_free_is_not_waited_for() -> None:
    silent = threading.Event()
    found = gpus.free_mib([Gpu("0000:17:00.0", "10de:20b5")], silent.wait, timeout_s=0.05)
    silent.set()
    assert found == (None,)
