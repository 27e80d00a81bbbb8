"""What libraries need: read from real ones, and refused from damaged ones."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aibox.bundle.packages import elf
from elf_maker import make_elf

EXAMPLE = make_elf(needed=("libc.so.6", "libz.so.1"), soname="libx.so.1", loader="/lib64/ld.so.2")


def test_needs_name_and_loader_are_read() -> None:
    found = elf.read(EXAMPLE)
    assert found == elf.Elf("amd64", ("libc.so.6", "libz.so.1"), "libx.so.1", "/lib64/ld.so.2")


def test_another_architecture_is_told() -> None:
    assert elf.read(make_elf(machine=183)).architecture == "arm64"
    assert elf.read(make_elf(machine=243)).architecture == "machine 243"


def test_the_python_that_runs_this_is_read() -> None:
    found = elf.read(Path(sys.executable).resolve().read_bytes())
    assert any(name.startswith("libc.") for name in found.needed) or found.loader


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x01\x01" + bytes(99)])
def test_other_files_are_no_elf(data: bytes) -> None:
    with pytest.raises(elf.NotElf):
        elf.read(data)


@given(st.integers(0, len(EXAMPLE) - 1), st.integers(0, 255))
@example(place=39, value=128)
@settings(max_examples=300, deadline=None)
def test_damage_is_refused_or_read_but_never_breaks(place: int, value: int) -> None:
    damaged = bytearray(EXAMPLE)
    damaged[place] = value
    for data in (bytes(damaged), EXAMPLE[:place]):
        try:
            elf.read(data)
        except elf.NotElf:
            continue
