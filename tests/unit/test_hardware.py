"""Whether a profile's GPUs are those of a host: every reason, every note, and what never holds."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from aibox import hardware
from aibox.hardware import Fabric, Gpu, Hardware, Machine, match
from machines import A100_PCIE, A100_SXM, ONE_4090, RTX_4090, T4, TWO_A100, gpu, machine

TWO = machine(gpu(), gpu())


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"count": 1}, "no peer"),
        ({"driver_min": "570.86.15"}, "driver_branch"),
        ({"fabric": "nvswitch", "peer_to_peer": "pcie"}, "NVLink"),
        ({"gpus": ()}, "gpus"),
        ({"gpus": ("10DE:20B5",)}, "gpus"),
        ({"count": 0}, "count"),
        ({"memory_mib_min": 0}, "memory_mib_min"),
        ({"driver_min": "580"}, "driver_min"),
        ({"quantisations": ("q4_k_m",)}, "quantisations"),
        ({"vendor": "nvidia"}, "vendor"),
    ],
)
def test_hardware_that_contradicts_itself_is_refused(about: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Hardware.model_validate({**TWO_A100.model_dump(), **about})


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (machine(), "the host has no NVIDIA GPU"),
        (machine(gpu()), "needs 2 of .* the host has 1 of 10de:20b5 Card"),
        (machine(gpu(T4), gpu(T4)), "the host has 2 of 10de:1eb8 Card"),
        (machine(gpu(), gpu(T4)), "the host has 1 of 10de:20b5 Card, 1 of 10de:1eb8 Card"),
        (machine(gpu(T4), gpu(), gpu()), "GPU 0 is another one .*counts its GPUs from the first"),
        (machine(gpu(), gpu(T4), gpu()), "GPU 1 is another one"),
        (machine(gpu(), gpu(mig=True)), r"GPU 1 is in slices \(MIG\).*nvidia-smi -i 1 -mig 0"),
        (machine(gpu(), gpu(memory_mib=40960)), "GPU 1 reports 40960 MiB, needs 81000"),
        (machine(gpu(), gpu(), fabric=Fabric.NVSWITCH), "the host has 'nvswitch'"),
    ],
)
def test_a_host_that_does_not_fit_is_told_why(host: Machine, reason: str) -> None:
    found = match(TWO_A100, host)
    assert not found.fits
    assert len(found.reasons) == 1
    assert re.search(reason, found.reasons[0])


@pytest.mark.parametrize(
    ("host", "note"),
    [
        (TWO, None),
        (machine(gpu(), gpu(A100_SXM)), None),
        (machine(gpu(), gpu(), gpu()), "leaves 1 GPU unused"),
        (machine(gpu(), gpu(), gpu(T4), gpu(T4)), "leaves 2 GPUs unused"),
        (replace(TWO, driver="570.86.15"), "570.86.15 is older than 580.65.06"),
        (replace(TWO, driver="580.65.05"), "older"),
        (replace(TWO, driver="595.71.05"), "of another branch than 580"),
        (replace(TWO, driver="580.178.04"), None),
        (replace(TWO, driver=""), None),
        (
            machine(gpu(memory_mib=None), gpu(memory_mib=None), driver=""),
            "PCI ids decided alone; 81000 MiB",
        ),
    ],
)
def test_a_host_that_fits_is_told_what_to_know(host: Machine, note: str | None) -> None:
    found = match(TWO_A100, host)
    assert found.fits, found.reasons
    assert len(found.notes) == (note is not None)
    assert note is None or note in found.notes[0]


def test_a_profile_without_gpus_fits_every_host_and_says_what_it_leaves() -> None:
    assert match(None, machine()) == hardware.Match()
    assert match(None, TWO).notes == ("leaves 2 GPUs unused",)


def test_warnings_of_a_profile_are_among_the_notes() -> None:
    assert match(ONE_4090, machine(gpu(RTX_4090, 24564))).notes == ("ask NVIDIA",)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("580.65.06", (580, 65, 6)), ("595.84", (595, 84)), ("", ()), ("580.x", (580,))],
)
def test_versions_are_numbers(text: str, numbers: tuple[int, ...]) -> None:
    assert hardware.version(text) == numbers


GPUS = st.builds(
    Gpu,
    address=st.just("0000:17:00.0"),
    pci_id=st.sampled_from([A100_PCIE, A100_SXM, T4, RTX_4090, "10de:ffff"]),
    memory_mib=st.none() | st.integers(0, 200_000),
    mig=st.booleans(),
)
MACHINES = st.builds(
    Machine,
    gpus=st.lists(GPUS, max_size=5).map(tuple),
    fabric=st.sampled_from(Fabric),
    driver=st.sampled_from(["", "570.1", "580.65.06", "999"]),
)


@given(MACHINES)
def test_what_fits_has_every_gpu_it_needs(host: Machine) -> None:
    found = match(TWO_A100, host)
    mine = hardware.used(TWO_A100, host)
    good = [
        one.pci_id in TWO_A100.gpus
        and not one.mig
        and (one.memory_mib is None or one.memory_mib >= TWO_A100.memory_mib_min)
        for one in mine
    ]
    assert found.fits == (len(mine) == 2 and all(good) and host.fabric is Fabric.NONE)
    unknown = any(one.memory_mib is None for one in mine)
    assert not found.fits or unknown == any("PCI ids decided" in note for note in found.notes)


@given(MACHINES)
def test_a_driver_is_never_a_reason(host: Machine) -> None:
    assert match(TWO_A100, host).reasons == match(TWO_A100, replace(host, driver="")).reasons
