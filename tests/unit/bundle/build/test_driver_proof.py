"""Proofs of drivers: which packages have modules, and what is said where nothing can be tried.

That a real driver compiles or does not is shown in tests/e2e/test_driver_pairs.py.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from aibox.bundle.build import driver_proof, repository
from aibox.bundle.build.package_key import PackageKey
from aibox.bundle.build.repository_files import Repository
from aibox.errors import Failed
from aibox.pins import Package, PackageFormat, PackageSet
from package_archives import DATE, Said, a_key, a_set, file_of, pinned
from package_maker import make_deb, needs_apt

pytestmark = needs_apt

KERNEL = "6.12.9+deb13-amd64"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackageKey:
    return a_key(tmp_path_factory.mktemp("signing"))


@pytest.fixture
def debs(place: Path) -> list[Path]:
    return [
        make_deb(place, "dkms"),
        make_deb(
            place,
            "nvidia-dkms-580-open",
            "580.1",
            fields={"Depends": "dkms, nvidia-kernel-source-580-open"},
        ),
        make_deb(place, "nvidia-kernel-source-580-open", "580.1"),
        make_deb(place, "dkms-like"),
        make_deb(place, "engine"),
    ]


@pytest.fixture
def pins(debs: list[Path]) -> PackageSet:
    return pinned(debs, kernels=(KERNEL,))


@pytest.fixture
def made(debs: list[Path], pins: PackageSet, key: PackageKey) -> Repository:
    return repository.make(pins, file_of(debs), key, DATE, Said())


def test_modules_come_with_the_packages_that_hold_their_source(
    debs: list[Path], pins: PackageSet
) -> None:
    found = driver_proof.modules(pins, file_of(debs))
    assert [item.name for item in found] == [
        "nvidia-kernel-source-580-open",
        "nvidia-dkms-580-open",
    ]


def test_a_set_without_modules_needs_no_proof(debs: list[Path], made: Repository) -> None:
    pins = pinned(debs[-1:], kernels=(KERNEL,))
    assert driver_proof.prove_all(pins, made, file_of(debs), Said()) == ()


def test_a_builder_that_is_not_root_says_so(
    debs: list[Path], pins: PackageSet, made: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (proof,) = driver_proof.prove_all(pins, made, file_of(debs), Said())
    assert not proof.proven
    assert proof.reason.startswith("not proven on this builder: ")
    assert "root" in proof.reason
    assert proof.what == (
        "nvidia-kernel-source-580-open 580.1, nvidia-dkms-580-open 580.1 "
        f"compiles for the kernel {KERNEL} on debian-13"
    )


def test_modules_of_rpm_systems_are_told_to_be_unproven(made: Repository) -> None:
    module = Package(
        name="kmod-nvidia-open-dkms",
        version="580.1-1",
        architecture="noarch",
        path="x.rpm",
        size=1,
        sha256="ab" * 32,
    )
    pins = a_set(
        [module], form=PackageFormat.RPM, target="rocky-9", architecture="x86_64", kernels=("5.14",)
    )
    (proof,) = driver_proof.prove_all(pins, made, {}.__getitem__, Said())
    assert not proof.proven
    assert "rpm" in proof.reason


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda pins: pins.model_copy(update={"architecture": "arm64"}), "architecture"),
        (lambda pins: pins.model_copy(update={"packages": _huge(pins)}), "room"),
    ],
)
def test_other_hindrances_are_named(
    pins: PackageSet,
    made: Repository,
    change: Callable[[PackageSet], PackageSet],
    said: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_if_capable(monkeypatch, place)
    assert said in driver_proof.why_not(change(pins), made)


def _huge(pins: PackageSet) -> tuple[object, ...]:
    return tuple(item.model_copy(update={"size": 1 << 50}) for item in pins.packages)


def as_if_capable(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(driver_proof.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(driver_proof, "_TOOLS", ())
    monkeypatch.setattr(driver_proof, "_SCRIPTS", place)
    (place / "trixie").touch()
    monkeypatch.setattr(driver_proof, "_NAMESPACES", ("env",))


def test_a_release_that_debootstrap_does_not_know_is_named(
    pins: PackageSet, made: Repository, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_capable(monkeypatch, place)
    unknown = dataclasses.replace(made, suite="no-such-release")
    assert "no-such-release" in driver_proof.why_not(pins, unknown)


def test_a_machine_without_namespaces_or_tools_says_so(
    pins: PackageSet, made: Repository, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_if_capable(monkeypatch, place)
    monkeypatch.setattr(driver_proof, "_NAMESPACES", ("env", "false"))
    assert "namespaces" in driver_proof.why_not(pins, made)
    monkeypatch.setattr(driver_proof, "_TOOLS", ("no-such-tool",))
    assert driver_proof.why_not(pins, made) == "it lacks no-such-tool"


LOG = "CFLAGS=-Werror\n/x/nv-pci.c:237:9: error: too few arguments\nmake: *** Error 2\n"


@pytest.mark.parametrize(
    ("script", "reference", "context"),
    [
        (f"mkdir $2; printf '{LOG}' >$2/make.log; exit 10", "driver-does-not-compile", "nv-pci.c"),
        ("echo E: dkms has no candidate; exit 100", "driver-not-tried", "no candidate"),
    ],
)
def test_a_driver_that_fails_stops_the_build(
    debs: list[Path],
    pins: PackageSet,
    made: Repository,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    reference: str,
    context: str,
) -> None:
    """With a double of the script that makes the root."""
    stands_for_the_script(script, place, monkeypatch)
    with pytest.raises(Failed) as failure:
        driver_proof.prove(pins, KERNEL, made, file_of(debs), Said())
    assert failure.value.reference == reference
    assert context in failure.value.context
    assert KERNEL in failure.value.message
    assert "580.1" in failure.value.message
    assert failure.value.hint.endswith("./aibox lock")


def test_the_script_gets_the_repository_and_the_packages_of_the_module(
    debs: list[Path],
    pins: PackageSet,
    made: Repository,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = place / "record"
    look = f"ls $1/pool >{record}; shift 2; echo $* >>{record}"
    stands_for_the_script(look, place, monkeypatch)
    assert driver_proof.prove(pins, KERNEL, made, file_of(debs), Said()).proven
    said = record.read_text()
    assert all(deb.name in said for deb in debs)
    words = said.splitlines()[-1].split()
    assert words[:3] == ["trixie", "amd64", KERNEL]
    assert words[4:] == [
        "pool/nvidia-kernel-source-580-open_580.1_all.deb",
        "pool/nvidia-dkms-580-open_580.1_all.deb",
    ]


def stands_for_the_script(text: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = place / "double.sh"
    script.write_text(text)
    monkeypatch.setattr(driver_proof, "SCRIPT", script)
    monkeypatch.setattr(driver_proof, "_NAMESPACES", ("env",))
    monkeypatch.setattr(driver_proof, "why_not", _nothing_in_the_way)


def _nothing_in_the_way(*_arguments: Sequence[object]) -> str:
    return ""
