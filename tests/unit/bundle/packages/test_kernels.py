"""Packages of a kernel: headers always, modules built beforehand where an archive has them."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.kernels import available, packages_of
from aibox.errors import BadUsage
from aibox.pins import PackageFormat

DEB, RPM = PackageFormat.DEB, PackageFormat.RPM
NOBLE = "6.8.0-45-generic"
KNOWN = {
    "linux-headers-6.12.9+deb13-amd64",
    "linux-headers-6.12.10+deb13-amd64",
    "linux-headers-6.12.10+deb13-cloud-amd64",
    "linux-headers-amd64",
    f"linux-headers-{NOBLE}",
    f"linux-modules-nvidia-580-server-open-{NOBLE}",
    f"linux-modules-nvidia-580-server-{NOBLE}",
    f"linux-objects-nvidia-580-server-{NOBLE}",
    f"linux-signatures-nvidia-{NOBLE}",
}


def test_each_kernel_brings_its_headers_once() -> None:
    kernel = "6.12.9+deb13-amd64"
    assert packages_of(DEB, ("engine",), (kernel, kernel), KNOWN) == (f"linux-headers-{kernel}",)


@pytest.mark.parametrize(
    ("wanted", "modules"),
    [
        ("nvidia-headless-no-dkms-580-server-open", ["linux-modules-nvidia-580-server-open"]),
        (
            "nvidia-headless-no-dkms-580-server=580.1-0ubuntu1",
            ["linux-modules-nvidia-580-server", "linux-objects-nvidia-580-server"],
        ),
        ("nvidia-driver-535", []),
        ("nvidia-open-kernel-dkms", None),
    ],
)
def test_modules_of_the_wanted_driver_are_taken(wanted: str, modules: list[str] | None) -> None:
    found = packages_of(DEB, (wanted,), (NOBLE,), KNOWN)
    signed = [f"linux-signatures-nvidia-{NOBLE}"] if modules is not None else []
    expected = [f"{name}-{NOBLE}" for name in modules or []]
    assert list(found) == [f"linux-headers-{NOBLE}", *expected, *signed]


def test_a_kernel_of_rpm_is_named_as_uname_does() -> None:
    kernel = "5.14.0-503.11.1.el9_5.x86_64"
    assert packages_of(RPM, (), (kernel,), {f"kernel-devel-{kernel}"}) == (
        f"kernel-devel-{kernel}",
    )


def test_a_kernel_without_headers_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadUsage) as refusal:
        packages_of(DEB, (), ("6.12.11+deb13-amd64",), KNOWN)
    assert refusal.value.reference == "kernel-headers-missing"
    assert refusal.value.context.endswith("6.12.9+deb13-amd64, 6.12.10+deb13-amd64")


@pytest.mark.parametrize("kernel", ["", "-x", "a b", "../..", "x" * 200])
def test_a_kernel_that_is_no_name_is_refused(kernel: str) -> None:
    with pytest.raises(BadUsage):
        packages_of(DEB, (), (kernel,), {f"linux-headers-{kernel}"})


def test_kernels_are_listed_oldest_first() -> None:
    assert available(DEB, KNOWN)[1:3] == ("6.12.9+deb13-amd64", "6.12.10+deb13-amd64")
