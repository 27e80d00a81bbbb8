"""Key files: what is read, what is refused, and that no secret is ever in a message."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import SSlibKey

from aibox.bundle.trust import keys
from aibox.errors import BadUsage, Failed
from trust_keys import key

PRIVATE = keys.private_bytes(key(1), openssh=True)

ssh_keygen = pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="no ssh-keygen on this host; install openssh-client to run what customers run",
)


def make_key(path: Path, passphrase: str = "") -> None:
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)]
    subprocess.run(made, check=True, timeout=30)


def written(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BadUsage) as error:
        keys.read_private(path)
    lines = [line for line in PRIVATE.decode().splitlines() if not line.startswith("-----")]
    assert not any(line in str(error.value) for line in lines)
    return error.value.reference


@pytest.mark.parametrize("openssh", [True, False], ids=["OpenSSH", "PKCS8"])
def test_both_forms_are_read(tmp_path: Path, openssh: bool) -> None:
    path = tmp_path / "release-1.key"
    keys.write(path, keys.private_bytes(key(1), openssh=openssh), secret=True)
    found = keys.read_private(path)
    assert (found.name, found.id) == ("release-1", key(1).id)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_id_of_a_key_is_the_one_tuf_computes() -> None:
    assert key(1).id == SSlibKey.from_crypto(key(1).private.public_key()).keyid


def test_a_key_does_not_show_its_secret() -> None:
    assert "private" not in repr(key(1))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o610])
def test_a_key_that_others_can_touch_is_refused(tmp_path: Path, mode: int) -> None:
    assert refusal(written(tmp_path / "k", PRIVATE, mode)) == "key-file-open-to-others"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    written(tmp_path / "real", PRIVATE)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert refusal(tmp_path / "link") == "key-file-is-a-link"


def test_what_is_not_a_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe") == "key-file-malformed"
    (tmp_path / "folder").mkdir(mode=0o700)
    assert refusal(tmp_path / "folder") == "key-file-malformed"
    assert refusal(tmp_path / "nothing") == "key-file-missing"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "k", b"")
    os.truncate(path, 1 << 40)
    assert refusal(path) == "key-file-malformed"


def test_a_key_with_a_passphrase_says_so(tmp_path: Path) -> None:
    data = key(1).private.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    assert refusal(written(tmp_path / "k", data)) == "key-file-encrypted"


@ssh_keygen
def test_a_key_that_ssh_keygen_gave_a_passphrase_says_so(tmp_path: Path) -> None:
    make_key(tmp_path / "k", passphrase="secret")
    assert refusal(tmp_path / "k") == "key-file-encrypted"


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.PKCS8])
def test_another_kind_of_key_is_refused(tmp_path: Path, form: PrivateFormat) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    data = other.private_bytes(Encoding.PEM, form, NoEncryption())
    assert refusal(written(tmp_path / "k", data)) == "key-file-malformed"


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(PRIVATE)), st.booleans())
def test_no_bytes_give_anything_but_a_refusal(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, keep: bool
) -> None:
    folder = tmp_path_factory.getbasetemp()
    path = written(folder / "k", PRIVATE[:cut] + data if keep else data)
    for read in (keys.read_private, keys.read_public):
        try:
            read(path)
        except BadUsage as error:
            assert error.reference.startswith("key-file-")


def test_a_public_key_is_read_as_ssh_keygen_writes_it(tmp_path: Path) -> None:
    line = keys.public_line(key(1).public, "kim@safe") + b"\n"
    assert keys.read_public(written(tmp_path / "kim.pub", line, 0o644)) == key(1).public


@ssh_keygen
def test_keys_made_by_ssh_keygen_are_read(tmp_path: Path) -> None:
    make_key(tmp_path / "lee")
    assert keys.read_public(tmp_path / "lee.pub") == keys.read_private(tmp_path / "lee").public


def test_writing_replaces_a_file_as_a_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".k.new").write_bytes(b"left by a crash")
    keys.write(tmp_path / "k", b"1")
    keys.write(tmp_path / "k", b"22")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("k", b"22")]


def test_a_folder_that_is_not_there_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(Failed) as error:
        keys.write(tmp_path / "nothing" / "k", b"1")
    assert error.value.reference == "key-folder-refused"


def test_new_keys_differ() -> None:
    assert keys.generate("a").id != keys.generate("a").id
    assert isinstance(keys.generate("a").private, Ed25519PrivateKey)
