"""Receive: whose bundle is believed, and whether it is for this host. Nothing is changed."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aibox import digest, receiving, trusting
from aibox.bundle.layout import MANIFEST, SSH_SIGNATURE
from aibox.bundle.trust import envelope
from aibox.bundle.trust.key_folder import KeyKind
from aibox.errors import ExitCode, Failed
from aibox.pins import State
from aibox.record import Provenance
from aibox.trusting import NewKey
from small_bundle import MACHINE, PYTHON, Parts, SmallBundle, Supplier, today
from small_site import SmallSite

LONG_AGO = datetime.timedelta(days=3 * 365)


def provenance(site: SmallSite, *folders: Path, **terms: Any) -> Provenance:
    with site.receiving(*folders, **terms) as received:
        receiving.release_of(received, None, MACHINE)
        return received.provenance


# -- whom to believe ----------------------------------------------------------------------------


def test_the_bundle_of_somebody_trusted_is_believed(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    with site.trusting(supplier).receiving(bundle.folder) as received:
        assert receiving.release_of(received, None, MACHINE) == bundle.release
        assert received.provenance.bundle == bundle.made.bundle
        assert received.provenance.sequence == 1
        assert len(received.provenance.signed_by) == 1
        assert received.provenance.notices == ()
        assert received.carried.keys() == bundle.gathered.needed().keys()


def test_a_root_that_is_named_is_enough_and_makes_no_box(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    assert provenance(site, bundle.folder, roots=(supplier.root,)).signed_by
    assert not site.root.exists()


def test_somebody_unknown_is_refused_and_no_box_is_made(
    site: SmallSite, supplier: Supplier
) -> None:
    error = site.refusal(supplier.bundle().folder)
    assert (error.reference, error.exit_code) == ("root-not-trusted", 4)
    assert trusting.fingerprint(supplier.root.read_bytes()) in error.context
    assert not site.root.exists()


@pytest.mark.parametrize("what", ["missing", "a folder"])
def test_a_root_that_cannot_be_read_is_wrong_usage(
    site: SmallSite, supplier: Supplier, place: Path, what: str
) -> None:
    named = place if what == "a folder" else place / "gone"
    error = site.refusal(supplier.bundle().folder, roots=(named,))
    assert (error.reference, error.exit_code) == ("root-unreadable", ExitCode.BAD_USAGE)


def test_a_file_without_end_is_no_root(site: SmallSite, supplier: Supplier) -> None:
    error = site.refusal(supplier.bundle().folder, roots=(Path("/dev/zero"),))
    assert error.reference == "root-too-large"


def unsign(bundle: SmallBundle) -> None:
    """Take every signature and root away, and leave what is said."""
    said = envelope.parse((bundle.folder / MANIFEST).read_bytes(), "bundle")
    (bundle.folder / MANIFEST).write_bytes(envelope.seal(said.payload, ()))
    (bundle.folder / SSH_SIGNATURE).unlink()
    shutil.rmtree(bundle.folder / "root")


def flip_signature(bundle: SmallBundle) -> None:
    manifest = json.loads((bundle.folder / MANIFEST).read_bytes())
    value = manifest["signatures"][0]["sig"]
    manifest["signatures"][0]["sig"] = ("1" if value[0] == "0" else "0") + value[1:]
    (bundle.folder / MANIFEST).write_bytes(digest.canonical_json(manifest))


def sign_as_stranger(bundle: SmallBundle) -> None:
    """Right signatures by keys that the roots do not name."""
    folder = bundle.folder.parent
    stranger = Supplier(folder, folder / "strange")
    trusting.init(stranger.keys, created=today(), root_keys=1, root_threshold=1, release_keys=1)
    stranger.sign(bundle.folder, json.loads((bundle.folder / MANIFEST).read_bytes())["signed"])


NOBODY_VOUCHES: dict[str, Callable[[SmallBundle], None]] = {
    "bundle-unsigned": unsign,
    "bundle-signature-wrong": flip_signature,
    "bundle-key-unknown": sign_as_stranger,
}


@pytest.mark.parametrize("reference", NOBODY_VOUCHES)
def test_a_bundle_nobody_vouches_for_is_taken_only_when_somebody_says_so(
    site: SmallSite, supplier: Supplier, reference: str
) -> None:
    bundle = supplier.bundle()
    NOBODY_VOUCHES[reference](bundle)
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == (reference, 4)
    found = provenance(site, bundle.folder, allow_unsigned=True)
    assert found.signed_by == ()
    (notice,) = found.notices
    assert error.message in notice
    assert any(notice in line for line in site.said)


def test_a_bundle_with_too_few_signatures_is_taken_only_when_somebody_says_so(
    site: SmallSite, place: Path
) -> None:
    careful = Supplier(place, place / "careful")
    counts = {"root_keys": 1, "root_threshold": 1, "release_keys": 2, "release_threshold": 2}
    trusting.init(careful.keys, created=today(), **counts)
    bundle = careful.bundle()
    assert len(provenance(site.trusting(careful), bundle.folder).signed_by) == 2
    (careful.keys / "release-2.key").unlink()
    careful.lie(bundle)
    error = site.refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("bundle-too-few-keys", 4)
    assert provenance(site, bundle.folder, allow_unsigned=True).signed_by == ()


def test_a_bundle_without_a_maker_is_called_so_on_a_box_that_trusts_nobody(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(signed=False)
    assert site.refusal(bundle.folder).reference == "bundle-unsigned"
    assert not provenance(site, bundle.folder, allow_unsigned=True).signed_by


def test_a_stranger_is_taken_only_when_somebody_says_so(
    site: SmallSite, supplier: Supplier
) -> None:
    found = provenance(site, supplier.bundle().folder, allow_unsigned=True)
    assert found.signed_by == ()
    assert "does not trust" in found.notices[0]


def revoke(site: SmallSite, supplier: Supplier, **what: Any) -> None:
    """Bring in a list of revocations by hand."""
    trusting.apply(site.trust, trusting.revoke(supplier.keys, created=today(), **what))


def revoked_key(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    with site.receiving(bundle.folder) as received:
        key = received.provenance.signed_by[0]
    trusting.rotate(supplier.keys, created=today(), add=[NewKey(KeyKind.RELEASE)])
    trusting.apply(site.trust, (supplier.keys / "2.root.json").read_bytes())
    revoke(site, supplier, release_keys=[key])
    shutil.copy(supplier.keys / "2.root.json", bundle.folder / "root/2.root.json")
    return bundle


def revoked_bundle(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    revoke(site, supplier, bundles=[bundle.made.bundle])
    return bundle


def revoked_content(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    revoke(site, supplier, bundles=[bundle.description.content])
    return bundle


def revoked_object(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    revoke(site, supplier, blobs=[bundle.release.files[0].sha256])
    return bundle


def revoked_absent_object(site: SmallSite, supplier: Supplier) -> SmallBundle:
    whole = supplier.bundle("whole")
    driver = whole.release.files[0].sha256 or ""
    bundle = supplier.bundle("delta", Parts(held=frozenset({driver})))
    revoke(site, supplier, blobs=[driver])
    return bundle


def older(site: SmallSite, supplier: Supplier) -> SmallBundle:
    site.take_in(supplier.bundle("newer", Parts(sequence=2)))
    return supplier.bundle("older", Parts(sequence=1))


def below_minimum(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    revoke(site, supplier, min_sequence=5)
    return bundle


def equivocal(site: SmallSite, supplier: Supplier) -> SmallBundle:
    site.take_in(supplier.bundle("one"))
    return supplier.bundle("other", Parts(file=b"another driver"))


def expired(site: SmallSite, supplier: Supplier) -> SmallBundle:
    return supplier.bundle("expired", Parts(date=today() - LONG_AGO))


def without_ssh_signature(site: SmallSite, supplier: Supplier) -> SmallBundle:
    bundle = supplier.bundle()
    (bundle.folder / SSH_SIGNATURE).unlink()
    return bundle


def forked(site: SmallSite, supplier: Supplier) -> SmallBundle:
    """A second root 2 over the same first one."""
    again = Path(shutil.copytree(supplier.keys, supplier.keys.with_name("again")))
    for keys in (supplier.keys, again):
        trusting.rotate(keys, created=today(), add=[NewKey(KeyKind.RELEASE)])
    trusting.apply(site.trust, (supplier.keys / "2.root.json").read_bytes())
    return Supplier(supplier.folder, again).bundle()


FINAL: dict[str, tuple[str, Callable[[SmallSite, Supplier], SmallBundle]]] = {
    "key": ("bundle-key-revoked", revoked_key),
    "bundle": ("bundle-revoked", revoked_bundle),
    "content": ("bundle-revoked", revoked_content),
    "object": ("bundle-revoked", revoked_object),
    "absent object": ("bundle-revoked", revoked_absent_object),
    "older": ("bundle-older", older),
    "below minimum": ("bundle-below-minimum", below_minimum),
    "equivocation": ("bundle-equivocation", equivocal),
    "expired": ("bundle-expired", expired),
    "ssh signature": ("ssh-signature-missing", without_ssh_signature),
    "fork": ("root-equivocation", forked),
}


@pytest.mark.parametrize("case", FINAL)
def test_allowing_unsigned_lets_nothing_else_pass(
    site: SmallSite, supplier: Supplier, case: str
) -> None:
    reference, make = FINAL[case]
    bundle = make(site.trusting(supplier), supplier)
    for allowed in (False, True):
        error = site.refusal(bundle.folder, allow_unsigned=allowed)
        assert (error.reference, error.exit_code) == (reference, 4)


@pytest.mark.parametrize("make", [revoked_content, revoked_object, revoked_absent_object])
@pytest.mark.parametrize("strip", [unsign, flip_signature])
def test_taking_the_signatures_away_revives_nothing_that_was_revoked(
    site: SmallSite,
    supplier: Supplier,
    make: Callable[[SmallSite, Supplier], SmallBundle],
    strip: Callable[[SmallBundle], None],
) -> None:
    bundle = make(site.trusting(supplier), supplier)
    strip(bundle)
    assert site.refusal(bundle.folder, allow_unsigned=True).reference == "bundle-revoked"


@pytest.mark.parametrize(
    ("make", "allowed", "said"),
    [
        (older, "allow_downgrade", "sequence 1; this box took in 2"),
        (below_minimum, "allow_downgrade", "everything below 5 was revoked"),
        (expired, "allow_expired", "the bundle expired on"),
    ],
)
def test_what_was_waved_through_is_told_and_recorded(
    site: SmallSite,
    supplier: Supplier,
    make: Callable[[SmallSite, Supplier], SmallBundle],
    allowed: str,
    said: str,
) -> None:
    bundle = make(site.trusting(supplier), supplier)
    found = provenance(site, bundle.folder, **{allowed: True})
    assert found.signed_by
    (notice,) = (text for text in found.notices if said in text)
    assert any(notice in line for line in site.said)


# -- whether it fits ----------------------------------------------------------------------------


def test_of_several_profiles_one_has_to_be_named(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle(parts=Parts(profiles=("a100", "local"))).folder
    error = site.trusting(supplier).refusal(bundle)
    assert (error.reference, error.exit_code) == ("profile-missing", 2)
    assert all(name in error.message for name in ("a100", "local"))
    with site.receiving(bundle) as received:
        assert receiving.release_of(received, "local", MACHINE).profile == "local"


def test_a_profile_that_is_not_inside_is_wrong_usage(site: SmallSite, supplier: Supplier) -> None:
    error = site.trusting(supplier).refusal(supplier.bundle().folder, profile="a100")
    assert (error.reference, error.exit_code) == ("bundle-lacks-profile", 2)
    assert "'a100'" in error.message
    assert error.hint.endswith("./aibox install --profile local")


def test_another_architecture_is_told(site: SmallSite, supplier: Supplier) -> None:
    error = site.trusting(supplier).refusal(supplier.bundle().folder, machine="riscv64")
    assert (error.reference, error.exit_code) == ("bundle-for-another-architecture", 2)
    assert MACHINE in error.message
    assert error.hint.endswith("--architecture riscv64")


def test_another_python_is_told(site: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle(parts=Parts(pythons=("3.99",)))
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("bundle-for-another-python", 2)
    assert PYTHON in error.message
    assert "3.99" in error.message


def test_a_release_with_something_unresolved_is_refused(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    model = bundle.release.models[0].model_copy(update={"state": State.UNRESOLVED, "files": ()})
    made = bundle.release.model_copy(update={"models": (model,)})
    supplier.lie(bundle, partial(_rename_release, made.id), manifest=made.manifest())
    error = site.trusting(supplier).refusal(bundle.folder)
    assert (error.reference, error.exit_code) == ("release-unresolved", 4)
    assert "small" in error.message


def _rename_release(name: str, said: dict[str, Any]) -> None:
    said["aibox"]["releases"][0]["id"] = name


def newer_format(said: dict[str, Any]) -> None:
    said["aibox"]["format"] = 2


def newer_format_with_more(said: dict[str, Any]) -> None:
    said["aibox"] |= {"format": 2, "something": ["new"]}


@pytest.mark.parametrize("change", [newer_format, newer_format_with_more])
@pytest.mark.parametrize("signed", [True, False])
def test_a_bundle_of_a_later_format_is_called_so(
    site: SmallSite, supplier: Supplier, change: Callable[[dict[str, Any]], None], signed: bool
) -> None:
    bundle = supplier.bundle()
    supplier.lie(bundle, change, signed=signed)
    error = site.trusting(supplier).refusal(bundle.folder, allow_unsigned=not signed)
    assert error.reference == "bundle-too-new"
    assert "2" in error.message


# -- what the operator brings -------------------------------------------------------------------

WEIGHTS = b"weights " * 1000


def forbidden(supplier: Supplier) -> SmallBundle:
    """A bundle without one file of its model."""
    name = digest.of_bytes(WEIGHTS)
    parts = Parts(model={"tokenizer.model": WEIGHTS}, brought=frozenset({name}))
    return supplier.bundle(parts=parts)


def test_the_operators_files_are_found_by_digest_under_any_name(
    site: SmallSite, supplier: Supplier, place: Path
) -> None:
    bundle = forbidden(supplier)
    brought = place / "brought/deep/in"
    brought.mkdir(parents=True)
    (brought / "x.bin").write_bytes(WEIGHTS)
    (brought / "wrong").write_bytes(b"WEIGHTS " * 1000)
    (brought / "other size").write_bytes(b"weights")
    (brought / "nowhere").symlink_to(brought / "gone")
    name = digest.of_bytes(WEIGHTS)
    with site.trusting(supplier).receiving(bundle.folder) as without:
        assert name not in without.carried
    with site.receiving(bundle.folder, weights=(place / "brought",)) as received:
        with received.carried[name]() as stream:
            assert stream.read() == WEIGHTS
        assert received.carried.keys() == {*without.carried, name}


def test_only_files_of_a_wanted_size_are_read(
    site: SmallSite, supplier: Supplier, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = forbidden(supplier)
    folder = place / "brought"
    folder.mkdir()
    (folder / "right size").write_bytes(b"WEIGHTS " * 1000)
    (folder / "other size").write_bytes(b"x")
    hashed: list[str] = []
    whole = digest.of_stream

    def of_stream(stream: Any, *rest: Any) -> tuple[str, int]:
        hashed.append(Path(stream.name).name)
        return whole(stream, *rest)

    monkeypatch.setattr(digest, "of_stream", of_stream)
    with site.trusting(supplier).receiving(bundle.folder, weights=(folder,)):
        assert hashed == ["right size"]


def test_a_folder_of_weights_that_is_not_there_is_wrong_usage(
    site: SmallSite, supplier: Supplier, place: Path
) -> None:
    error = site.trusting(supplier).refusal(forbidden(supplier).folder, weights=(place / "gone",))
    assert (error.reference, error.exit_code) == ("weights-not-found", 2)


def test_weights_on_a_medium_that_fails_are_a_failure_not_a_bug(
    site: SmallSite, supplier: Supplier, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = forbidden(supplier)
    folder = place / "brought"
    folder.mkdir()
    (folder / "file").write_bytes(WEIGHTS)

    def fail(stream: Any, *rest: Any) -> tuple[str, int]:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(digest, "of_stream", fail)
    error = site.trusting(supplier).refusal(bundle.folder, weights=(folder,))
    assert isinstance(error, Failed)
    assert error.reference == "source-unreadable"
    assert "file" in error.message


# -- what a generation holds beside its release -------------------------------------------------


def test_program_interpreter_and_indexes_of_packages_go_into_the_generation(
    site: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle(parts=Parts(interpreter=b"a tar"))
    with site.trusting(supplier).receiving(bundle.folder) as received:
        placed = {item.path: item for item in receiving.derived(received, MACHINE)}
        elsewhere = {item.path for item in receiving.derived(received, "riscv64")}
    assert set(placed) == {
        "program/aibox",
        "program/launcher/bundle.sh",
        "program/bundled-wheels/tool-1.0-py3-none-any.whl",
        f"program-interpreter/{MACHINE}.tar",
        "packages/docker/dists/Release",
    }
    assert placed[f"program-interpreter/{MACHINE}.tar"].sha256 == digest.of_bytes(b"a tar")
    assert elsewhere == placed.keys() - {f"program-interpreter/{MACHINE}.tar"}
