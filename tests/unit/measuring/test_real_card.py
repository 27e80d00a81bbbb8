"""What the driver of a real H200 said, given to those who read it (tests/assets/h200)."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from aibox import checks, content, hardware, profile
from aibox.box import gpus
from aibox.checks import texts
from aibox.checks.evidence import Evidence, Source
from aibox.hardware import Fabric, Machine
from aibox.preflight import Status

H200 = Path(__file__).parents[2] / "assets/h200"
ROLES = Path(__file__).parents[3] / "roles"
SAID: dict[str, Any] = json.loads((H200 / "nvml.json").read_text())


def text(name: str) -> str:
    return (H200 / name).read_text(encoding="utf-8")


class RecordedNvml:
    """A double of pynvml that answers what the real one answered."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        answers = {
            "nvmlInit": None,
            "nvmlShutdown": None,
            "nvmlDeviceGetHandleByPciBusId": "handle",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(**SAID["memory"]),
            "nvmlDeviceGetMigMode": SAID["mig"],
            "nvmlDeviceGetName": SAID["name"],
            "nvmlDeviceGetUUID": SAID["uuid"],
            "nvmlDeviceGetCudaComputeCapability": SAID["cc"],
        }
        return lambda *_: answers[name]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """The machine as it is detected from its files and NVML's answers."""
    pci = json.loads(text("pci.json"))
    folder = tmp_path / "sys/bus/pci/devices" / pci["address"]
    folder.mkdir(parents=True)
    for name, value in pci["files"].items():
        (folder / name).write_text(value)
    (folder / "driver").symlink_to(f"../../../bus/pci/drivers/{pci['driver']}")
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text(text("proc-driver-nvidia-version.txt"))
    return gpus.detect(tmp_path / "sys", tmp_path / "proc", RecordedNvml)


def test_the_card_is_detected(machine: Machine) -> None:
    (gpu,) = machine.gpus
    assert (gpu.pci_id, gpu.name, gpu.memory_mib) == ("10de:2335", "NVIDIA H200", 143771)
    assert (gpu.capability, gpu.mig, gpu.kernel_driver) == ((9, 0), False, "nvidia")
    assert (machine.driver, machine.fabric, machine.problems) == ("580.159.04", Fabric.NONE, ())
    # What the card keeps back is not free, though nobody uses it.
    assert gpus.free_mib(machine.gpus, RecordedNvml) == (143_155,)


def test_it_is_what_the_profile_for_one_h200_is_for(machine: Machine) -> None:
    wanted = profile.load(content.find().profiles, "h200x1").hardware
    assert wanted is not None
    assert hardware.match(wanted, machine).fits


def test_nvidia_smi_is_read(machine: Machine) -> None:
    found = texts.cards(text("nvidia-smi-q.txt"))
    (card,) = found.cards
    assert (found.driver, found.cuda, card.address) == ("580.159.04", "13.0", "0000:00:06.0")
    assert card.address == machine.gpus[0].address
    memory = {name: card.number(f"FB Memory Usage/{name}") for name in ("Total", "Reserved")}
    assert memory == {"Total": 143_771, "Reserved": 616}
    assert card.get("MIG Mode/Current") == "Disabled"


def test_one_card_has_no_other_to_reach() -> None:
    # Its heading is underlined for terminals, even into a file.
    assert "\x1b[4m" in text("nvidia-smi-topo.txt")
    assert texts.topology(text("nvidia-smi-topo.txt")) == {}


def test_the_checks_find_nothing_wrong_with_what_it_said(machine: Machine) -> None:
    wanted = profile.load(content.find().profiles, "h200x1").hardware
    files = {
        Source.CARDS: "nvidia-smi-q.txt",
        Source.TOPOLOGY: "nvidia-smi-topo.txt",
        Source.LINKS: "nvidia-smi-nvlink.txt",
        Source.VERSION: "proc-driver-nvidia-version.txt",
        Source.MODULES: "proc-modules.txt",
        Source.KERNEL_LOG: "dmesg.txt",
    }
    said = {source: text(name) for source, name in files.items()}
    found = checks.examine(Evidence(machine, wanted, said=said))
    assert len(found) > 5
    assert {one.check: one.found for one in found if one.status is not Status.OK} == {}


def gpu_host(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The role's own module, outside Ansible."""
    path = ROLES / "nvidia_driver/library/gpu_host.py"
    spec = importlib.util.spec_from_file_location("recorded_gpu_host", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "recorded_gpu_host", module)
    spec.loader.exec_module(module)
    return module


def test_the_drivers_role_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    role = gpu_host(monkeypatch)
    assert role.loaded_version(text("proc-driver-nvidia-version.txt")) == "580.159.04"
    assert role.rows(text("query-driver.csv")) == [["580.159.04", "Enabled"]]
    # By itself it has no fabric to join.
    assert role.fabric_states(text("nvidia-smi-q.txt")) == []
    # As the role for slices asks.
    assert text("query-mig.csv").split(", ") == ["Disabled", "Disabled\n"]
