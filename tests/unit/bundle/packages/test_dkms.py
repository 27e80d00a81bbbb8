"""Modules compiled on the box: who brings them, and which line says why they failed."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.control import paragraphs
from aibox.bundle.packages.dkms import first_error, is_module, source_packages


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ("Package: nvidia-open-kernel-dkms\nDepends: firmware (= 1) | x, dkms (>= 3.0.11)", True),
        ("Package: v4l2loopback-dkms\nDepends: dkms", True),
        ("Package: x-dkms\nPre-Depends: dkms:any", True),
        ("Package: dkms\nDepends: dkms", False),
        ("Package: dh-dkms\nDepends: debhelper, dkms-tools", False),
        ("Package: x\nRecommends: dkms", False),
    ],
)
def test_a_module_depends_on_dkms_itself(control: str, expected: bool) -> None:
    assert is_module(next(paragraphs(control.splitlines()))) is expected


def test_a_source_apart_from_its_package_is_found() -> None:
    text = "Depends: dkms, nvidia-kernel-source-580-open (= 580.1), nvidia-firmware-580"
    assert source_packages(next(paragraphs([text]))) == ("nvidia-kernel-source-580-open",)


LOG = [
    "DKMS make.log for nvidia-current-550",
    "CFLAGS=-Werror=undef -Wno-error",
    " CONFTEST: dma_fence_set_error",
    "/var/lib/dkms/nvidia/nv-pci.c:237:9: error: too few arguments to function 'resize'",
    "make[2]: *** [Makefile:10: nv-pci.o] Error 1",
]


def test_the_compilers_first_error_says_why() -> None:
    assert first_error(LOG) == LOG[3]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (["x.c:1: fatal error: y.h: No such file"], "x.c:1: fatal error: y.h: No such file"),
        (['ERROR: modpost: "x" undefined!', "make: *** y"], 'ERROR: modpost: "x" undefined!'),
        (["building", "make[1]: *** [all] Error 2"], "make[1]: *** [all] Error 2"),
        (["building", "the end "], "the end"),
        ([], "the build said nothing"),
    ],
)
def test_without_one_the_next_best_line_does(log: list[str], expected: str) -> None:
    assert first_error(log) == expected
