"""Fabric Manager, links and IOMMU; numbers are rows of the list of known failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aibox.checks import fabric
from aibox.checks.evidence import Evidence, Source
from aibox.hardware import Fabric, Hardware, PeerToPeer
from aibox.preflight import Status
from gpu_texts import CARDS, DRIVER, HOST, SMI, WANTED, asset, evidence, named, saying, states

GOOD, WARN, BAD = [Status.OK], [Status.WARN], [Status.VETO]
SWITCHED = replace(HOST, fabric=Fabric.NVSWITCH)
ACTIVE = "Id=nvidia-fabricmanager.service\nLoadState=loaded\nActiveState=active\n"
PCIE = WANTED.model_copy(update={"peer_to_peer": PeerToPeer.PCIE})
FOUR = replace(HOST, gpus=tuple(replace(CARDS[0], address=f"0000:{n}0:00.0") for n in range(1, 5)))
PAIR_OF_FOUR = WANTED.model_copy(update={"count": 4})


@pytest.mark.parametrize(
    ("units", "expected", "fix"),
    [
        (ACTIVE, GOOD, ""),
        (ACTIVE.replace("active\n", "failed\n"), BAD, "systemctl enable --now"),
        ("", BAD, "./aibox install"),
    ],
)
def test_7_switches_want_fabric_manager(units: str, expected: list[Status], fix: str) -> None:
    known = saying(Source.UNITS, units, evidence(SWITCHED))
    found = named(fabric.examine, known, "fabric manager")
    assert states(found) == expected
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("source", "text", "expected"),
    [
        (Source.FABRIC_MANAGER, f"Fabric Manager version is : {DRIVER}", GOOD),
        (Source.FABRIC_MANAGER, "Fabric Manager version is : 550.54.15", BAD),
        (Source.PACKAGES, f"ii \tnvidia-fabricmanager-550\t{DRIVER}-1\n", GOOD),
        (Source.PACKAGES, "hi \tnvidia-fabricmanager\t550.90.07-1\n", BAD),
        (Source.PACKAGES, "ii \tnvidia-fabric-manager\t550.90.07-1\n", BAD),
        (Source.PACKAGES, "", []),
    ],
)
def test_8_fabric_manager_is_the_drivers_to_the_patch_level(
    source: Source, text: str, expected: list[Status]
) -> None:
    known = saying(source, text, evidence(SWITCHED))
    assert states(named(fabric.examine, known, "fabric manager version")) == expected


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("Completed", "Success", []),
        ("In Progress", "N/A", BAD),
        ("Completed", "Insufficient Resources", BAD),
        ("N/A", "N/A", []),
    ],
)
def test_7_gpus_that_wait_for_the_fabric(state: str, status: str, expected: list[Status]) -> None:
    head, section, tail = SMI.partition("    Fabric\n")
    told = tail.replace(": N/A", f": {state}", 1).replace(": N/A", f": {status}", 1)
    if state == "N/A":
        told = tail
    known = saying(Source.CARDS, head + section + told, evidence(SWITCHED))
    assert states(named(fabric.examine, known, "fabric state")) == expected


def test_without_switches_nothing_is_said_of_a_fabric() -> None:
    checks = {one.check for one in fabric.examine(evidence(wanted=WANTED))}
    assert not any("fabric" in one for one in checks)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        (asset("topo.h100.txt"), PAIR_OF_FOUR, GOOD),
        (asset("topo.rtx5060ti.txt"), PAIR_OF_FOUR, WARN),
        (asset("topo.rtx5060ti.txt"), PCIE.model_copy(update={"count": 4}), GOOD),
        (asset("topo.rtx5060ti.txt").replace("PHB", "SYS"), PCIE, WARN),
        (asset("topo.h100.txt").replace("NV6", "SYS", 1), PAIR_OF_FOUR, WARN),
        (asset("topo.h100.txt"), None, GOOD),
        ("", PAIR_OF_FOUR, []),
    ],
)
def test_10_links_are_those_that_the_profile_counts_on(
    text: str, wanted: Hardware | None, expected: list[Status]
) -> None:
    known = saying(Source.TOPOLOGY, text, evidence(FOUR, wanted))
    assert states(named(fabric.examine, known, "links between GPUs")) == expected


def test_links_of_cards_the_box_does_not_use_do_not_matter() -> None:
    text = asset("topo.h100.txt")
    slow = "\n".join(
        line.replace("NV6", "SYS") if line.startswith("GPU3") else line
        for line in text.splitlines()
    )
    known = saying(Source.TOPOLOGY, slow, evidence(FOUR, WANTED))
    assert states(named(fabric.examine, known, "links between GPUs")) == GOOD


def test_a_link_that_is_down_is_counted() -> None:
    text = "GPU 0: NVIDIA H100\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n"
    (found,) = named(fabric.examine, saying(Source.LINKS, text), "nvlink")
    assert found.found == "1 links are down"


@pytest.mark.parametrize(
    ("line", "there", "wanted", "expected"),
    [
        ("ro quiet", True, PCIE, WARN),
        ("ro iommu=pt quiet", True, PCIE, GOOD),
        ("amd_iommu=off", True, PCIE, GOOD),
        ("ro quiet", False, PCIE, []),
        ("ro quiet", True, WANTED, []),
        ("ro quiet", True, None, []),
    ],
)
def test_10_an_iommu_that_translates_between_cards_on_pcie(
    line: str, there: bool, wanted: Hardware | None, expected: list[Status]
) -> None:
    known: Evidence = saying(Source.COMMAND_LINE, line, evidence(wanted=wanted, iommu=there))
    assert states(named(fabric.examine, known, "iommu")) == expected


def test_a_single_gpu_has_no_links() -> None:
    one = evidence(replace(HOST, gpus=CARDS[:1]))
    assert list(fabric.examine(one)) == []
