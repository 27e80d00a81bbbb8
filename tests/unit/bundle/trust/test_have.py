"""What a box says it holds: as the box wrote it, or refused."""

from __future__ import annotations

import json

import pytest

from aibox.bundle.trust import have
from aibox.digest import canonical_json
from aibox.errors import AiboxError, VerificationRefused
from trust_keys import blob, key

MADE = "2027-03-20T12:00:00Z"
BLOBS = {blob("one").sha256: 3, blob("two").sha256: 0}
RELEASES = [blob("release").sha256]
HOLDINGS = have.Holdings(
    architecture="x86_64", python="3.11", blobs=BLOBS, releases=tuple(RELEASES)
)
SAID = have.sign(key(1), MADE, HOLDINGS)


def refusal(data: bytes) -> str:
    with pytest.raises(VerificationRefused) as error:
        have.verify_have(data)
    return error.value.reference


def changed(**fields: object) -> bytes:
    value = json.loads(SAID)
    value["signed"] |= fields
    return canonical_json(value)


def test_a_list_arrives_as_it_was_sent() -> None:
    found = have.verify_have(SAID)
    assert (found.blobs, found.releases, found.made) == (BLOBS, tuple(RELEASES), MADE)
    assert found.box == have.box_name(key(1).public)


def test_the_same_box_says_the_same_in_the_same_bytes() -> None:
    other_order = HOLDINGS.model_copy(update={"blobs": dict(reversed(BLOBS.items()))})
    assert have.sign(key(1), MADE, other_order) == SAID


@pytest.mark.parametrize("flip", [0x01, 0x20, 0x80], ids=hex)
def test_every_flipped_byte_is_noticed(flip: int) -> None:
    for place in range(len(SAID)):
        data = bytearray(SAID)
        data[place] ^= flip
        with pytest.raises(AiboxError) as error:
            have.verify_have(bytes(data))
        assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed(blobs={blob("one").sha256: 3}), "have-signature-wrong"),
        (changed(public_key=key(2).public.hex()), "have-malformed"),
        (
            changed(public_key=key(2).public.hex(), box=have.box_name(key(2).public)),
            "have-signature-wrong",
        ),
        (changed(format=2), "have-malformed"),
        (changed(extra=1), "have-malformed"),
        (changed(blobs={"../../etc": 3}), "have-malformed"),
        (changed(blobs={blob("one").sha256: -1}), "have-malformed"),
        (changed(blobs={blob("one").sha256: True}), "have-malformed"),
        (changed(releases=RELEASES * 2), "have-malformed"),
        (changed(made="yesterday"), "have-malformed"),
        (SAID + b"\n", "have-malformed"),
        (b"[" * 100_000, "have-malformed"),
    ],
    ids=range(12),
)
def test_another_list_is_refused(data: bytes, expected: str) -> None:
    assert refusal(data) == expected


def test_a_huge_list_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(have, "INDEX_LIMIT", len(SAID) - 1)
    assert refusal(SAID) == "have-too-large"
