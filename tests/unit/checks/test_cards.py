"""Cards: those of the profile, all of them there, and each healthy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aibox import checks
from aibox.checks import cards
from aibox.checks.evidence import Evidence, Source
from aibox.hardware import Fabric, Gpu, Machine, Quantisation
from aibox.preflight import Status
from gpu_texts import CARDS, HOST, SMI, WANTED, asset, evidence, named, saying, states
from machines import ONE_4090, RTX_4090, TWO_A100

GOOD, WARN, BAD = [Status.OK], [Status.WARN], [Status.VETO]


def changed(old: str, new: str, *, first: bool = True) -> Evidence:
    """The published output with one value changed, in the first card alone."""
    assert old in SMI
    return saying(Source.CARDS, SMI.replace(old, new, 1 if first else -1))


def test_two_healthy_cards_are_one_finding_each() -> None:
    found = list(cards.examine(evidence(wanted=WANTED)))
    assert [one.check for one in found] == [
        *("gpu profile", "gpu answers", "gpu 0", "gpu 1", "persistence"),
    ]
    assert {one.status for one in found} == {Status.OK}
    assert found[2].found == "NVIDIA H100 NVL, 95830 MiB"


@pytest.mark.parametrize(
    ("old", "new", "check", "expected"),
    [
        ("Remapping Failure Occurred        : No", "Remapping Failure Occurred        : Yes",
         "gpu 0 memory errors", BAD),
        ("        Pending                           : No", "        Pending  : Yes",
         "gpu 0 memory errors", WARN),
        ("DRAM Uncorrectable            : 0", "DRAM Uncorrectable            : 2",
         "gpu 0 memory errors", WARN),
        ("SRAM Uncorrectable SEC-DED    : 0", "SRAM Uncorrectable SEC-DED    : 1",
         "gpu 0 memory errors", WARN),
        ("Reset Required                    : No", "Reset Required                    : Yes",
         "gpu 0 state", BAD),
        ("    GSP Firmware", "    GPU Recovery Action                   : Reset\n    GSP Firmware",
         "gpu 0 state", BAD),
        ("    GSP Firmware", "    GPU Recovery Action                   : None\n    GSP Firmware",
         "gpu 0 state", []),
        ("HW Thermal Slowdown           : Not Active", "HW Thermal Slowdown           : Active",
         "gpu 0 state", WARN),
        ("HW Power Brake Slowdown       : Not Active", "HW Power Brake Slowdown       : Active",
         "gpu 0 state", WARN),
        ("Current                   : 16x", "Current                   : 8x",
         "gpu 0 bus", WARN),
        ("Total                             : 131072 MiB", "Total  : 0 MiB", "gpu 0 bus", BAD),
        ("Persistence Mode                      : Enabled",
         "Persistence Mode                      : Disabled", "persistence", WARN),
    ],
)  # fmt: skip
def test_a_fault_of_one_card_is_told_of_that_card(
    old: str, new: str, check: str, expected: list[Status]
) -> None:
    known = changed(old, new)
    assert states(named(cards.examine, known, check)) == expected
    assert states(named(cards.examine, known, "gpu 1")) == GOOD
    assert (not expected or check == "persistence") == bool(named(cards.examine, known, "gpu 0"))


def test_errors_of_the_cards_whole_life_are_no_fault() -> None:
    aggregate = SMI.rindex("DRAM Uncorrectable            : 0")
    text = SMI[:aggregate] + SMI[aggregate:].replace(": 0", ": 7", 1)
    known = saying(Source.CARDS, text)
    assert states(named(cards.examine, known, "gpu 1")) == GOOD


def test_a_card_on_the_bus_that_does_not_answer_is_named() -> None:
    one = SMI[: SMI.index("GPU 00000000:AE")]
    (found,) = named(cards.examine, saying(Source.CARDS, one), "gpu answers")
    assert (found.status, found.found) == (Status.VETO, "0000:ae:00.0 does not answer")


def test_why_no_card_answers_is_told() -> None:
    known = Evidence(HOST, refused={Source.CARDS: "NVML did not answer within 20 s"})
    (found,) = named(cards.examine, known, "gpu answers")
    assert found.found.endswith("0000:ae:00.0 does not answer: NVML did not answer within 20 s")


def test_a_card_given_to_a_virtual_machine_is_not_expected_to_answer() -> None:
    gpus = (CARDS[0], replace(CARDS[1], kernel_driver="vfio-pci"))
    one = SMI[: SMI.index("GPU 00000000:AE")]
    known = saying(Source.CARDS, one, evidence(replace(HOST, gpus=gpus)))
    assert states(named(cards.examine, known, "gpu answers")) == GOOD


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (Machine(), "no NVIDIA GPU"),
        (replace(HOST, gpus=CARDS[:1]), "needs 2 of"),
        (replace(HOST, gpus=(CARDS[0], replace(CARDS[1], mig=True))), "in slices"),
        (replace(HOST, gpus=(CARDS[0], replace(CARDS[1], memory_mib=40000))), "40000 MiB"),
        (replace(HOST, fabric=Fabric.NVSWITCH), "nvswitch"),
    ],
)
def test_other_gpus_than_the_profiles_are_a_fault(machine: Machine, told: str) -> None:
    """22 and 29 are slices of MIG."""
    (found,) = named(cards.examine, Evidence(machine, WANTED), "gpu profile")
    assert found.status is Status.VETO
    assert told in found.found
    assert found.fix.endswith("./aibox profiles")
    assert checks.of_hardware(Evidence(machine, WANTED)) == (found,)


def test_warnings_of_a_profile_are_told_without_refusing_the_host() -> None:
    host = Machine(gpus=(Gpu("0000:01:00.0", RTX_4090, memory_mib=24564),), driver="580.95.05")
    assert states(list(checks.of_hardware(Evidence(host, ONE_4090)))) == WARN


def test_23_a_card_that_does_not_compute_in_a_format_of_the_profile() -> None:
    formats = WANTED.model_copy(update={"quantisations": (Quantisation.FP8, Quantisation.NVFP4)})
    found = named(cards.examine, evidence(wanted=formats), "gpu profile")
    assert [one.found for one in found if one.status is Status.VETO] == [
        f"{one} does not compute in nvfp4" for one in CARDS
    ]


def test_without_a_driver_only_the_bus_is_judged() -> None:
    bare = tuple(Gpu(one.address, one.pci_id) for one in CARDS)
    found = list(cards.examine(Evidence(replace(HOST, gpus=bare, driver=""), WANTED)))
    assert [(one.check, one.status) for one in found] == [("gpu profile", Status.WARN)]
    assert "PCI ids decided alone" in found[0].found


def test_a_host_without_gpus_gets_one_finding_unless_its_box_needs_some() -> None:
    (found,) = checks.examine(Evidence(Machine()))
    assert (found.check, found.status) == ("gpus", Status.OK)
    (lost,) = checks.examine(Evidence(Machine(), TWO_A100))
    assert lost.status is Status.VETO


def test_what_could_not_be_looked_at_is_no_pass() -> None:
    user = replace(HOST, root=False)
    known = evidence(user, refused={Source.KERNEL_LOG: "Operation not permitted"})
    found = checks.examine(known)[-1]
    assert (found.check, found.status) == ("gpu checks", Status.WARN)
    assert found.found == "could not look at dmesg: Operation not permitted"
    assert found.fix.endswith("sudo ./aibox doctor")
    assert checks.examine(replace(known, machine=HOST))[-1].fix.endswith(": dmesg")


def test_published_texts_of_other_machines_do_not_make_the_checks_stumble() -> None:
    for name in ("topo.h100.txt", "dmesg.xid-79.txt", "docker-info.29.7.2.txt"):
        for source in Source:
            assert checks.examine(saying(source, asset(name)))
