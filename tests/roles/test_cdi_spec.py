"""The list of GPUs for containers (CDI): what it says, and what of it is not so (any more)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import TypeAdapter

from aibox.preflight import Finding, Status
from role_tables import value

# In the form of cmd/nvidia-ctk/cdi/generate/generate_test.go of NVIDIA/nvidia-container-toolkit.
SPEC = """\
---
cdiVersion: 0.5.0
kind: nvidia.com/gpu
devices:
    - name: "0"
      containerEdits:
        deviceNodes:
            - path: /dev/null
              hostPath: {root}/dev/null
              major: 1
              minor: 3
    - name: all
      containerEdits:
        deviceNodes:
            - path: /dev/null
containerEdits:
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    deviceNodes:
        - path: /dev/zero
          major: 1
          minor: 5
    hooks:
        - hookName: createContainer
          path: {root}/nvidia-cdi-hook
          args:
            - nvidia-cdi-hook
            - create-symlinks
            - --link
            - libcuda.so.1::/lib/x86_64-linux-gnu/libcuda.so
    mounts:
        - hostPath: {root}/libcuda.so.580.178.04
          containerPath: /lib/x86_64-linux-gnu/libcuda.so.580.178.04
          options:
            - ro
"""


@pytest.fixture(scope="module")
def cdi(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("nvidia_container_toolkit/cdi_spec")


@pytest.fixture
def spec(tmp_path: Path) -> str:
    """A specification that is true of this host."""
    for name in ("nvidia-cdi-hook", "libcuda.so.580.178.04"):
        (tmp_path / name).touch()
    return SPEC.format(root=tmp_path).replace(f"{tmp_path}/dev/null", "/dev/null")


def wrong(cdi: ModuleType, text: str, driver: str = "580.178.04") -> list[str]:
    found: list[str] = cdi.problems(cdi.parse(text), driver)
    return found


def test_a_specification_is_read(cdi: ModuleType, spec: str, tmp_path: Path) -> None:
    read = cdi.parse(spec)
    assert read.devices == ["0", "all"]
    assert [(node.path, node.major, node.minor) for node in read.nodes] == [
        ("/dev/null", 1, 3),
        ("/dev/null", None, None),
        ("/dev/zero", 1, 5),
    ]
    assert read.paths == [f"{tmp_path}/nvidia-cdi-hook", f"{tmp_path}/libcuda.so.580.178.04"]
    assert read.versions == {"580.178.04"}
    assert wrong(cdi, spec) == []


def test_json_is_read_too(cdi: ModuleType) -> None:
    text = '  "name": "0",\n  "path": "/dev/null",\n  "hostPath": "/dev/zero",\n  "major": 1,\n'
    read = cdi.parse(text)
    assert (read.devices, read.nodes) == (["0"], [cdi.Node("/dev/zero", 1)])


def test_what_is_not_so_any_more_is_told(cdi: ModuleType, spec: str, tmp_path: Path) -> None:
    assert wrong(cdi, spec.replace("minor: 5", "minor: 9")) == ["/dev/zero is device 1:5, not 1:9"]
    assert wrong(cdi, spec.replace("/dev/zero", "/dev/nvidia9")) == ["there is no /dev/nvidia9"]
    (tmp_path / "nvidia-cdi-hook").unlink()
    assert wrong(cdi, spec) == [f"there is no {tmp_path}/nvidia-cdi-hook"]


def test_a_specification_for_another_driver_is_told(cdi: ModuleType, spec: str) -> None:
    expected = ["it is for the driver 580.178.04, and 580.65.06 is loaded"]
    assert wrong(cdi, spec, "580.65.06") == expected
    assert wrong(cdi, spec, "") == []


def test_an_empty_specification_is_one_without_devices(cdi: ModuleType) -> None:
    assert wrong(cdi, "") == ["it names no device"]


def test_a_draft_is_never_read_by_a_runtime(
    cdi: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(Path, "replace", lambda self, target: seen.append(self.name))
    cdi.replace(tmp_path / "cdi" / "nvidia.yaml", "x")
    assert seen == [".nvidia.yaml.new"]


GPUS = (
    "GPU 0: NVIDIA A100 80GB PCIe (UUID: GPU-1111)\nGPU 1: NVIDIA A100 80GB PCIe (UUID: GPU-2222)"
)
SLICES = f"{GPUS}\n  MIG 1g.10gb     Device  0: (UUID: MIG-3333)"


def answer(out: str, code: int = 0) -> dict[str, Any]:
    return {"stdout": out, "stderr": "", "rc": code}


def findings(**more: Any) -> dict[str, Finding]:
    """What the role says of a double of a host on which all is well but for `more`."""
    given: dict[str, Any] = {
        "driver": "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.178.04  Release\n",
        "devices": ["0", "1", "GPU-1111", "GPU-2222", "all"],
        "problems": [],
        "toolkit": answer("NVIDIA Container Toolkit CLI version 1.20.0"),
        "gpus": answer(GPUS),
        "folders": answer('["/etc/cdi","/var/run/cdi"]'),
        "first": answer(GPUS),
        "second": answer(GPUS),
        **more,
    }
    name = "__nvidia_container_toolkit_"
    said = value(
        "nvidia_container_toolkit",
        f"{name}findings",
        {
            "nvidia_container_toolkit_image": "aibox/vllm:1",
            f"{name}driver": answer(given["driver"]),
            f"{name}listed": {"devices": given["devices"], "problems": given["problems"]},
            f"{name}answers": {"results": [given["toolkit"], given["gpus"], given["folders"]]},
            f"{name}container": answer("id"),
            f"{name}first": given["first"],
            f"{name}second": given["second"],
        },
    )
    return {one.check: one for one in TypeAdapter(list[Finding]).validate_python(said)}


LOST = answer("Failed to initialize NVML: Unknown Error", 255)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, {}),
        ({"toolkit": answer("", 127)}, {"container toolkit": Status.VETO}),
        (
            {"toolkit": answer("NVIDIA Container Toolkit CLI version 1.17.8")},
            {"container toolkit": Status.VETO},
        ),
        ({"devices": ["0", "GPU-1111", "all"]}, {"GPUs for containers": Status.VETO}),
        ({"devices": ["GPU-1111", "GPU-2222"]}, {"GPUs for containers": Status.VETO}),
        ({"problems": ["there is no /dev/nvidia9"]}, {"list of GPUs is true": Status.VETO}),
        ({"folders": answer("null")}, {"Docker knows CDI": Status.VETO}),
        ({"second": LOST}, {"GPUs in a container": Status.VETO}),
        (
            {"first": answer(GPUS[:45]), "second": answer(GPUS[:45])},
            {"GPUs in a container": "veto"},
        ),
        (
            {"gpus": answer(SLICES), "first": answer(SLICES), "second": answer(SLICES)},
            {"GPUs for containers": Status.VETO},
        ),
        (
            {"driver": "", "devices": [], "problems": ["it names no device"]},
            {
                "GPUs for containers": Status.WARN,
                "list of GPUs is true": Status.WARN,
                "GPUs in a container": Status.WARN,
            },
        ),
    ],
)
def test_a_host_is_judged(more: dict[str, Any], expected: dict[str, Status]) -> None:
    found = findings(**more)
    assert {name: one.status for name, one in found.items() if one.status != "ok"} == expected
    assert all(": " in one.fix for one in found.values())


def test_gpus_lost_after_a_reload_are_told_as_before_and_after() -> None:
    found = findings(second=LOST)["GPUs in a container"].found
    assert found.index("GPU-1111") < found.index("; after: Failed to initialize NVML")


@pytest.mark.parametrize(
    ("available", "fits"),
    [
        (["nvidia-container-toolkit-base=1.20.0-1"], True),
        (["nvidia-container-toolkit-base=1.20.0-1", "libnvidia-container1=1.20.0-1"], True),
        (["nvidia-container-toolkit-base=1.20.0-1", "libnvidia-container1=1.19.1-1"], False),
        (["nvidia-container-toolkit-base=1.17.8-1"], False),
        (["nvidia-container-toolkit-base=0:1.20.0-1", "libc6=2.41"], True),
        ([], False),
    ],
)
def test_packages_of_one_new_enough_version_belong_together(
    available: list[str], fits: bool
) -> None:
    given = {"nvidia_container_toolkit_available": available}
    name = "__nvidia_container_toolkit_fits"
    assert value("nvidia_container_toolkit", name, given) is fits
