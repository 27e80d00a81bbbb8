"""Signed files have one spelling: anything else is refused, and nothing is ever a traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from aibox.bundle.layout import MANIFEST_LIMIT
from aibox.bundle.trust import envelope, metadata, revocations, targets
from aibox.bundle.trust.have import verify_have
from aibox.bundle.trust.head import read_unverified
from aibox.digest import canonical_json
from aibox.errors import AiboxError, VerificationRefused
from trust_keys import head, key, root, sealed

SIGNED = {"a": [1, True, None, '가 "x" \\ /'], "b": {"c": "d"}}
GOOD = sealed(SIGNED, [1, 2])
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def refusal(data: bytes) -> str:
    with pytest.raises(VerificationRefused) as error:
        envelope.parse(data, "bundle")
    return error.value.reference


def test_a_file_is_taken_apart_and_put_together_again() -> None:
    found = envelope.parse(GOOD, "bundle")
    assert found.signed == SIGNED
    assert envelope.seal(found.payload, found.signatures) == GOOD
    assert [item.key_id for item in found.signatures] == sorted([key(1).id, key(2).id])


@settings(deadline=None)
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_is_signed_is_the_canonical_json_of_tuf(signed: dict[str, object]) -> None:
    spelled = encode_canonical(signed)
    assert spelled is not None
    assert envelope.encode(signed) == spelled.encode()


@pytest.mark.parametrize(
    "other",
    [
        GOOD + b"\n",
        b" " + GOOD,
        GOOD.replace(b",", b", ", 1),
        GOOD.replace(b'"b":{"c":"d"}', b'"b":{"c":"d"},"b":{"c":"d"}'),
        GOOD.replace("가".encode(), b"\\uac00"),
        GOOD.replace(b"/", b"\\/"),
        json.dumps(json.loads(GOOD), ensure_ascii=False).encode(),
        GOOD.replace(b'{"signatures"', b'{"other":1,"signatures"'),
        GOOD.replace(b'"keyid"', b'"note":1,"keyid"'),
        GOOD.replace(key(1).id.encode(), key(1).id.upper().encode()),
        GOOD.replace(b'"sig":"', b'"sig":"00'),
        canonical_json({"signatures": json.loads(GOOD)["signatures"][::-1], "signed": SIGNED}),
        canonical_json({"signatures": {}, "signed": SIGNED}),
        canonical_json({"signatures": [], "signed": []}),
        canonical_json([]),
        b"{}",
        b"",
        b"\xff",
        b"nan",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"signatures":[],"signed":{"a":1.0}}',
        b'{"signatures":[],"signed":{"a":1e3}}',
        b'{"signatures":[],"signed":{"a":NaN}}',
        b'{"signatures":[],"signed":{"a":"\\u0000"}}',
        b'{"signatures":[],"signed":{"a":"\\n"}}',
        b'{"signatures":[],"signed":{"a":"\\\\\\n"}}',
        b'{"signatures":[],"signed":{"a":"\\ud800"}}',
        b'{"signatures":[],"signed":{"a":' + b"9" * 5000 + b"}}",
    ],
    ids=range(29),
)
def test_another_spelling_is_refused(other: bytes) -> None:
    assert refusal(other) == "bundle-malformed"


def test_a_key_that_signs_twice_is_named() -> None:
    assert refusal(sealed(SIGNED, [1, 1])) == "bundle-key-twice"


def test_a_large_file_is_refused_before_it_is_parsed() -> None:
    assert refusal(b"[" * (MANIFEST_LIMIT + 1)) == "bundle-too-large"


PIECES = st.sampled_from(
    [b"{", b"}", b"[", b"]", b'"', b":", b",", b"0", b'{"signatures":[],"signed":', GOOD[:90]]
)
JSON = VALUES.map(lambda value: json.dumps(value).encode())


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(PIECES, max_size=12).map(b"".join)
    | JSON
    | JSON.map(lambda value: b'{"signatures":[],"signed":' + value + b"}")
)
def test_no_bytes_give_anything_but_a_refusal(data: bytes) -> None:
    for read in (read_unverified, metadata.parse, verify_have, read_revocations):
        with pytest.raises(AiboxError):
            read(data)


FIELDS = [json.loads(data)["signed"] for data in (root(), head().manifest)]


@settings(deadline=None)
@given(st.data())
def test_no_value_in_any_field_gives_anything_but_a_refusal(data: st.DataObject) -> None:
    signed = json.loads(json.dumps(data.draw(st.sampled_from(FIELDS))))
    place: object = signed
    while isinstance(place, dict) and place:
        parent, name = place, data.draw(st.sampled_from(sorted(place)))
        place = parent[name]
        if data.draw(st.booleans()):
            break
    parent[name] = data.draw(VALUES)
    changed = sealed(signed, [0])
    for read in (read_unverified, metadata.parse):
        try:
            read(changed)
        except AiboxError as error:
            assert error.exit_code == 4


def read_revocations(data: bytes) -> object:
    return revocations.read(envelope.parse(data, "revocations"))


@pytest.mark.parametrize(
    "text",
    ["2027-3-1T00:00:00Z", "2027-03-01T00:00:00", "2027-03-01 00:00:00Z", "0999-01-01T00:00:00Z"],
)
def test_a_time_has_one_spelling(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        targets.parse_time(text)
