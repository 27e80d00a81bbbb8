"""What apt prints: files with their digests, addresses without secrets, troubles told apart."""

from __future__ import annotations

import pytest

from aibox.bundle.packages.apt_output import (
    listed,
    path_below,
    scrubbed,
    trouble_of_closure,
    trouble_of_update,
)
from aibox.errors import VerificationRefused

DIGEST = "ab" * 32


def test_a_file_is_named_with_its_bytes() -> None:
    file = "d-e_5%3a1+2~x_amd64.deb"
    line = f"'http://a.example/pool/d/d_5%253a1%2b2_amd64.deb' {file} 12 SHA256:{DIGEST}"
    (found,) = listed(["Reading package lists...", line])
    assert (found.name, found.version, found.architecture) == ("d-e", "5:1+2~x", "amd64")
    assert (found.size, found.sha256) == (12, DIGEST)


@pytest.mark.parametrize("tail", ["12 MD5Sum:" + "ab" * 16, "12 ", "x SHA256:" + DIGEST])
def test_a_file_without_digest_is_refused(tail: str) -> None:
    with pytest.raises(VerificationRefused, match="no SHA-256"):
        listed([f"'http://a.example/d.deb' d_1_all.deb {tail}"])


@pytest.mark.parametrize(
    ("address", "base", "expected"),
    [
        ("http://a.example/debian/pool/x%2b1.deb", "http://a.example/debian", "pool/x+1.deb"),
        ("http://a.example/debian/pool/x.deb", "http://me:pw@a.example/debian/", "pool/x.deb"),
        ("file:/srv/a/./x.deb", "file:///srv/a", "x.deb"),
        ("http://a.example/debian-security/x.deb", "http://a.example/debian", None),
        ("http://b.example/debian/x.deb", "http://a.example/debian", None),
    ],
)
def test_a_path_is_what_lies_below_the_archive(
    address: str, base: str, expected: str | None
) -> None:
    assert path_below(address, base) == expected


@pytest.mark.parametrize(
    ("line", "reference", "exit_code"),
    [
        ("E: The repository 'x' is not signed.", "archive-signature-refused", 4),
        ("W: GPG error: x: NO_PUBKEY 0123", "archive-signature-refused", 4),
        ("E: Release file for x is expired (invalid since 3d).", "archive-expired", 4),
        ("E: Release file for x is not valid yet (for another 2h)", "archive-expired", 4),
        ("E: Failed to fetch x  Hash Sum mismatch", "archive-index-refused", 4),
        ("E: Failed to fetch x  File has unexpected size (1 != 2)", "archive-index-refused", 4),
        ("E: The repository 'x' does not have a Release file.", "archive-without-release", 1),
        ("E: Failed to fetch x  Could not resolve 'x'", "archive-unreachable", 1),
        ("E: something new", "archive-update-failed", 1),
    ],
)
def test_troubles_of_an_update_are_told_apart(line: str, reference: str, exit_code: int) -> None:
    error = trouble_of_update(["Get:1 x", line])
    assert (error.reference, error.exit_code) == (reference, exit_code)
    assert line in error.context
    assert error.hint.endswith("./aibox lock")


def test_a_silent_failure_still_has_an_error() -> None:
    assert trouble_of_update([]).reference == "archive-update-failed"
    assert trouble_of_closure([], "debian-13").reference == "packages-unresolved"


def test_passwords_of_mirrors_are_not_repeated() -> None:
    line = "E: Failed to fetch https://me:secret@a.example/x  Could not connect"
    assert "secret" not in trouble_of_update([line]).context
    assert scrubbed("see https://me:secret@a.example/x") == "see https://a.example/x"
