"""The key of package repositories: made once, kept private, signs the same bytes the same way."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest

from aibox.bundle.build import package_key
from aibox.bundle.build.package_key import PackageKey, load_or_make
from aibox.errors import BadUsage, Failed
from package_maker import needs_apt

pytestmark = needs_apt

DATE = datetime.date(2026, 1, 15)


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> PackageKey:
    return load_or_make(tmp_path_factory.mktemp("signing"))


def verified(key: PackageKey, folder: Path, *files: Path) -> str:
    """What gpgv says about signatures, with the key alone."""
    keyring = folder / "keyring.gpg"
    keyring.write_bytes(key.public)
    words = ["gpgv", "--status-fd", "1", "--keyring", str(keyring), *map(str, files)]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def test_it_is_made_once_and_only_its_owner_reads_it(key: PackageKey) -> None:
    assert key.secret.stat().st_mode & 0o777 == 0o600
    assert load_or_make(key.secret.parent) == key
    assert [path.name for path in key.secret.parent.iterdir()] == [package_key.FILE]


def test_the_public_key_holds_no_secret(key: PackageKey) -> None:
    assert b"BEGIN PGP PUBLIC KEY BLOCK" in key.armoured
    assert b"PRIVATE" not in key.armoured
    # Tag 6 is a public key, 5 a secret one.
    assert key.public[0] in (0x98, 0xC6)


def test_a_signature_is_good_dated_and_repeatable(key: PackageKey, place: Path) -> None:
    (place / "text").write_bytes(b"Origin: aibox\n")
    detached = key.sign(b"Origin: aibox\n", DATE, inline=False)
    (place / "sig").write_bytes(detached)
    said = verified(key, place, place / "sig", place / "text")
    assert f"VALIDSIG {key.fingerprint.upper()} 2026-01-15" in said
    assert key.sign(b"Origin: aibox\n", DATE, inline=False) == detached


def test_a_clear_signature_carries_the_text(key: PackageKey, place: Path) -> None:
    (place / "InRelease").write_bytes(key.sign(b"Origin: aibox\n", DATE, inline=True))
    assert "VALIDSIG" in verified(key, place, place / "InRelease")
    assert b"\nOrigin: aibox\n" in (place / "InRelease").read_bytes()


def test_other_text_is_not_what_was_signed(key: PackageKey, place: Path) -> None:
    signed = key.sign(b"Origin: aibox\n", DATE, inline=True)
    (place / "InRelease").write_bytes(signed.replace(b"aibox", b"other"))
    assert "BADSIG" in verified(key, place, place / "InRelease")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_refused(key: PackageKey, place: Path, mode: int) -> None:
    copy = place / package_key.FILE
    copy.write_bytes(key.secret.read_bytes())
    copy.chmod(mode)
    with pytest.raises(BadUsage) as refusal:
        load_or_make(place)
    assert refusal.value.reference == "package-key-exposed"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n"])
def test_a_damaged_key_is_no_reason_to_make_another(place: Path, content: bytes) -> None:
    path = place / package_key.FILE
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(BadUsage) as refusal:
        load_or_make(place)
    assert refusal.value.reference == "package-key-damaged"
    assert path.read_bytes() == content


def test_a_folder_that_is_not_there_is_a_plain_error(place: Path) -> None:
    with pytest.raises(Failed) as error:
        load_or_make(place / "nothing")
    assert error.value.reference == "package-key-unwritable"


def test_a_machine_without_gpg_says_what_to_install(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(place))
    with pytest.raises(Failed, match="gpg") as error:
        load_or_make(place)
    assert error.value.reference == "tool-missing"
    assert "apt-get install" in error.value.hint
