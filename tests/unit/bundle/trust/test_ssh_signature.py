"""The one signature that is checked without our code: ours by ssh-keygen, ssh-keygen's by ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.trust import keys, ssh_signature
from aibox.errors import AiboxError, VerificationRefused
from trust_keys import key

MESSAGE = b'{"signed":"bytes"}'
SIGNED = ssh_signature.sign(key(1), MESSAGE)
ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="no ssh-keygen on this host; install openssh-client to run what customers run",
)


def refusal(data: bytes, message: bytes = MESSAGE) -> str:
    with pytest.raises(VerificationRefused) as error:
        ssh_signature.verify(data, message)
    return error.value.reference


def run(*arguments: str | Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", *map(str, arguments)], input=given, capture_output=True, timeout=30
    )


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A private key as ssh-keygen reads it, and whom to believe."""
    keys.write(tmp_path / "key", keys.private_bytes(key(1), openssh=True), secret=True)
    line = ssh_signature.allowed_signers_line(key(1).public, "key-1")
    (tmp_path / "allowed_signers").write_bytes(line)
    (tmp_path / "signature").write_bytes(SIGNED)
    return tmp_path


def checked(
    files: Path, message: bytes = MESSAGE, *, namespace: str = "bundle@aibox", who: str = ""
) -> int:
    return run(
        "-Y", "verify", "-f", files / "allowed_signers", "-I", who or "release@aibox",
        "-n", namespace, "-s", files / "signature",
        given=message,
    ).returncode  # fmt: skip


def test_a_signature_tells_the_key_that_made_it() -> None:
    assert ssh_signature.verify(SIGNED, MESSAGE) == key(1).public


def test_signing_again_gives_the_same_bytes() -> None:
    assert ssh_signature.sign(key(1), MESSAGE) == SIGNED


def test_other_bytes_are_refused() -> None:
    assert refusal(SIGNED, MESSAGE + b" ") == "ssh-signature-wrong"


def test_a_signature_for_another_purpose_is_refused() -> None:
    other = ssh_signature.sign(key(1), MESSAGE, "git")
    assert refusal(other) == "ssh-signature-for-another-purpose"
    assert ssh_signature.verify(other, MESSAGE, "git") == key(1).public


@pytest.mark.parametrize(
    "other",
    [
        SIGNED.replace(b"\n", b"\r\n"),
        SIGNED.removesuffix(b"\n"),
        SIGNED + SIGNED,
        SIGNED.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
        b"".join(SIGNED.splitlines(keepends=True)[::-1]),
        SIGNED[:60] + b"\n" + SIGNED[60:],
        SIGNED.replace(b"U1NIU0lH", b"U1NIU0lI"),
        b"",
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        SIGNED + b"\n" * 5000,
    ],
    ids=range(10),
)
def test_another_spelling_is_refused(other: bytes) -> None:
    assert refusal(other) == "ssh-signature-malformed"


@settings(deadline=None)
@given(st.binary(max_size=120))
def test_no_bytes_give_anything_but_a_refusal(data: bytes) -> None:
    armoured = SIGNED[:30] + data + SIGNED[-28:]
    for attempt in (data, armoured):
        with pytest.raises(AiboxError):
            ssh_signature.verify(attempt, MESSAGE)


@ssh_keygen
def test_ssh_keygen_believes_what_we_sign(files: Path) -> None:
    assert checked(files) == 0
    assert checked(files, MESSAGE + b"\n") != 0
    assert checked(files, who="somebody@else") != 0


@ssh_keygen
def test_ssh_keygen_does_not_believe_it_for_another_purpose(files: Path) -> None:
    assert checked(files, namespace="file") != 0
    (files / "signature").write_bytes(ssh_signature.sign(key(1), MESSAGE, "file"))
    assert checked(files, namespace="file") != 0, "the key is allowed for bundles alone"


@ssh_keygen
def test_ssh_keygen_does_not_believe_another_key(files: Path) -> None:
    (files / "signature").write_bytes(ssh_signature.sign(key(2), MESSAGE))
    assert checked(files) != 0


@ssh_keygen
@pytest.mark.parametrize("message", [b"", MESSAGE, bytes(range(256)) * 5000], ids=len)
def test_we_believe_what_ssh_keygen_signs_and_sign_the_same(files: Path, message: bytes) -> None:
    path = files / "message"
    path.write_bytes(message)
    assert run("-Y", "sign", "-f", files / "key", "-n", "bundle@aibox", path).returncode == 0
    made = path.with_name("message.sig").read_bytes()
    assert ssh_signature.verify(made, message) == key(1).public
    assert ssh_signature.sign(key(1), message) == made


@ssh_keygen
@pytest.mark.parametrize(
    ("kind", "options", "namespace", "expected"),
    [
        ("ed25519", (), "file", "ssh-signature-for-another-purpose"),
        ("ed25519", ("-O", "hashalg=sha256"), "bundle@aibox", "ssh-signature-malformed"),
        ("ecdsa", (), "bundle@aibox", "ssh-signature-malformed"),
        ("rsa", (), "bundle@aibox", "ssh-signature-malformed"),
    ],
)
def test_what_else_ssh_keygen_can_sign_is_refused(
    tmp_path: Path, kind: str, options: tuple[str, ...], namespace: str, expected: str
) -> None:
    path = tmp_path / "message"
    path.write_bytes(MESSAGE)
    run("-q", "-t", kind, "-N", "", "-f", tmp_path / "key")
    run("-Y", "sign", *options, "-f", tmp_path / "key", "-n", namespace, path)
    assert refusal((tmp_path / "message.sig").read_bytes()) == expected
