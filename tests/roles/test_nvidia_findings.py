"""What the role nvidia_driver says of a host: its table, given doubles of what it measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import TypeAdapter

from aibox.preflight import Finding, Status
from gpu_doubles import FABRIC, LOADED, VERSION
from role_tables import value

# A double of a host on which all is well.
WELL: dict[str, Any] = {
    "system": "debian-12",
    "architecture": "x86_64",
    "running_kernel": "6.1.0-56-amd64",
    "kernel": "6.1.0-56-amd64",
    "secure_boot": "off",
    "key": "",
    "key_state": "absent",
    "nouveau": False,
    "modules": ["nvidia"],
    "run_file": False,
    "boot_image": True,
    "boot_image_stale": False,
    "gpus": ["10de:20b2", "10de:20b2"],
    "switches": 0,
    "loaded": VERSION,
    "on_disk": VERSION,
    "licence": "Dual MIT/GPL",
    "signer": "",
    "tool": [VERSION],
    "tool_says": "",
    "persistence": ["Enabled", "Enabled"],
    "manager": "",
    "fabric": [],
    "units": {"nvidia-persistenced.service": "active", "nvidia-fabricmanager.service": ""},
}
CHOICE: dict[str, Any] = {
    "route": "nvidia-open",
    "version": VERSION,
    "packages": [],
    "compiles": True,
    "units": [],
    "load": [],
    "problems": [],
}
SWITCHED = {
    "switches": 6,
    "manager": VERSION,
    "fabric": ["Completed/Success"],
    "units": {"nvidia-fabricmanager.service": "active"},
}
ABSENT = {"loaded": "", "on_disk": "", "tool": [], "licence": "", "persistence": []}


def said(name: str, host: dict[str, Any], **more: Any) -> Any:
    choice = {**CHOICE, **more.pop("choice", {})}
    given = {
        "nvidia_driver_modules": "open",
        "nvidia_driver_available": [],
        "__nvidia_driver_measured": {"host": {**WELL, **host}},
        "__nvidia_driver_chosen": {"choice": choice},
        **more,
    }
    return value("nvidia_driver", name, given)


def findings(host: dict[str, Any], **more: Any) -> list[Finding]:
    return TypeAdapter(list[Finding]).validate_python(
        said("__nvidia_driver_findings", host, **more)
    )


def bad(host: dict[str, Any], **more: Any) -> dict[str, Status]:
    return {item.check: item.status for item in findings(host, **more) if item.status != "ok"}


OK, WARN, VETO = Status.OK, Status.WARN, Status.VETO


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, {}),
        ({"tool": ["580.65.06"]}, {"driver versions": VETO}),
        (
            {"tool": [], "tool_says": "Failed to initialize NVML: Driver/library version mismatch"},
            {"driver versions": VETO},
        ),
        ({"loaded": "580.65.06"}, {"driver versions": WARN, "restart": WARN}),
        ({"loaded": "", "tool": []}, {"driver versions": WARN, "restart": WARN}),
        ({"running_kernel": "6.1.0-55-amd64"}, {"restart": WARN}),
        (
            {**ABSENT, "nouveau": True},
            {
                "nouveau": WARN,
                "driver versions": WARN,
                "kernel modules": VETO,
                "persistence": WARN,
                "restart": WARN,
            },
        ),
        (
            {**ABSENT, "gpus": []},
            {"GPUs": VETO, "driver versions": VETO, "kernel modules": VETO, "persistence": WARN},
        ),
        ({"licence": "NVIDIA"}, {"kernel modules": VETO}),
        ({"switches": 6}, {"fabric manager": VETO}),
        ({"persistence": ["Enabled", "Disabled"]}, {"persistence": WARN}),
        ({"secure_boot": "on", "key_state": "enrolled"}, {}),
        ({"secure_boot": "on", "key_state": "pending"}, {"secure boot": VETO}),
        ({"boot_image_stale": True}, {"boot image": WARN}),
        ({"run_file": True}, {"driver installer": VETO}),
    ],
)
def test_a_host_is_judged(host: dict[str, Any], expected: dict[str, Status]) -> None:
    assert bad(host) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, {}),
        ({"manager": "580.65.06"}, {"fabric manager": VETO}),
        ({"fabric": ["In Progress/N/A"]}, {"fabric manager": VETO}),
        ({"fabric": ["Completed/Insufficient Resources"]}, {"fabric manager": VETO}),
        ({"units": {"nvidia-fabricmanager.service": "failed"}}, {"fabric manager": VETO}),
        ({"units": {}}, {"fabric manager": VETO}),
    ],
)
def test_a_fabric_is_judged(host: dict[str, Any], expected: dict[str, Status]) -> None:
    units = {"units": ["nvidia-fabricmanager.service"]}
    assert bad({**SWITCHED, **host}, nvidia_driver_fabric="nvswitch", choice=units) == expected


def test_signed_modules_need_no_key_of_the_host() -> None:
    assert bad({"secure_boot": "on"}, choice={"compiles": False}) == {}


def test_secure_boot_that_rejects_a_module_wants_a_key_and_no_restart() -> None:
    host = {**ABSENT, "on_disk": VERSION, "secure_boot": "on", "key": "/k", "key_state": "unknown"}
    (finding,) = [item for item in findings(host) if item.check == "secure boot"]
    assert finding.status is VETO
    assert finding.fix.endswith(": mokutil --import /k")
    assert said("__nvidia_driver_result", host)["reboot_required"] is False


def test_proprietary_modules_are_told_by_their_licence() -> None:
    assert bad({"licence": "NVIDIA"}, nvidia_driver_modules="proprietary") == {}
    assert bad({}, nvidia_driver_modules="proprietary") == {"kernel modules": VETO}


def test_reasons_for_a_restart_are_told_together() -> None:
    host = {"nouveau": True, "running_kernel": "6.1.0-55-amd64", "loaded": "580.65.06"}
    assert said("__nvidia_driver_result", host)["reboot_reasons"] == [
        "nouveau has the GPUs until then",
        "the driver is for the kernel 6.1.0-56-amd64, and 6.1.0-55-amd64 runs",
        f"580.65.06 is loaded, {VERSION} installed",
    ]


def test_what_stands_against_a_driver_is_a_veto() -> None:
    problem = {"check": "driver version", "found": "1", "expected": "2", "fix": "do: this"}
    assert said("__nvidia_driver_problems", {"run_file": True}, choice={"problems": [problem]}) == [
        {**problem, "status": "veto"},
        said("__nvidia_driver_run_file", {"run_file": True}),
    ]


def test_kernel_and_all_of_nvidia_are_held() -> None:
    names = ["nvidia-open-580", "libcuda1", "libnvidia-ml1", "linux-headers-6.1", "libc6", "gcc"]
    available = [f"{name}=1" for name in names]
    assert said("__nvidia_driver_held", {}, nvidia_driver_available=available) == names[:4]


def test_every_fix_ends_in_a_command() -> None:
    assert [item.check for item in findings(ABSENT) if ": " not in item.fix] == []


@pytest.fixture(scope="module")
def gpu_host(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("nvidia_driver/gpu_host")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (LOADED.format(version=VERSION), VERSION),
        # As in NVIDIA/open-gpu-kernel-modules issue 171 and in NVIDIA's README of the driver.
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n", "535.104.05"),
        ("", ""),
    ],
)
def test_the_loaded_version_is_read(gpu_host: ModuleType, text: str, version: str) -> None:
    assert gpu_host.loaded_version(text) == version


def test_states_of_a_fabric_are_read(gpu_host: ModuleType) -> None:
    done = FABRIC.format(state="Completed", status="Insufficient Resources")
    without = FABRIC.format(state="N/A", status="N/A")
    assert gpu_host.fabric_states(done + without) == ["Completed/Insufficient Resources"]


def test_an_error_of_nvidia_smi_is_no_version(gpu_host: ModuleType) -> None:
    assert gpu_host.rows("Failed to initialize NVML: Driver/library version mismatch\n") == []
    assert gpu_host.rows(f"{VERSION}, Enabled\n") == [[VERSION, "Enabled"]]


@pytest.mark.parametrize(
    ("release", "name"),
    [
        ('ID=ubuntu\nVERSION_ID="24.04"\n', "ubuntu-24.04"),
        ('ID="rocky"\nVERSION_ID="9.6"\n', "rocky-9"),
        ('VERSION_ID="12"\nID=debian\n', "debian-12"),
        ("", "unknown-"),
    ],
)
def test_a_system_is_named(gpu_host: ModuleType, release: str, name: str) -> None:
    assert gpu_host.system(release) == name


def test_secure_boot_is_a_byte_of_the_firmware(gpu_host: ModuleType, tmp_path: Path) -> None:
    variable = tmp_path / gpu_host.SECURE_BOOT
    variable.parent.mkdir(parents=True)
    states = []
    for data in (b"\6\0\0\0\1", b"\6\0\0\0\0", b"\6"):
        variable.write_bytes(data)
        states.append(gpu_host.secure_boot(tmp_path))
    assert states == ["on", "off", "absent"]


def test_gpus_switches_and_subnet_managers_are_found_on_the_bus(
    gpu_host: ModuleType, tmp_path: Path
) -> None:
    for place, vendor, kind, device in (
        ("1", "0x10de", "0x030200", "0x2901"),
        ("2", "0x10de", "0x040300", "0x22e9"),
        ("3", "0x10de", "0x068000", "0x22a3"),
        ("4", "0x1002", "0x030000", "0x7480"),
    ):
        folder = tmp_path / "sys/bus/pci/devices" / place
        folder.mkdir(parents=True)
        for name, text in (("vendor", vendor), ("class", kind), ("device", device)):
            (folder / name).write_text(f"{text}\n")
    vital = tmp_path / "sys/class/infiniband/mlx5_0/device/vpd"
    vital.parent.mkdir(parents=True)
    vital.write_bytes(b"\x82SW_MNG\xff")
    found = gpu_host.devices(tmp_path)
    assert found == {"gpus": ["10de:2901"], "switches": 1, "subnet_managers": 1}


@pytest.fixture(scope="module")
def holds(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("nvidia_driver/kernel_holds")


def test_what_somebody_else_holds_is_neither_held_nor_released(holds: ModuleType) -> None:
    assert holds.to_hold(["a", "b"], ["b", "c"]) == ["a"]
    assert holds.to_release(["a", "d"], ["a", "b"]) == ["a"]


@pytest.mark.parametrize(("modules", "status"), [(["nvidia"], "warn"), ([], "ok")])
def test_a_removed_driver_that_is_still_loaded_is_told(modules: list[str], status: str) -> None:
    given = {"__nvidia_driver_host": {**WELL, "modules": modules}}
    said = value("nvidia_driver", "__nvidia_driver_removed", given)
    (finding,) = TypeAdapter(list[Finding]).validate_python(said)
    assert finding.status == status
