"""The profile that is proposed where none is named, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.hardware import Gpu, Machine
from aibox.profile import Runtime
from aibox.profile_choice import Candidate, ProfileMissing, Proposal, judge, propose
from examples import profile
from machines import A100_PCIE, RTX_4090, T4, TWO_A100, gpu, machine

LOCAL = Candidate.of(profile())
REQUIRED = LOCAL.requires
assert REQUIRED is not None
SERVER = REQUIRED.model_copy(update={"memory_mib_min": 16000})
CPU = Candidate("cpu", "A server", Runtime.CONTAINER, SERVER, None)
A100X2 = replace(CPU, name="a100x2", hardware=TWO_A100)
A100X1 = replace(
    CPU,
    name="a100x1",
    hardware=TWO_A100.model_copy(update={"count": 1}),
)
# As a100x1, for the same card with half the memory.
A100X1_SMALL = replace(
    A100X1,
    name="a100x1-40",
    hardware=TWO_A100.model_copy(update={"count": 1, "memory_mib_min": 40000}),
)
ALL = (LOCAL, CPU, A100X1_SMALL, A100X1, A100X2)


def chosen(host: Machine) -> str | None:
    found = propose(ALL, host)
    return found.chosen.name if found.chosen else None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        (machine(gpu(), gpu()), "a100x2"),
        (machine(gpu(), gpu(), gpu(T4)), "a100x2"),
        (machine(gpu()), "a100x1"),
        (machine(gpu(memory_mib=40960)), "a100x1-40"),
        (machine(gpu(), gpu(mig=True)), "a100x1"),
        (machine(gpu(T4)), "cpu"),
        (machine(), "cpu"),
        (machine(memory_mib=8000), "local"),
        (machine(memory_mib=0), "cpu"),
        (machine(root=False), "local"),
        (machine(gpu(), gpu(), root=False), "local"),
        (machine(architecture="riscv64"), None),
    ],
)
def test_what_uses_most_of_the_host_is_proposed(host: Machine, name: str | None) -> None:
    assert chosen(host) == name


def test_a_user_with_gpus_is_told_that_root_could_use_them() -> None:
    found = propose(ALL, machine(gpu(), gpu(), root=False))
    assert "  not a100x2: needs root: sudo ./aibox install --profile a100x2" in found.lines()


def test_the_reasons_of_every_other_profile_are_told() -> None:
    lines = propose(ALL, machine(gpu())).lines()
    assert lines[0] == "this host has:"
    assert lines[1] == f"  GPU 0: Card {A100_PCIE} at 0000:11:00.0"
    assert lines[2] == "proposed: a100x1: fits"
    assert "  or cpu: fits; leaves 1 GPU unused" in lines
    assert any(line.startswith("  not a100x2: needs 2 of") for line in lines)


def test_of_those_that_do_not_fit_the_ones_that_lack_least_come_first() -> None:
    found = propose(ALL, machine(gpu(), gpu(), memory_mib=8000))
    assert [one.name for one in found.others] == ["a100x2", "a100x1", "a100x1-40", "cpu"]
    alone = propose(ALL, machine(memory_mib=8000))
    assert alone.others[0].name == "cpu"


def test_what_could_not_be_read_is_told() -> None:
    host = machine(gpu(), problems=("NVML: Driver/library version mismatch",))
    assert "  NVML: Driver/library version mismatch" in propose(ALL, host).lines()


def test_where_nothing_fits_the_hint_leads_to_the_profiles() -> None:
    error = ProfileMissing(propose(ALL, machine(architecture="riscv64")))
    assert "no profile fits this host" in error.message
    assert error.hint.endswith("./aibox profiles")
    assert error.as_json()["proposal"] == error.proposal.as_json()
    assert error.proposal.as_json()["profile"] is None


def test_a_release_of_a_bundle_that_says_nothing_of_a_host_fits() -> None:
    silent = replace(CPU, requires=None)
    assert judge(silent, machine()).fits


GPUS = st.builds(
    Gpu,
    address=st.just("0000:17:00.0"),
    pci_id=st.sampled_from([A100_PCIE, T4, RTX_4090]),
    memory_mib=st.none() | st.sampled_from([15360, 40960, 81920]),
    mig=st.booleans(),
)


@given(
    st.builds(
        Machine,
        gpus=st.lists(GPUS, max_size=4).map(tuple),
        memory_mib=st.sampled_from([0, 8000, 256000]),
        root=st.booleans(),
    ),
    st.permutations(ALL),
)
def test_every_profile_is_judged_once_and_only_a_fitting_one_is_proposed(
    host: Machine, candidates: list[Candidate]
) -> None:
    found = propose(candidates, host)
    assert found == propose(ALL, host)
    everyone = [*found.others, *([found.chosen] if found.chosen else [])]
    assert sorted(one.name for one in everyone) == sorted(one.name for one in ALL)
    assert all(one.match.reasons for one in found.others if not one.match.fits)
    if found.chosen is None:
        assert not any(one.match.fits for one in found.others)
    else:
        assert judge(_named(found), host).fits


def _named(found: Proposal) -> Candidate:
    (named,) = (one for one in ALL if found.chosen and one.name == found.chosen.name)
    return named


def test_of_profiles_without_gpus_the_one_that_asks_most_of_the_host_is_proposed() -> None:
    """Whatever they are called."""
    server = replace(CPU, name="z-server")
    assert propose((LOCAL, server), machine()).chosen == propose((server, LOCAL), machine()).chosen
    found = propose((LOCAL, server), machine()).chosen
    assert found is not None
    assert found.name == "z-server"
