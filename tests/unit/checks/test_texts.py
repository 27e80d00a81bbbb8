"""From published outputs to values; and what nobody understands is left out, never raised."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.checks import texts
from gpu_texts import SMI, asset


def test_cards_are_read_by_section() -> None:
    found = texts.cards(SMI)
    assert (found.driver, found.cuda) == ("550.54.14", "12.4")
    assert [card.address for card in found.cards] == ["0000:ad:00.0", "0000:ae:00.0"]
    first = found.cards[0]
    assert first.get("Product Name") == "NVIDIA H100 NVL"
    assert first.get("MIG Mode/Current") == "Disabled"
    assert first.get("ECC Errors/Volatile/DRAM Uncorrectable") == "0"
    assert first.get("Remapped Rows/Remapping Failure Occurred") == "No"
    assert first.get("Clocks Event Reasons/HW Slowdown/HW Thermal Slowdown") == "Not Active"
    assert first.get("Fabric/State") == ""
    assert first.number("FB Memory Usage/Total") == 95830
    assert first.number("PCI/GPU Link Info/Link Width/Max") == 16
    assert first.number("Retired Pages/Double Bit ECC") is None


def test_sections_of_one_name_are_told_apart() -> None:
    first = texts.cards(SMI).cards[0]
    assert first.get("ECC Errors/Aggregate/DRAM Uncorrectable") == "0"
    assert first.get("BAR1 Memory Usage/Total") == "131072 MiB"
    assert first.get("GPU Memory Power Readings/Power Draw") == ""


def test_modules_of_dkms_old_and_new() -> None:
    assert texts.dkms(asset("dkms.added.txt")) == (texts.Module("nvidia", "390.157", "", "added"),)
    old = "nvidia, 535.54.03, 5.15.0-76-generic, x86_64: installed (original_module exists)\n"
    new = "nvidia-current-open/550.163.01, 6.12.107+deb13-amd64, x86_64: built\n"
    assert texts.dkms(old + new) == (
        texts.Module("nvidia", "535.54.03", "5.15.0-76-generic", "installed"),
        texts.Module("nvidia-current-open", "550.163.01", "6.12.107+deb13-amd64", "built"),
    )


def test_packages_are_those_that_are_installed() -> None:
    text = (
        "ii \tlibnvidia-compute-580-server\t580.126.09-0ubuntu1\n"
        "hi \tnvidia-utils-580-server:amd64\t580.126.09-0ubuntu1\n"
        "rc \tlibnvidia-compute-535\t535.86.05-0ubuntu1\n"
        "dpkg-query: no packages found matching linux-modules-*\n"
    )
    assert texts.packages(text) == (
        texts.Package("libnvidia-compute-580-server", "580.126.09-0ubuntu1", False),
        texts.Package("nvidia-utils-580-server", "580.126.09-0ubuntu1", True),
    )


def test_units_that_are_not_there_are_left_out() -> None:
    text = "Id=a.service\nLoadState=loaded\nAfter=b.service\n\nId=c.service\nLoadState=not-found\n"
    assert list(texts.units(text)) == ["a.service"]


def test_topologies_of_gpus_alone() -> None:
    without = texts.topology(asset("topo.rtx5060ti.txt"))
    assert len(without) == 12
    assert set(without.values()) == {"PHB"}
    linked = texts.topology(asset("topo.h100.txt"))
    assert {linked[row, column] for row in range(4) for column in range(4) if row != column} == {
        "NV6"
    }
    assert linked[0, 4] == "PIX"


def test_docker_with_and_without_devices() -> None:
    found = texts.docker(asset("docker-info.29.7.2.txt"))
    assert found.version == "29.7.2"
    assert (found.cgroup_driver, found.default_runtime) == ("systemd", "runc")
    assert found.cdi_devices[0] == "nvidia.com/gpu=0"
    assert texts.docker("Client:\n Version: 28\n").version == ""


def test_containers_as_docker_inspects_them() -> None:
    text = """[{"Name": "/aibox-chat-1", "HostConfig": {"ShmSize": 67108864, "Ulimits":
    [{"Name": "nofile", "Soft": 1024, "Hard": 1024}], "DeviceRequests": [{"Driver": "cdi",
    "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}]},
    "Config": {"Env": ["A=b", "CUDA_VISIBLE_DEVICES=MIG-1"]}}, {"Name": "/x", "HostConfig":
    {"Ulimits": null, "DeviceRequests": null}, "Config": {"Env": null}}]"""
    chat, other = texts.containers(text)
    assert (chat.name, chat.shared_memory, chat.open_files) == ("aibox-chat-1", 64 << 20, 1024)
    assert chat.devices == (("cdi", ("nvidia.com/gpu=0", "nvidia.com/gpu=1")),)
    assert chat.visible == "MIG-1"
    assert other == texts.Container("x", 0, None, (), "")


@pytest.mark.parametrize("text", ["no JSON", "1", "[1]", '[{"HostConfig": 1}]', "[" * 5000])
def test_what_docker_never_says_is_no_container(text: str) -> None:
    assert texts.containers(text) == ()


def test_paths_of_a_cdi_specification() -> None:
    found = texts.cdi_paths(asset("cdi.520.61.05.yaml"))
    assert found == (
        "/usr/lib64/libnvoptix.so.520.61.05",
        "/usr/lib64/libnvidia-tls.so.520.61.05",
        "/dev/nvidia-modeset",
        "/dev/nvidia-uvm-tools",
        "/dev/nvidia-uvm",
        "/dev/nvidiactl",
    )
    assert texts.cdi_paths('{"hostPath": "/a/b", "path": "/dev/x"}') == ("/a/b", "/dev/x")
    assert texts.cdi_drivers("hostPath: /usr/lib/libcuda.so.580.95.05") == {"580.95.05"}


def test_device_numbers_that_a_cdi_specification_fixes() -> None:
    text = """
containerEdits:
  deviceNodes: [{path: /dev/nvidiactl}, {path: /dev/nvidia-uvm, major: 510, minor: 0}]
devices:
- name: "0"
  containerEdits: {deviceNodes: [{path: /dev/nvidia0, hostPath: /dev/nv0, major: 195, minor: 0}]}
"""
    assert texts.cdi_numbers(text) == {"/dev/nvidia-uvm": (510, 0), "/dev/nv0": (195, 0)}
    assert texts.cdi_numbers(asset("cdi.520.61.05.yaml")) == {}


READERS: list[Callable[[str], object]] = [
    *(texts.cards, texts.fields, texts.dkms, texts.packages, texts.units, texts.topology),
    *(texts.loaded_modules, texts.docker, texts.containers, texts.cdi_paths, texts.cdi_drivers),
    texts.cdi_numbers,
]


@pytest.mark.parametrize("read", READERS)
@given(text=st.text() | st.sampled_from([SMI[:n] for n in range(0, 4000, 97)]))
def test_no_text_makes_a_reader_raise(read: Callable[[str], object], text: str) -> None:
    read(text)
