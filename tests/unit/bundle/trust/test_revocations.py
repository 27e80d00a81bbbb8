"""A list of revocations has one spelling, and says all of what it says."""

from __future__ import annotations

import datetime

import pytest

from aibox.bundle.trust import envelope, revocations
from aibox.bundle.trust.revocations import Revocations
from aibox.errors import VerificationRefused
from trust_keys import CREATED, revoked, sealed

FIELDS = dict(envelope.parse(revoked(), "revocations").signed)
A, B = "a" * 64, "b" * 64


def read(data: bytes) -> Revocations:
    return revocations.read(envelope.parse(data, "revocations"))


def test_a_list_is_read_as_it_was_signed() -> None:
    found = read(revoked(3, bundles=[B, A], blobs=[A], min_sequence=4))
    assert (found.version, found.created, found.min_sequence) == (3, CREATED, 4)
    assert (found.bundles, found.blobs, found.keys) == ((A, B), (A,), ())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_type", "root"),
        ("format", 2),
        ("format", True),
        ("version", 0),
        ("version", "1"),
        ("version", True),
        ("created", "2027-03-01T00:00:00"),
        ("created", 0),
        ("keys", [B, A]),
        ("keys", [A, A]),
        ("keys", [A.upper()]),
        ("bundles", ["abc"]),
        ("blobs", {}),
        ("min_sequence", -1),
        ("min_sequence", "0"),
        ("expires", "2029-02-28T00:00:00Z"),
    ],
)
def test_a_field_that_is_not_as_it_would_be_written_is_refused(field: str, value: object) -> None:
    with pytest.raises(VerificationRefused) as error:
        read(sealed(FIELDS | {field: value}, [0]))
    assert error.value.reference == "revocations-malformed"


@pytest.mark.parametrize("field", FIELDS)
def test_no_field_may_be_left_out(field: str) -> None:
    with pytest.raises(VerificationRefused):
        read(sealed({name: value for name, value in FIELDS.items() if name != field}, [0]))


def test_a_list_knows_no_end() -> None:
    assert read(revoked(created=datetime.date(1999, 1, 1))).created.year == 1999
