"""A packager's folder of keys, from the first day to the day a key is lost."""

from __future__ import annotations

import datetime
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from aibox.bundle.trust import keys, metadata, signing
from aibox.bundle.trust.head import Floors, Head, read_unverified, verify
from aibox.bundle.trust.key_folder import KeyKind
from aibox.bundle.trust.metadata import RELEASE, ROOT
from aibox.bundle.trust.signing import NewKey
from aibox.errors import BadUsage, Failed, VerificationRefused
from trust_keys import CREATED, NOW, blob, description

NAMED = {"aibox": blob("launcher"), "blobs/sha256/" + blob("index").sha256: blob("index")}
LATER = CREATED + datetime.timedelta(days=30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    signing.initialise(tmp_path / "keys", created=CREATED)
    return tmp_path / "keys"


def signed(folder: Path, sequence: int = 3) -> Head:
    return signing.sign_manifest(folder, description(), NAMED, sequence)


def newest(folder: Path) -> metadata.TrustedRoot:
    roots = {int(path.name.split(".")[0]): path.read_bytes() for path in folder.glob("*.root.json")}
    return metadata.follow(roots)[-1]


def key_id(folder: Path, name: str) -> str:
    return keys.key_id(keys.read_public(folder / f"{name}.pub"))


def refusal(work: object) -> str:
    with pytest.raises(BadUsage) as error:
        assert callable(work)
        work()
    return error.value.reference


def first(folder: Path) -> bytes:
    return (folder / "1.root.json").read_bytes()


def believed(folder: Path, bundle: Head) -> list[str]:
    found = verify(bundle, trusted=first(folder), floors=Floors(), now=NOW)
    return [item.name for item in found.signers]


# -- the folder ---------------------------------------------------------------------------------


def test_a_new_folder_has_what_everybody_needs(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "1.root.json",
        "README.txt",
        "allowed_signers",
        *("release-1.key", "release-1.pub", "release-2.key", "release-2.pub"),
        *("root-1.key", "root-1.pub", "root-2.key", "root-2.pub", "root-3.key", "root-3.pub"),
    ]
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*.key")}
    assert modes == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_first_root_asks_for_two_of_three_and_lasts_five_years(folder: Path) -> None:
    root = newest(folder)
    assert (root.threshold(ROOT), len(root.keys(ROOT))) == (2, 3)
    assert (root.threshold(RELEASE), len(root.keys(RELEASE))) == (1, 2)
    assert root.expires.date() == datetime.date(2032, 2, 29)


def test_the_readme_tells_the_fingerprint_and_who_keeps_what(folder: Path) -> None:
    text = (folder / "README.txt").read_text(encoding="utf-8")
    assert metadata.fingerprint(first(folder)) in text
    assert "3 people" in text
    assert "PRIVATE" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_keys_that_could_not_be_finished_leave_nothing_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    (folder / "README.txt").mkdir(parents=True)
    with pytest.raises(Failed) as caught:
        signing.initialise(folder, created=CREATED)
    assert caught.value.reference == "key-folder-refused"
    assert {path.name for path in folder.iterdir()} == {"allowed_signers", "README.txt"}
    (folder / "README.txt").rmdir()
    assert signing.initialise(folder, created=CREATED).root == (folder / "1.root.json").read_bytes()


def test_a_folder_with_keys_is_left_alone(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert refusal(lambda: signing.initialise(folder, created=CREATED)) == "keys-exist"
    (folder / "1.root.json").unlink()
    assert refusal(lambda: signing.initialise(folder, created=CREATED)) == "keys-exist"
    del before["1.root.json"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("count", "threshold"), [(1, 2), (0, 1), (3, 0), (0, 0)], ids=lambda value: str(value)
)
def test_thresholds_that_nobody_can_reach_are_refused_before_anything_is_written(
    tmp_path: Path, count: int, threshold: int
) -> None:
    made = tmp_path / "keys"
    for kind in ("root", "release"):
        words = {f"{kind}_keys": count, f"{kind}_threshold": threshold}
        with pytest.raises(BadUsage) as error:
            signing.initialise(made, created=CREATED, **words)
        assert error.value.reference == "threshold-unreachable"
        assert not made.exists()


# -- bundles ------------------------------------------------------------------------------------


def test_a_signed_bundle_is_believed_with_its_first_root_alone(folder: Path) -> None:
    found = verify(signed(folder), trusted=first(folder), floors=Floors(), now=NOW)
    assert [item.name for item in sorted(found.signers, key=lambda item: item.name)] == [
        "release-1",
        "release-2",
    ]
    assert (found.sequence, found.named) == (3, NAMED)
    assert found.expires.date() == CREATED + datetime.timedelta(days=730)


def test_signing_again_gives_the_same_bytes(folder: Path) -> None:
    assert signed(folder) == signed(folder)


def test_the_order_in_which_things_are_named_does_not_matter(folder: Path) -> None:
    other = signing.sign_manifest(folder, description(), dict(reversed(NAMED.items())), 3)
    assert other == signed(folder)


def test_one_release_key_is_enough_and_root_keys_are_not_needed(folder: Path) -> None:
    for path in (*folder.glob("root-*.key"), folder / "release-2.key"):
        path.unlink()
    assert believed(folder, signed(folder)) == ["release-1"]


def test_a_root_key_that_lies_open_does_not_stop_a_release(folder: Path) -> None:
    (folder / "root-1.key").chmod(0o644)
    signed(folder)
    assert refusal(lambda: signing.rotate(folder, created=LATER)) == "key-file-open-to-others"


def test_without_a_release_key_nothing_is_signed(folder: Path) -> None:
    for path in folder.glob("release-*.key"):
        path.unlink()
    with pytest.raises(BadUsage, match="asks for 1") as error:
        signed(folder)
    assert error.value.reference == "keys-too-few"
    assert "release-1, release-2" in error.value.context
    assert error.value.hint.endswith("./aibox bundle build --sign DIR")


def test_a_release_key_that_lies_open_is_refused(folder: Path) -> None:
    (folder / "release-1.key").chmod(0o640)
    assert refusal(lambda: signed(folder)) == "key-file-open-to-others"


def test_a_key_file_twice_is_one_key(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    signing.initialise(folder, created=CREATED, release_threshold=2)
    shutil.copy2(folder / "release-1.key", folder / "release-2.key")
    assert refusal(lambda: signed(folder)) == "keys-too-few"


def test_another_folder_is_no_folder_of_keys(tmp_path: Path) -> None:
    assert refusal(lambda: signed(tmp_path)) == "keys-missing"
    assert refusal(lambda: signed(tmp_path / "nothing")) == "keys-missing"


def test_a_bundle_that_every_box_would_refuse_is_not_signed(folder: Path) -> None:
    late = description(created=datetime.date(2032, 2, 29))
    with pytest.raises(VerificationRefused) as error:
        signing.sign_manifest(folder, late, NAMED, 3)
    assert error.value.reference == "root-expired"


@pytest.mark.parametrize("odd", ["a\nb", "\x1b[31m", "\x00"])
def test_control_characters_are_not_signed(folder: Path, odd: str) -> None:
    strange = description().model_copy(update={"architectures": (odd,)})
    assert refusal(lambda: signing.sign_manifest(folder, strange, NAMED, 3)) == (
        "manifest-unsignable"
    )


def test_an_unsigned_bundle_can_be_looked_at_and_no_more(folder: Path) -> None:
    bundle = signing.unsigned_manifest(description(), NAMED, 3)
    assert read_unverified(bundle.manifest).named == NAMED
    assert read_unverified(bundle.manifest).signed_by == ()
    with pytest.raises(VerificationRefused) as error:
        believed(folder, bundle)
    assert error.value.reference == "bundle-unsigned"


@pytest.mark.skipif(
    shutil.which("ssh-keygen") is None,
    reason="no ssh-keygen on this host; install openssh-client to run what customers run",
)
def test_a_customer_checks_a_bundle_with_ssh_keygen_alone(folder: Path, tmp_path: Path) -> None:
    bundle = signed(folder)
    (tmp_path / "bundle.json.sig").write_bytes(bundle.ssh_signature or b"")
    command = [
        *("ssh-keygen", "-Y", "verify", "-f", folder / "allowed_signers", "-I", "release@aibox"),
        *("-n", "bundle@aibox", "-s", tmp_path / "bundle.json.sig"),
    ]
    for data, right in ((bundle.manifest, True), (bundle.manifest + b" ", False)):
        ended = subprocess.run(command, input=data, capture_output=True, timeout=30)
        assert (ended.returncode == 0) is right


# -- new roots ----------------------------------------------------------------------------------


def test_a_new_root_lasts_longer_and_keeps_the_keys(folder: Path) -> None:
    before = newest(folder)
    signing.rotate(folder, created=LATER)
    after = newest(folder)
    assert after.version == 2
    assert after.expires > before.expires
    assert after.keys(ROOT).keys() == before.keys(ROOT).keys()


def test_a_lost_root_key_is_replaced(folder: Path) -> None:
    lost = key_id(folder, "root-1")
    (folder / "root-1.key").unlink()
    signing.rotate(folder, created=LATER, add=[NewKey(KeyKind.ROOT)], remove=[lost])
    root = newest(folder)
    assert sorted(root.name(key) for key in root.keys(ROOT)) == ["root-2", "root-3", "root-4"]
    believed(folder, signed(folder))


def test_a_release_key_is_replaced_and_customers_are_told(folder: Path) -> None:
    gone = key_id(folder, "release-1")
    signing.rotate(folder, created=LATER, add=[NewKey(KeyKind.RELEASE)], remove=[gone])
    assert sorted(believed(folder, signed(folder))) == ["release-2", "release-3"]
    text = (folder / "allowed_signers").read_text(encoding="utf-8")
    assert [line.split()[-1] for line in text.splitlines()] == ["release-2", "release-3"]


def test_a_key_made_by_its_holder_joins(folder: Path, tmp_path: Path) -> None:
    holder = keys.generate("kim")
    (tmp_path / "kim.pub").write_bytes(keys.public_line(holder.public, "kim@safe"))
    add = [NewKey(KeyKind.ROOT, tmp_path / "kim.pub")]
    signing.rotate(folder, created=LATER, add=add)
    assert newest(folder).name(holder.id) == "kim"
    assert refusal(lambda: signing.rotate(folder, created=LATER, add=add)) == "key-known"
    (tmp_path / "root-2.pub").write_bytes(keys.public_line(keys.generate("x").public, "x"))
    taken = [NewKey(KeyKind.ROOT, tmp_path / "root-2.pub")]
    assert refusal(lambda: signing.rotate(folder, created=LATER, add=taken)) == "key-known"


def test_root_keys_may_come_from_the_media_of_their_holders(folder: Path, tmp_path: Path) -> None:
    for name in ("root-1", "root-2", "root-3"):
        (folder / f"{name}.key").rename(tmp_path / f"{name}.key")
    assert refusal(lambda: signing.rotate(folder, created=LATER)) == "keys-too-few"
    files = [tmp_path / "root-1.key", tmp_path / "root-3.key"]
    signing.rotate(folder, created=LATER, key_files=files)
    assert newest(folder).version == 2


def test_too_few_root_keys_change_nothing(folder: Path) -> None:
    before = sorted(path.name for path in folder.iterdir())
    for name in ("root-1", "root-2"):
        (folder / f"{name}.key").unlink()
    with pytest.raises(BadUsage) as error:
        signing.rotate(folder, created=LATER, add=[NewKey(KeyKind.RELEASE)])
    assert error.value.reference == "keys-too-few"
    assert error.value.hint.endswith("./aibox trust rotate DIR --key FILE")
    left = sorted(path.name for path in folder.iterdir())
    assert left == [name for name in before if name not in ("root-1.key", "root-2.key")]


def test_the_new_rule_needs_the_new_keys(folder: Path, tmp_path: Path) -> None:
    for name in ("kim", "lee"):
        line = keys.public_line(keys.generate(name).public, name)
        (tmp_path / f"{name}.pub").write_bytes(line)
    add = [NewKey(KeyKind.ROOT, tmp_path / f"{name}.pub") for name in ("kim", "lee")]
    assert (
        refusal(lambda: signing.rotate(folder, created=LATER, add=add, root_threshold=4))
        == "keys-too-few"
    )


@pytest.mark.parametrize("threshold", [4, -1])
def test_a_threshold_above_the_keys_is_refused(folder: Path, threshold: int) -> None:
    assert (
        refusal(lambda: signing.rotate(folder, created=LATER, root_threshold=threshold))
        == "threshold-unreachable"
    )


def test_a_key_that_is_not_there_cannot_be_removed(folder: Path) -> None:
    with pytest.raises(BadUsage) as error:
        signing.rotate(folder, created=LATER, remove=["0" * 64])
    assert error.value.reference == "key-unknown"
    assert f"release-1 = {key_id(folder, 'release-1')}" in error.value.context


# -- revocations --------------------------------------------------------------------------------


def test_a_revoked_key_signs_no_more(folder: Path) -> None:
    before = signed(folder)
    gone = key_id(folder, "release-1")
    data = signing.revoke(folder, created=LATER, release_keys=[gone])
    assert believed(folder, signed(folder)) == ["release-2"]
    with pytest.raises(VerificationRefused):
        verify(
            Head(before.manifest, before.ssh_signature, before.roots, data),
            trusted=first(folder),
            floors=Floors(),
            now=NOW,
            revocations=signing.revoke(
                folder, created=LATER, release_keys=[key_id(folder, "release-2")]
            ),
        )


def test_a_list_only_grows(folder: Path) -> None:
    signing.revoke(folder, created=LATER, bundles=["a" * 64], min_sequence=9)
    signing.revoke(folder, created=CREATED, blobs=["b" * 64], bundles=["0" * 64], min_sequence=2)
    bundle = signing.sign_manifest(folder, description(), NAMED, 9)
    found = verify(bundle, trusted=first(folder), floors=Floors(), now=NOW).revocations
    assert found is not None
    assert (found.version, found.min_sequence, found.created) == (2, 9, LATER)
    assert (found.bundles, found.blobs) == (("0" * 64, "a" * 64), ("b" * 64,))


def test_what_was_revoked_is_not_signed_again(folder: Path) -> None:
    signing.revoke(folder, created=LATER, bundles=[description().content])
    with pytest.raises(VerificationRefused) as error:
        signed(folder)
    assert error.value.reference == "bundle-revoked"


def test_a_list_is_signed_again_for_a_new_root(folder: Path) -> None:
    signing.revoke(folder, created=LATER, release_keys=[key_id(folder, "release-1")])
    lost = [key_id(folder, name) for name in ("root-1", "root-2")]
    add = [NewKey(KeyKind.ROOT), NewKey(KeyKind.ROOT)]
    signing.rotate(folder, created=LATER, add=add, remove=lost)
    bundle = signed(folder)
    found = verify(bundle, trusted=first(folder), floors=Floors(), now=NOW)
    assert found.revocations is not None
    assert found.revocations.version == 2


def test_a_rotation_that_broke_off_before_its_root_can_be_run_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signing.revoke(folder, created=LATER, min_sequence=2)
    lost = [key_id(folder, name) for name in ("root-1", "root-2")]
    add = [NewKey(KeyKind.ROOT), NewKey(KeyKind.ROOT)]

    def broken(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(signing.key_folder, "write_root", broken)
        signing.rotate(folder, created=LATER, add=add, remove=lost)
    signing.rotate(folder, created=LATER, add=add, remove=lost)
    believed(folder, signed(folder))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"release_keys": ["0" * 64]}, "key-unknown"),
        ({"release_keys": ["release-1"]}, "key-unknown"),
        ({"bundles": ["abc"]}, "revocation-malformed"),
        ({"blobs": ["A" * 64]}, "revocation-malformed"),
        ({"min_sequence": -1}, "nothing-to-revoke"),
        ({}, "nothing-to-revoke"),
    ],
)
def test_a_misspelt_revocation_is_refused(
    folder: Path, words: dict[str, object], expected: str
) -> None:
    assert refusal(lambda: signing.revoke(folder, created=LATER, **words)) == expected  # type: ignore[arg-type]
    assert not (folder / "revoked.json").exists()


def test_root_keys_are_replaced_not_revoked(folder: Path) -> None:
    root_key = key_id(folder, "root-1")
    assert (
        refusal(lambda: signing.revoke(folder, created=LATER, release_keys=[root_key]))
        == "key-unknown"
    )


def test_revoking_takes_as_many_root_keys_as_a_new_root(folder: Path) -> None:
    for name in ("root-1", "root-2"):
        (folder / f"{name}.key").unlink()
    assert refusal(lambda: signing.revoke(folder, created=LATER, min_sequence=2)) == "keys-too-few"
    assert not (folder / "revoked.json").exists()
