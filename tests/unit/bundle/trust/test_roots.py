"""Chains of roots: who may follow whom (the cases of python-tuf's rotation tests, and stricter)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Metadata, Root, Targets

from aibox.bundle.layout import ROOTS_LIMIT
from aibox.bundle.trust import metadata
from aibox.errors import VerificationRefused
from trust_keys import head, judged, key, root, root_fields, sealed


@dataclass(frozen=True)
class Version:
    """A root: its keys, how many must sign, and who did."""

    keys: tuple[int, ...]
    threshold: int
    signers: tuple[int, ...]


def v(keys: str, threshold: int, signers: str) -> Version:
    return Version(tuple(map(int, keys)), threshold, tuple(map(int, signers)))


# Every root but the last is right; the second column is how the last one is refused.
ROTATIONS: dict[str, tuple[list[Version], str]] = {
    "one key replaced": ([v("1", 1, "1"), v("2", 1, "21"), v("2", 1, "2")], ""),
    "one key kept": ([v("1", 1, "1"), v("1", 1, "1")], ""),
    "one key replaced, not signed by the old": ([v("1", 1, "1"), v("2", 1, "2")], "too-few-keys"),
    "one key replaced, not signed by the new": ([v("1", 1, "1"), v("2", 1, "1")], "too-few-keys"),
    "first root signed by a stranger too": ([v("1", 1, "13")], "key-unknown"),
    "signed by strangers too": ([v("1", 1, "1"), v("2", 1, "2134")], "key-unknown"),
    "signed by strangers instead of the old": ([v("1", 1, "1"), v("2", 1, "234")], "key-unknown"),
    "signed by strangers instead of the new": ([v("1", 1, "1"), v("2", 1, "134")], "key-unknown"),
    "the old key signs the root after the one that dropped it": (
        [v("1", 1, "1"), v("2", 1, "12"), v("2", 1, "12")],
        "key-unknown",
    ),
    "the first key comes back by itself": (
        [v("1", 1, "1"), v("2", 1, "12"), v("1", 1, "1")],
        "too-few-keys",
    ),
    "first root not signed": ([v("1", 1, "")], "unsigned"),
    "first root signed by too few": ([v("123", 2, "1")], "too-few-keys"),
    "next root not signed": ([v("1", 1, "1"), v("1", 1, "")], "unsigned"),
    "3 of 5, any three": (
        [
            v("01234", 3, "024"),
            v("01234", 3, "041"),
            v("01234", 3, "013"),
            v("01234", 3, "013"),
        ],
        "",
    ),
    "3 of 5, all five": ([v("01234", 3, "01234"), v("01234", 3, "01234")], ""),
    "3 of 5, two": ([v("01234", 3, "012"), v("01234", 3, "01")], "too-few-keys"),
    "3 of 5, one replaced": ([v("01234", 3, "024"), v("01345", 3, "041")], ""),
    "3 of 5, one replaced, two old": (
        [v("01234", 3, "024"), v("01345", 3, "045")],
        "too-few-keys",
    ),
    "3 of 5, one replaced, two new": (
        [v("01234", 3, "024"), v("01345", 3, "024")],
        "too-few-keys",
    ),
    "3 of 5, one replaced in two steps": (
        [v("01234", 3, "024"), v("01345", 3, "0245"), v("01345", 3, "045")],
        "",
    ),
    "3 of 5, all replaced": (
        [v("01234", 3, "024"), v("56789", 3, "024567"), v("56789", 3, "567")],
        "",
    ),
    "3 of 5, all replaced, only the new sign": (
        [v("01234", 3, "024"), v("56789", 3, "567")],
        "too-few-keys",
    ),
    "3 of 5, all replaced, only the old sign": (
        [v("01234", 3, "024"), v("56789", 3, "024")],
        "too-few-keys",
    ),
    "threshold 1 to 2": ([v("123", 1, "1"), v("123", 2, "12")], ""),
    "threshold 1 to 2, signed by one": ([v("123", 1, "1"), v("123", 2, "2")], "too-few-keys"),
    "threshold 2 to 1": ([v("123", 2, "12"), v("123", 1, "12"), v("123", 1, "1")], ""),
    "threshold 2 to 1, signed by one": ([v("123", 2, "12"), v("123", 1, "1")], "too-few-keys"),
    "a second key joins": ([v("1", 1, "1"), v("12", 2, "12")], ""),
    "a second key joins without signing": ([v("1", 1, "1"), v("12", 2, "1")], "too-few-keys"),
    "a key leaves": ([v("12", 1, "1"), v("2", 1, "2")], ""),
    "a key leaves, and signs alone": ([v("12", 1, "1"), v("2", 1, "1")], "too-few-keys"),
}


def chain(versions: list[Version]) -> dict[int, bytes]:
    return {
        number: root(number, item.keys, item.threshold, signers=item.signers)
        for number, item in enumerate(versions, 1)
    }


@pytest.mark.parametrize(("versions", "refusal"), ROTATIONS.values(), ids=ROTATIONS)
def test_rotation(versions: list[Version], refusal: str) -> None:
    roots = chain(versions)
    if not refusal:
        assert [item.data for item in metadata.follow(roots)] == list(roots.values())
        return
    with pytest.raises(VerificationRefused) as error:
        metadata.follow(roots)
    assert error.value.reference == f"root-{refusal}"
    if len(versions) > 1:
        metadata.follow({number: roots[number] for number in range(1, len(versions))})


RELEASE_SIGNERS: dict[str, tuple[str, int, str, str]] = {
    "1 of 1": ("2", 1, "2", ""),
    "1 of 1, and a stranger": ("1", 1, "13", "key-unknown"),
    "1 of 1, strangers alone": ("2", 1, "134", "key-unknown"),
    "1 of 2, the one": ("12", 1, "1", ""),
    "1 of 2, the other": ("12", 1, "2", ""),
    "1 of 2, both": ("12", 1, "12", ""),
    "2 of 2, one": ("12", 2, "1", "too-few-keys"),
    "2 of 2, one of them twice": ("12", 2, "11", "key-twice"),
    "3 of 5": ("01234", 3, "024", ""),
    "3 of 5, others": ("01234", 3, "234", ""),
    "3 of 5, two": ("01345", 3, "04", "too-few-keys"),
    "3 of 5, two and one that is not a release key": ("01345", 3, "024", "key-unknown"),
}


@pytest.mark.parametrize(
    ("keys", "threshold", "signers", "refusal"), RELEASE_SIGNERS.values(), ids=RELEASE_SIGNERS
)
def test_who_may_sign_a_bundle(keys: str, threshold: int, signers: str, refusal: str) -> None:
    release = [int(item) for item in keys]
    first = root(1, (50,), release=release, release_threshold=threshold)
    bundle = head(signers=[int(item) for item in signers], ssh_signer=release[0], roots=[first])
    if not refusal:
        found = judged(bundle, trusted=first)
        assert {item.name for item in found.signers} == {f"key-{item}" for item in signers}
        return
    with pytest.raises(VerificationRefused) as error:
        judged(bundle, trusted=first)
    assert error.value.reference == f"bundle-{refusal}"


def test_a_wrong_signature_beside_enough_right_ones_is_refused() -> None:
    first = root(1, (0, 1), 1)
    forged = first.replace(
        key(1).sign(metadata.parse(first).envelope.payload).hex().encode(), b"0" * 128
    )
    with pytest.raises(VerificationRefused) as error:
        metadata.follow({1: forged})
    assert error.value.reference == "root-signature-wrong"


@pytest.mark.parametrize(
    "versions", [[], [2], [1, 3], [1, 2, 4], [0, 1], [2, 3], [1, 2, 3, 5, 6]], ids=str
)
def test_a_chain_with_a_gap_is_refused(versions: list[int]) -> None:
    with pytest.raises(VerificationRefused) as error:
        metadata.follow({version: root(version) for version in versions})
    assert error.value.reference == "root-chain-gap"


@pytest.mark.parametrize("roots", [{1: root(2)}, {1: root(1), 2: root(3)}], ids=["1", "2"])
def test_a_root_under_another_number_is_refused(roots: dict[int, bytes]) -> None:
    with pytest.raises(VerificationRefused) as error:
        metadata.follow(roots)
    assert error.value.reference == "root-chain-gap"


def test_a_root_that_skips_a_version_cannot_follow() -> None:
    with pytest.raises(VerificationRefused) as error:
        metadata.check_succession(metadata.parse(root(1)), metadata.parse(root(3)))
    assert error.value.reference == "root-chain-gap"


def test_a_chain_of_many_roots_is_followed_up_to_the_limit() -> None:
    roots = {version: root(version) for version in range(1, ROOTS_LIMIT + 2)}
    with pytest.raises(VerificationRefused) as error:
        metadata.follow(roots)
    assert error.value.reference == "root-chain-too-long"
    del roots[ROOTS_LIMIT + 1]
    assert metadata.follow(roots)[-1].version == ROOTS_LIMIT


def changed(**fields: object) -> bytes:
    return sealed(root_fields(1, (0, 1), 1) | fields, [0])


ROLES = root_fields(1, (0, 1), 1)["roles"]
KEYS = root_fields(1, (0, 1), 1)["keys"]
assert isinstance(ROLES, dict)
assert isinstance(KEYS, dict)
ID, KEY = next(iter(KEYS.items()))
ODD = {
    "an unknown field": changed(extra=1),
    "another type": changed(_type="targets"),
    "no type": changed(_type=None),
    "another major version of TUF": changed(spec_version="2.0.0"),
    "no version of TUF": changed(spec_version=1),
    "version true": changed(version=True),
    "version as text": changed(version="1"),
    "version zero": changed(version=0),
    "no date": changed(expires="soon"),
    "a date in another spelling": changed(expires="2031-3-1T00:00:00Z"),
    "no consistent_snapshot": changed(consistent_snapshot=None),
    "a role less": changed(roles={name: ROLES[name] for name in ("root", "targets", "snapshot")}),
    "a role more": changed(roles={**ROLES, "mirrors": ROLES["root"]}),
    "a field in a role": changed(roles={**ROLES, "root": {**ROLES["root"], "terminating": True}}),
    "threshold zero": changed(roles={**ROLES, "root": {**ROLES["root"], "threshold": 0}}),
    "threshold true": changed(roles={**ROLES, "root": {**ROLES["root"], "threshold": True}}),
    "threshold above the keys": changed(roles={**ROLES, "root": {**ROLES["root"], "threshold": 3}}),
    "a key listed twice": changed(roles={**ROLES, "root": {"keyids": [ID, ID], "threshold": 1}}),
    "a key that is not there": changed(
        roles={**ROLES, "root": {"keyids": ["0" * 64], "threshold": 1}}
    ),
    "a root key that is a release key too": changed(
        roles={**ROLES, "targets": {"keyids": [ID], "threshold": 1}}
    ),
    "a key without a role": changed(
        keys={**KEYS, key(9).id: {**KEY, "keyval": {"public": key(9).public.hex()}}}
    ),
    "a key under another id": changed(keys={**KEYS, "0" * 64: KEY}),
    "a key in capitals": changed(keys={**KEYS, ID: {**KEY, "keyval": {"public": "AB" * 32}}}),
    "a key with its private half": changed(
        keys={**KEYS, ID: {**KEY, "keyval": {**KEY["keyval"], "private": "00"}}}
    ),
    "a key without a name": changed(
        keys={**KEYS, ID: {name: KEY[name] for name in ("keytype", "scheme", "keyval")}}
    ),
    "a key with a name that is none": changed(
        keys={**KEYS, ID: {**KEY, "x-aibox-name": "A\u202e"}}
    ),
    "another kind of key": changed(keys={**KEYS, ID: {**KEY, "keytype": "rsa"}}),
    "keys that are a list": changed(keys=[]),
    "roles that are a list": changed(roles=[]),
}


@pytest.mark.parametrize("data", ODD.values(), ids=ODD)
def test_a_root_that_is_not_as_we_write_them_is_refused(data: bytes) -> None:
    with pytest.raises(VerificationRefused) as error:
        metadata.parse(data)
    assert error.value.reference == "root-malformed"


def test_the_same_key_under_two_ids_does_not_count_twice() -> None:
    fields = root_fields(1, (0, 1), 2)
    keys, roles = fields["keys"], fields["roles"]
    assert isinstance(keys, dict)
    assert isinstance(roles, dict)
    keys["f" * 64] = keys.pop(key(1).id) | {"keyval": {"public": key(0).public.hex()}}
    roles["root"]["keyids"] = sorted([key(0).id, "f" * 64])
    with pytest.raises(VerificationRefused, match="cannot be read"):
        metadata.parse(sealed(fields, [0]))


def test_python_tuf_reads_and_believes_what_we_sign() -> None:
    bundle = head()
    trusted = Metadata[Root].from_bytes(bundle.roots[1])
    targets = Metadata[Targets].from_bytes(bundle.manifest)
    assert trusted.signed_bytes in bundle.roots[1]
    trusted.signed.verify_delegate("root", trusted.signed_bytes, trusted.signatures)
    trusted.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    assert (targets.signed_bytes.decode()) == encode_canonical(targets.signed.to_dict())


def test_a_fingerprint_is_read_in_groups_of_four() -> None:
    groups = metadata.fingerprint(root()).split(" ")
    assert [len(group) for group in groups] == [4] * 16
