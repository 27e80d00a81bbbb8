"""Row 32 of the fault matrix: no byte of a bundle's head can change without being noticed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from aibox.bundle.trust.head import Head
from aibox.errors import AiboxError, ExitCode
from trust_keys import head, judged, revoked, root

BUNDLE = head(
    roots=[root(1), root(2, (1,), signers=(0, 1))],
    revocations=revoked(signers=(1,), keys=[99], blobs=["ab" * 32]),
)
FLIPS = (0x01, 0x20, 0x80)
"""The lowest bit (a neighbouring digit), the case of a letter, and out of ASCII."""


def with_manifest(data: bytes) -> Head:
    return replace(BUNDLE, manifest=data)


def with_ssh_signature(data: bytes) -> Head:
    return replace(BUNDLE, ssh_signature=data)


def with_first_root(data: bytes) -> Head:
    return replace(BUNDLE, roots={**BUNDLE.roots, 1: data})


def with_second_root(data: bytes) -> Head:
    return replace(BUNDLE, roots={**BUNDLE.roots, 2: data})


def with_revocations(data: bytes) -> Head:
    return replace(BUNDLE, revocations=data)


FILES = {
    "bundle.json": (BUNDLE.manifest, with_manifest),
    "bundle.json.sig": (BUNDLE.ssh_signature or b"", with_ssh_signature),
    "1.root.json": (BUNDLE.roots[1], with_first_root),
    "2.root.json": (BUNDLE.roots[2], with_second_root),
    "revoked.json": (BUNDLE.revocations or b"", with_revocations),
}


def refused(bundle: Head, trusted: bytes) -> bool:
    """Whether it is refused properly; anything but an `AiboxError` of exit 4 is a failure."""
    try:
        judged(bundle, trusted=trusted)
    except AiboxError as error:
        return error.exit_code == ExitCode.VERIFICATION_REFUSED and "./aibox " in error.hint
    return False


def test_the_bundle_is_right_to_begin_with() -> None:
    judged(BUNDLE)


@pytest.mark.parametrize(("data", "put"), FILES.values(), ids=FILES)
@pytest.mark.parametrize("flip", FLIPS, ids=hex)
def test_every_flipped_byte_is_noticed(
    data: bytes, put: Callable[[bytes], Head], flip: int, figure: Callable[[str], None]
) -> None:
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= flip
        assert refused(put(bytes(changed)), BUNDLE.roots[1]), f"offset {place}"


@pytest.mark.parametrize("name", ["1.root.json", "2.root.json"])
def test_roots_before_the_trusted_one_are_held_to_the_byte_too(name: str) -> None:
    data, put = FILES[name]
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        assert refused(put(bytes(changed)), BUNDLE.roots[2]), f"offset {place}"


@pytest.mark.parametrize(("data", "put"), FILES.values(), ids=FILES)
def test_every_cut_and_every_addition_is_noticed(data: bytes, put: Callable[[bytes], Head]) -> None:
    for length in range(0, len(data), 5):
        assert refused(put(data[:length]), BUNDLE.roots[1])
    for addition in (b"\n", b" ", b"\0", b"}", data):
        assert refused(put(data + addition), BUNDLE.roots[1])
        assert refused(put(addition + data), BUNDLE.roots[1])


@pytest.mark.parametrize("one", FILES)
@pytest.mark.parametrize("other", FILES)
def test_no_file_passes_for_another(one: str, other: str) -> None:
    if one != other:
        assert refused(FILES[one][1](FILES[other][0]), BUNDLE.roots[1])
