"""Docker, CDI and the engines' containers; numbers are rows of the list of known failures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from aibox.checks import containers
from aibox.checks.evidence import Source
from aibox.preflight import Status
from gpu_texts import DRIVER, HOST, WANTED, asset, evidence, named, saying, states

GOOD, WARN, BAD = [Status.OK], [Status.WARN], [Status.VETO]
INFO = asset("docker-info.29.7.2.txt")


def docker(old: str = "", new: str = "") -> str:
    assert old in INFO
    return INFO.replace(old, new)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INFO, GOOD),
        (docker("Version: 29.7.2", "Version: 26.1.0"), GOOD),
        (docker("Version: 29.7.2", "Version: 20.10.24+dfsg1"), BAD),
        (docker("Version: 29.7.2", "Version: 29.5.1"), WARN),
        ("Client:\n Version: 28.2.2\n", []),
    ],
    ids=["new", "the first with CDI", "old", "25", "no server"],
)
def test_docker_is_new_enough_for_cdi(text: str, expected: list[Status]) -> None:
    known = saying(Source.DOCKER, text, evidence(wanted=WANTED))
    assert states(named(containers.examine, known, "docker and gpus")) == expected


def test_an_old_docker_is_only_a_doubt_before_there_is_a_box() -> None:
    known = saying(Source.DOCKER, docker("Version: 29.7.2", "Version: 20.10.24"))
    assert states(named(containers.examine, known, "docker and gpus")) == WARN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (INFO, GOOD),
        (docker("Default Runtime: runc", "Default Runtime: nvidia"), WARN),
        (docker("cdi: nvidia.com/gpu", "cdi: other.com/gpu"), BAD),
    ],
)
def test_6_docker_knows_the_gpus_by_cdi(text: str, expected: list[Status]) -> None:
    known = saying(Source.DOCKER, text, evidence(wanted=WANTED))
    assert states(named(containers.examine, known, "gpu devices")) == expected


CDI = "hostPath: /usr/lib/libcuda.so.{}\npath: /dev/nvidia0\n"


@pytest.mark.parametrize(
    ("version", "lost", "expected"),
    [
        (DRIVER, (), GOOD),
        (DRIVER, ("/dev/nvidia-uvm",), BAD),
        ("550.90.07", (), BAD),
    ],
)
def test_17_the_cdi_specification_is_of_this_driver_and_whole(
    version: str, lost: tuple[str, ...], expected: list[Status]
) -> None:
    known = saying(Source.CDI, CDI.format(version), evidence(lost=lost))
    found = named(containers.examine, known, "cdi specification")
    assert states(found) == expected
    assert expected == GOOD or found[0].fix.endswith("--output=/var/run/cdi/nvidia.yaml")


def units(docker_at: int, made_at: int, after: str = "") -> str:
    return (
        f"Id=docker.service\nLoadState=loaded\nAfter={after}\n"
        f"ActiveEnterTimestampMonotonic={docker_at}\n\n"
        "Id=nvidia-cdi-refresh.service\nLoadState=loaded\n"
        f"ExecMainExitTimestampMonotonic={made_at}\n"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units(5_000_000, 4_000_000), GOOD),
        (units(4_000_000, 5_500_000), WARN),
        (units(4_000_000, 5_500_000, "basic.target nvidia-cdi-refresh.service"), GOOD),
        (units(0, 5_000_000), GOOD),
        ("", []),
    ],
)
def test_18_the_specification_is_made_before_docker_starts(
    text: str, expected: list[Status]
) -> None:
    found = named(containers.examine, saying(Source.UNITS, text), "order at boot")
    assert states(found) == expected
    assert expected != WARN or "1.5 s" in found[0].found


@pytest.mark.parametrize(
    ("versions", "driver", "expected"),
    [
        (("1.20.0-1", "1.20.0-1"), "580.95.05", GOOD),
        (("1.20.0-1", "1.19.1-1"), "580.95.05", BAD),
        (("1.17.8-1", "1.17.8-1"), "580.95.05", WARN),
        (("1.17.8-1", "1.17.8-1"), "550.54.14", GOOD),
        ((), "580.95.05", []),
    ],
)
def test_1_the_toolkit_is_of_one_version_that_knows_this_driver(
    versions: tuple[str, ...], driver: str, expected: list[Status]
) -> None:
    names = ("nvidia-container-toolkit-base", "libnvidia-container1")
    rows = "".join(f"ii \t{n}\t{v}\n" for n, v in zip(names, versions, strict=False))
    known = saying(Source.PACKAGES, rows, evidence(replace(HOST, driver=driver)))
    assert states(named(containers.examine, known, "container toolkit")) == expected


def inspected(
    shared_mib: int = 4096, gpus: int = 2, driver: str = "cdi", files: int = 65536, env: str = "A=b"
) -> str:
    devices = [f"nvidia.com/gpu={n}" for n in range(gpus)]
    host = {
        "ShmSize": shared_mib << 20,
        "Ulimits": [{"Name": "nofile", "Soft": files}],
        "DeviceRequests": [{"Driver": driver, "DeviceIDs": devices}],
    }
    return json.dumps([{"Name": "/aibox-chat-1", "HostConfig": host, "Config": {"Env": [env]}}])


@pytest.mark.parametrize(
    ("text", "check", "expected"),
    [
        (inspected(), "shared memory", GOOD),
        (inspected(shared_mib=64), "shared memory", BAD),
        (inspected(shared_mib=2047), "shared memory", BAD),
        (inspected(shared_mib=64, gpus=1), "shared memory", GOOD),
        (inspected(), "open files", []),
        (inspected(files=1024), "open files", WARN),
        (inspected(), "devices", []),
        (inspected(driver="nvidia"), "devices", WARN),
        (inspected(env="CUDA_VISIBLE_DEVICES=MIG-1b2c"), "devices", BAD),
        (inspected(env="CUDA_VISIBLE_DEVICES=0"), "devices", []),
    ],
    ids=["fine", "11", "11 of two", "one GPU", "fine", "30", "fine", "6", "22", "an index"],
)
def test_how_an_engines_container_is_made(text: str, check: str, expected: list[Status]) -> None:
    known = saying(Source.CONTAINERS, text)
    assert states(named(containers.examine, known, f"aibox-chat-1 {check}")) == expected


def test_a_container_without_gpus_is_not_judged() -> None:
    text = '[{"Name": "/aibox-chat-1", "HostConfig": {"ShmSize": 64}, "Config": {}}]'
    assert list(containers.examine(saying(Source.CONTAINERS, text))) == []
