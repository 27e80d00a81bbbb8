"""The driver's checks; numbers in the names of cases are rows of the list of known failures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aibox.checks import driver
from aibox.checks.evidence import Evidence, Source
from aibox.hardware import Gpu
from aibox.preflight import Status
from gpu_texts import (
    CARDS,
    DRIVER,
    HOST,
    KERNEL,
    MODULE,
    WANTED,
    asset,
    evidence,
    named,
    saying,
    states,
)

GOOD, WARN, BAD = [Status.OK], [Status.WARN], [Status.VETO]
HEADERS = f"/lib/modules/{KERNEL}/build"


def held_by(*drivers: str) -> Evidence:
    gpus = tuple(replace(one, kernel_driver=name) for one, name in zip(CARDS, drivers, strict=True))
    return evidence(replace(HOST, gpus=gpus))


def test_a_healthy_host_has_no_fault() -> None:
    found = list(driver.examine(evidence(wanted=WANTED)))
    assert {one.status for one in found} == {Status.OK}
    assert all(one.fix == "" for one in found)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        (held_by("nvidia", "nouveau"), "nouveau"),
        (held_by("vfio-pci", "nvidia"), "vfio-pci"),
        (evidence(replace(HOST, driver="")), "no driver is loaded"),
        (
            saying(Source.MODULES, "nouveau 1 0 - Live 0x0\n", evidence(replace(HOST, driver=""))),
            "nouveau",
        ),
    ],
)
def test_a_driver_that_is_not_there_weighs_by_whether_a_box_needs_it(
    known: Evidence, told: str
) -> None:
    (before,) = named(driver.examine, known, "gpu driver")
    assert (before.status, told in before.found) == (Status.WARN, True)
    (after,) = named(driver.examine, replace(known, wanted=WANTED), "gpu driver")
    assert after.status is Status.VETO


@pytest.mark.parametrize(
    ("loaded", "expected"),
    [("", BAD), ("550.54.13", BAD), ("550.54.14", GOOD), ("580.95.05", GOOD)],
)
def test_a_release_without_a_driver_wants_one_on_the_host(
    loaded: str, expected: list[Status]
) -> None:
    known = evidence(replace(HOST, driver=loaded), WANTED, brings_driver=False)
    assert states(list(driver.of_release(known))) == expected
    assert list(driver.of_release(replace(known, brings_driver=True))) == []
    assert list(driver.of_release(replace(known, wanted=None))) == []
    nothing = replace(known, machine=replace(HOST, gpus=()))
    assert list(driver.of_release(nothing)) == []


def test_13_nouveau_is_barred_and_the_host_restarted() -> None:
    (found,) = named(driver.examine, held_by("nouveau", "nouveau"), "gpu driver")
    assert found.fix.endswith("systemctl reboot")


@pytest.mark.parametrize(
    "known",
    [
        saying(Source.MODULE, MODULE.replace(DRIVER, "550.90.07")),
        saying(Source.CARDS, "Driver Version : 550.90.07\n"),
        evidence(
            refused={Source.CARDS: "Failed to initialize NVML: Driver/library version mismatch"}
        ),
        evidence(replace(HOST, problems=("NVML: RM has detected an NVML/RM version mismatch.",))),
    ],
    ids=["on disk", "libraries", "nvidia-smi", "NVML"],
)
def test_5_versions_that_differ_want_a_restart(known: Evidence) -> None:
    (found,) = named(driver.examine, known, "driver versions")
    assert found.status is Status.VETO
    assert found.fix.endswith("systemctl reboot")
    # 28: who holds the old one.
    assert "in use 7 times (nvidia_uvm)" in found.found


def test_3_an_old_driver_is_a_fault_of_a_box_alone() -> None:
    newer = WANTED.model_copy(update={"driver_min": "550.163.01"})
    assert states(named(driver.examine, evidence(wanted=newer), "driver age")) == BAD
    assert named(driver.examine, evidence(), "driver age") == []


@pytest.mark.parametrize(
    ("capability", "refused", "expected"),
    [
        ((9, 0), {}, WARN),
        ((12, 0), {}, BAD),
        ((9, 0), {Source.CARDS: "No devices were found"}, BAD),
    ],
)
def test_proprietary_modules_weigh_by_generation(
    capability: tuple[int, int], refused: dict[Source, str], expected: list[Status]
) -> None:
    gpus = tuple(replace(one, capability=capability) for one in CARDS)
    known = evidence(replace(HOST, gpus=gpus), WANTED, refused=refused)
    known = saying(Source.VERSION, asset("proc-version.proprietary.txt"), known)
    known = saying(Source.MODULE, MODULE.replace("Dual MIT/GPL", "NVIDIA"), known)
    assert states(named(driver.examine, known, "kernel modules")) == expected


@pytest.mark.parametrize(
    ("module", "log", "expected"),
    [
        (MODULE, "", GOOD),
        (MODULE.replace("signer:", "x:"), "", BAD),
        (MODULE, "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service", BAD),
        (MODULE, "Loading of module with unavailable key is rejected", BAD),
        ("", "", []),
    ],
)
def test_16_secure_boot_wants_a_module_that_somebody_signed(
    module: str, log: str, expected: list[Status]
) -> None:
    known = saying(Source.KERNEL_LOG, log, saying(Source.MODULE, module))
    on = replace(known, secure_boot=True)
    assert states(named(driver.examine, on, "secure boot")) == expected
    for off in (False, None):
        assert named(driver.examine, replace(known, secure_boot=off), "secure boot") == []


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (f"nvidia/{DRIVER}, {KERNEL}, x86_64: installed", GOOD),
        (f"nvidia/{DRIVER}, 6.8.0-59-generic, x86_64: installed", BAD),
        (f"nvidia/{DRIVER}, {KERNEL}, x86_64: built", BAD),
        (asset("dkms.added.txt"), BAD),
        ("vboxhost/7.0.8_OSE, 6.4.1, x86_64: installed", []),
    ],
)
def test_14_a_module_that_was_not_built_for_this_kernel(
    status: str, expected: list[Status]
) -> None:
    without = saying(Source.MODULE, "", evidence(wanted=WANTED, existing=frozenset({HEADERS})))
    found = named(driver.examine, saying(Source.DKMS, status, without), "module build")
    assert states(found) == expected
    assert all("make.log" in one.fix for one in found if one.status is not Status.OK)


def test_15_headers_that_are_missing_are_named() -> None:
    known = saying(Source.DKMS, asset("dkms.added.txt"), saying(Source.MODULE, ""))
    (found,) = named(driver.examine, known, "module build")
    assert HEADERS in found.found
    assert found.fix.endswith(f"dkms autoinstall -k {KERNEL}")


def test_a_module_from_elsewhere_makes_a_failed_build_a_doubt() -> None:
    known = saying(Source.DKMS, asset("dkms.added.txt"), evidence(wanted=WANTED))
    assert states(named(driver.examine, known, "module build")) == WARN


def test_27_a_module_that_is_loaded_but_not_on_disk_is_gone_after_a_restart() -> None:
    lost = saying(Source.MODULE, "modinfo: ERROR: Module nvidia not found.")
    assert states(named(driver.examine, lost, "after a reboot")) == BAD
    unknown = evidence()
    silent = replace(unknown, said={Source.CARDS: unknown.text(Source.CARDS)})
    assert named(driver.examine, silent, "after a reboot") == []


def packages(*rows: str) -> str:
    return "".join(f"{row.replace(' ', chr(9))}\n" for row in rows)


SERVER = ("ii libnvidia-compute-580-server 580.1", "ii nvidia-utils-580-server 580.1")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (SERVER, GOOD),
        ((*SERVER, "ii nvidia-driver-580-open 580.1"), BAD),
        ((*SERVER, "ii libnvidia-compute-535-server 535.1"), BAD),
        ((*SERVER, "rc libnvidia-compute-535-server 535.1"), GOOD),
        ((*SERVER, "ii nvidia-container-toolkit 1.20.0-1"), GOOD),
        (("ii linux-image-6.8 1",), []),
    ],
)
def test_32_branches_and_flavours_are_not_mixed(
    rows: tuple[str, ...], expected: list[Status]
) -> None:
    known = saying(Source.PACKAGES, packages(*rows).replace("ii\t", "ii \t"))
    found = named(driver.examine, known, "driver packages")
    assert states(found) == expected
    assert all("apt-get purge" in one.fix for one in found if one.status is Status.VETO)


def test_5_packages_that_are_not_held_are_named_with_who_upgrades_them() -> None:
    rows = (*SERVER, f"ii linux-image-{KERNEL} 1", "hi nvidia-compute-utils-580-server 580.1")
    known = saying(Source.PACKAGES, packages(*rows))
    units = "Id=unattended-upgrades.service\nLoadState=loaded\nActiveState=active\n"
    (found,) = named(driver.examine, saying(Source.UNITS, units, known), "held packages")
    assert found.status is Status.WARN
    assert "3 of 4" in found.found
    assert "unattended-upgrades.service" in found.found
    assert found.fix.endswith(
        f"apt-mark hold libnvidia-compute-580-server linux-image-{KERNEL} nvidia-utils-580-server"
    )
    held = saying(Source.PACKAGES, packages(*rows).replace("ii\t", "hi\t"))
    assert states(named(driver.examine, held, "held packages")) == GOOD


@pytest.mark.parametrize(
    ("paths", "rows", "expected"),
    [
        (("/usr/bin/nvidia-uninstall",), SERVER, BAD),
        (("/usr/bin/nvidia-uninstall",), (), WARN),
        (("/var/log/nvidia-installer.log",), SERVER, WARN),
        ((), SERVER, []),
    ],
)
def test_33_an_installation_by_file_shadows_packages(
    paths: tuple[str, ...], rows: tuple[str, ...], expected: list[Status]
) -> None:
    known = saying(Source.PACKAGES, packages(*rows), evidence(existing=frozenset(paths)))
    assert states(named(driver.examine, known, "leftover installer")) == expected


@pytest.mark.parametrize(
    ("kernel", "value", "expected"),
    [
        ("5.14.0-503.el9.x86_64", "N\n", WARN),
        ("5.14.0-503.el9.x86_64", "Y\n", []),
        (KERNEL, "N\n", []),
    ],
)
def test_9_heterogeneous_memory_on_el_9(kernel: str, value: str, expected: list[Status]) -> None:
    known = saying(Source.HMM, value, evidence(kernel=kernel))
    assert states(named(driver.examine, known, "heterogeneous memory")) == expected


@pytest.mark.parametrize(
    ("version", "slices", "expected"),
    [
        ("570.158.01", (True, False), WARN),
        ("570.158.01", (True, True), []),
        ("580.95.05", (True, False), []),
    ],
)
def test_26_branch_570_with_some_cards_in_slices(
    version: str, slices: tuple[bool, ...], expected: list[Status]
) -> None:
    gpus = tuple(replace(one, mig=mig) for one, mig in zip(CARDS, slices, strict=True))
    known = evidence(replace(HOST, gpus=gpus, driver=version))
    assert states(named(driver.examine, known, "mig and the driver")) == expected


def test_without_a_driver_nothing_is_said_of_versions() -> None:
    bare = Evidence(replace(HOST, driver="", gpus=(Gpu("0000:ad:00.0", "10de:2321"),)))
    assert [one.check for one in driver.examine(bare)] == ["gpu driver"]
