"""Modules against kernels, compiled for real by the builder: one that builds, one that does not.

What builds is a small module, for the proof is the same for all; the NVIDIA driver that builds is
compiled where it belongs, by its role (test_nvidia_driver_role.py). What does not is NVIDIA's:
Debian 13's `nvidia-open-kernel-dkms` 550.163.01 fails for every kernel from 6.12.107 on. Kernels
come and go in an archive, so the newest is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.bundle.build import driver_proof
from aibox.bundle.manifest import Proof
from aibox.errors import ExitCode, Failed
from package_archives import Said

from .package_root import Locked, lock, newest_kernel, resolve, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

FAILING = "550.163.01"


@pytest.fixture
def figures(figure: Callable[[str], None]) -> Callable[[Locked, float], None]:
    def tell(driver: Locked, seconds: float) -> None:
        total = sum(item.size for item in driver.pins.packages)
        what = f"{driver.pins.wanted[0]} for {driver.pins.kernels[0]} on {driver.pins.target}"
        count = len(driver.pins.packages)
        figure(f"{what}: {count} packages, {total / 1e6:.1f} MB, tried in {seconds:.0f} s")

    return tell


def locked(folder: Path, target: str, driver: str) -> Locked:
    kernel = newest_kernel(target)
    return lock(folder, resolve(target, driver, kernels=(kernel,)))


def tried(driver: Locked, said: Said) -> tuple[Proof, ...]:
    return driver_proof.prove_all(driver.pins, driver.made, driver.file, said)


def test_a_module_that_compiles_is_proven(
    tmp_path: Path, figures: Callable[[Locked, float], None]
) -> None:
    driver, said, started = locked(tmp_path, "debian-12", "acpi-call-dkms"), Said(), time.time()
    (proof,) = tried(driver, said)
    figures(driver, time.time() - started)
    assert proof.proven
    assert driver.pins.kernels[0] in proof.what
    # That it compiles is told only where it takes longer than a small module does.
    assert said.lines


def test_a_driver_that_does_not_compile_stops_the_build(
    tmp_path: Path, figures: Callable[[Locked, float], None]
) -> None:
    driver, started = locked(tmp_path, "debian-13", "nvidia-open-kernel-dkms"), time.time()
    version = next(i.version for i in driver.pins.packages if i.name == "nvidia-open-kernel-dkms")
    if not version.startswith(FAILING):
        pytest.skip(f"the archive has {version}; only {FAILING} is known to fail")
    with pytest.raises(Failed) as failure:
        tried(driver, Said())
    figures(driver, time.time() - started)
    assert failure.value.reference == "driver-does-not-compile"
    assert failure.value.exit_code == ExitCode.FAILED
    assert "pci_resize_resource" in failure.value.context
    assert version in failure.value.message
    assert driver.pins.kernels[0] in failure.value.message
