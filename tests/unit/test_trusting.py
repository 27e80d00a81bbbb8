"""A box and whom it trusts: first trust, new roots, revocations, bundles one after the other."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from aibox import digest, trusting
from aibox.box.filesystem import Filesystem
from aibox.box.trust_store import ChainFloors, TrustStore
from aibox.bundle.trust import key_folder, keys, signing
from aibox.bundle.trust.have import Holdings, verify_have
from aibox.bundle.trust.head import Floors, Head, Verified
from aibox.errors import AiboxError, NeedsPerson, VerificationRefused
from faults import KillAt, Recorder, in_a_process
from trust_keys import (
    CREATED,
    NOW,
    RELEASE_KEY,
    SEQUENCE,
    blob,
    description,
    head,
    key,
    revoked,
    root,
    statement,
)

FIRST, SECOND, THIRD = root(1), root(2, (1,), signers=(0, 1)), root(3, (1,))
CHAIN = digest.of_bytes(FIRST)
OTHERS = root(1, (50,), release=(60,))
LATER = statement(SEQUENCE + 1, content="later")


@pytest.fixture
def store(tmp_path: Path) -> TrustStore:
    return TrustStore(tmp_path)


@pytest.fixture
def trusted(store: TrustStore) -> TrustStore:
    trusting.add(store, FIRST)
    return store


def verified(store: TrustStore, bundle: Head, **words: object) -> Verified:
    return trusting.verify_head(store, bundle, now=NOW, **words)  # type: ignore[arg-type]


def taken(store: TrustStore, bundle: Head) -> trusting.Chain:
    return trusting.accept(store, verified(store, bundle))


def refusal(work: Callable[..., object], *arguments: object, **words: object) -> str:
    with pytest.raises(VerificationRefused) as error:
        work(*arguments, **words)
    return error.value.reference


# -- whom to trust ------------------------------------------------------------------------------


def test_trust_begins_with_a_first_root(store: TrustStore) -> None:
    chain = trusting.add(store, FIRST)
    assert (chain.name, chain.version, chain.trouble) == (CHAIN, 1, "")
    assert chain.release_keys == {key(RELEASE_KEY).id: f"key-{RELEASE_KEY}"}
    assert chain.fingerprint == trusting.fingerprint(FIRST)
    assert trusting.add(store, FIRST) == chain == trusting.chains(store)[0]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (SECOND, "root-not-first"),
        (root(1, (0, 1), 2, signers=(0,)), "root-too-few-keys"),
        (root(1, signers=(5,)), "root-key-unknown"),
        (head().manifest, "root-malformed"),
        (b"", "root-malformed"),
    ],
    ids=range(5),
)
def test_what_is_no_first_root_is_not_trusted(
    store: TrustStore, data: bytes, expected: str
) -> None:
    assert refusal(trusting.add, store, data) == expected
    assert trusting.chains(store) == ()


def test_a_bundle_of_a_stranger_tells_the_fingerprint_to_compare(store: TrustStore) -> None:
    with pytest.raises(VerificationRefused) as error:
        verified(store, head())
    assert error.value.reference == "root-not-trusted"
    assert trusting.fingerprint(FIRST) in error.value.context


def test_of_several_makers_the_right_one_is_found(trusted: TrustStore) -> None:
    trusting.add(trusted, OTHERS)
    theirs = head(signers=[60], ssh_signer=60, roots=[OTHERS])
    assert verified(trusted, theirs).chain == digest.of_bytes(OTHERS)
    assert verified(trusted, head()).chain == CHAIN
    mixed = head(signers=[60], ssh_signer=60)
    assert refusal(verified, trusted, mixed) == "bundle-key-unknown"


def test_a_given_root_takes_the_place_of_the_trusted_ones(trusted: TrustStore) -> None:
    theirs = head(signers=[60], ssh_signer=60, roots=[OTHERS])
    assert verified(trusted, theirs, roots_given=[OTHERS]).chain == digest.of_bytes(OTHERS)
    assert refusal(verified, trusted, head(), roots_given=[OTHERS]) == "root-not-trusted"


def test_a_given_root_does_not_undo_what_the_box_has_seen(trusted: TrustStore) -> None:
    taken(trusted, head(LATER))
    assert refusal(verified, trusted, head(), roots_given=[FIRST]) == "bundle-older"


@pytest.mark.parametrize("trust", [True, False])
def test_an_unsigned_bundle_is_called_unsigned_whoever_is_trusted(
    store: TrustStore, trust: bool
) -> None:
    if trust:
        trusting.add(store, FIRST)
    unsigned = Head(head(signers=[]).manifest, None, {}, None)
    assert refusal(verified, store, unsigned) == "bundle-unsigned"


def test_a_signed_bundle_without_roots_is_refused(store: TrustStore) -> None:
    assert refusal(verified, store, replace(head(), roots={})) == "root-chain-gap"


# -- bundles one after the other ----------------------------------------------------------------


def test_looking_at_a_bundle_changes_nothing(trusted: TrustStore) -> None:
    before = trusting.chains(trusted)
    verified(trusted, head(roots=[FIRST, SECOND], revocations=revoked(signers=(1,))))
    assert trusting.chains(trusted) == before


def test_what_was_taken_in_is_remembered(trusted: TrustStore) -> None:
    chain = taken(trusted, head(roots=[FIRST, SECOND], revocations=revoked(4, signers=(1,))))
    assert (chain.version, chain.newest) == (2, SECOND)
    assert chain.revocations is not None
    assert chain.floors == Floors(
        sequence=SEQUENCE,
        content=description().content,
        root_version=2,
        revocations_version=4,
        time_floor=chain.floors.time_floor,
    )
    assert taken(trusted, head(roots=[FIRST, SECOND])) == chain, "again, without the list"


def test_a_box_goes_forward_only(trusted: TrustStore) -> None:
    taken(trusted, head(LATER))
    assert refusal(verified, trusted, head()) == "bundle-older"
    other = head(statement(SEQUENCE + 1, content="another"))
    assert refusal(verified, trusted, other) == "bundle-equivocation"
    found = verified(trusted, head(), allow_downgrade=True)
    assert trusting.accept(trusted, found).floors.sequence == SEQUENCE + 1


def test_a_bundle_with_an_older_list_is_judged_by_the_newer(trusted: TrustStore) -> None:
    trusting.apply(trusted, revoked(2, keys=[99]))
    found = verified(trusted, head(revocations=revoked(1)))
    assert found.revocations_data == revoked(2, keys=[99])
    trusting.apply(trusted, revoked(3, keys=[RELEASE_KEY]))
    assert refusal(verified, trusted, head(revocations=revoked(1))) == "bundle-key-revoked"


def test_a_list_from_before_a_change_of_root_keys_still_counts(trusted: TrustStore) -> None:
    trusting.apply(trusted, revoked(1, keys=[RELEASE_KEY]))
    assert refusal(verified, trusted, head(roots=[FIRST, SECOND])) == "bundle-key-revoked"


def test_a_fork_of_a_known_chain_is_an_alarm(trusted: TrustStore) -> None:
    trusting.apply(trusted, SECOND)
    forked = [FIRST, root(2, (7,), signers=(0, 7))]
    assert refusal(verified, trusted, head(roots=forked)) == "root-equivocation"


def test_a_bundle_older_than_the_newest_root_is_refused(trusted: TrustStore) -> None:
    trusting.apply(trusted, SECOND)
    assert refusal(verified, trusted, head()) == "root-older"


# -- files brought by hand ----------------------------------------------------------------------


def test_roots_are_taken_in_one_after_the_other(trusted: TrustStore) -> None:
    assert refusal(trusting.apply, trusted, root(3)) == "root-chain-gap"
    assert refusal(trusting.apply, trusted, THIRD) == "root-not-trusted"
    for version, data in ((2, SECOND), (3, THIRD)):
        applied = trusting.apply(trusted, data)
        assert (applied.kind, applied.version, applied.changed) == ("root", version, True)
        assert applied.chain.floors.root_version == version
    assert not trusting.apply(trusted, SECOND).changed
    assert not trusting.apply(trusted, FIRST).changed


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (root(2, (1,), signers=(1,)), "root-not-trusted"),
        (root(2, (1,), signers=(0,)), "root-too-few-keys"),
        (root(2, (1,), signers=(0, 1, 9)), "root-key-unknown"),
        (root(2, (1,), signers=()), "root-unsigned"),
        (root(1, (0, 9), signers=(0,)), "root-equivocation"),
        (OTHERS, "root-not-trusted"),
        (head().manifest, "trust-file-of-another-kind"),
        (b"{}", "trust-file-malformed"),
    ],
    ids=range(8),
)
def test_a_root_that_cannot_follow_is_refused(
    trusted: TrustStore, data: bytes, expected: str
) -> None:
    before = trusting.chains(trusted)
    assert refusal(trusting.apply, trusted, data) == expected
    assert trusting.chains(trusted) == before


def test_lists_are_taken_in_and_only_newer_ones(trusted: TrustStore) -> None:
    applied = trusting.apply(trusted, revoked(2, min_sequence=9, created=NOW.date()))
    assert (applied.kind, applied.version, applied.changed) == ("revocations", 2, True)
    floors = applied.chain.floors
    assert (floors.min_sequence, floors.revocations_version) == (9, 2)
    assert datetime.datetime.fromtimestamp(floors.time_floor, datetime.UTC).date() == NOW.date()
    again = revoked(2, min_sequence=9, created=NOW.date())
    assert not trusting.apply(trusted, again).changed
    assert refusal(trusting.apply, trusted, revoked(1)) == "revocations-older"
    assert refusal(trusting.apply, trusted, revoked(2)) == "revocations-equivocation"
    assert refusal(verified, trusted, head()) == "bundle-below-minimum"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (revoked(signers=()), "revocations-unsigned"),
        (revoked(signers=(9,)), "root-not-trusted"),
        (revoked(signers=(0, 9)), "revocations-key-unknown"),
    ],
    ids=range(3),
)
def test_a_list_of_somebody_else_is_refused(
    trusted: TrustStore, data: bytes, expected: str
) -> None:
    assert refusal(trusting.apply, trusted, data) == expected


def test_nothing_is_applied_where_nobody_is_trusted(store: TrustStore) -> None:
    assert refusal(trusting.apply, store, SECOND) == "root-not-trusted"


def test_a_list_counts_for_its_own_chain_alone(trusted: TrustStore) -> None:
    trusting.add(trusted, OTHERS)
    theirs = revoked(signers=(50,), keys=[RELEASE_KEY], min_sequence=99)
    assert trusting.apply(trusted, theirs).chain.name == digest.of_bytes(OTHERS)
    verified(trusted, head())


# -- damage and faults --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["2.root.json", "revoked.json"])
@pytest.mark.parametrize("content", [None, b"", b"garbage"], ids=["gone", "empty", "garbage"])
def test_damaged_files_are_told_cost_no_safety_and_are_healed(
    trusted: TrustStore, name: str, content: bytes | None
) -> None:
    gone = revoked(5, signers=(1,))
    bundle = head(roots=[FIRST, SECOND], revocations=gone)
    sound = taken(trusted, bundle)
    path = trusted.folder / CHAIN / name
    path.unlink() if content is None else path.write_bytes(content)
    assert trusting.chains(trusted)[0].trouble
    assert refusal(verified, trusted, head(roots=[FIRST])) == "root-older"
    older = head(roots=[FIRST, SECOND], revocations=revoked(4, signers=(1,)))
    if name == "revoked.json":
        assert refusal(verified, trusted, older) == "revocations-older"
    trusting.apply(trusted, SECOND if name == "2.root.json" else gone)
    assert trusting.chains(trusted) == (sound,)


def test_a_damaged_box_is_healed_by_the_next_bundle(trusted: TrustStore) -> None:
    bundle = head(roots=[FIRST, SECOND], revocations=revoked(5, signers=(1,)))
    sound = taken(trusted, bundle)
    for name in ("2.root.json", "revoked.json"):
        (trusted.folder / CHAIN / name).write_bytes(b"")
    assert taken(trusted, bundle) == sound


def story(root_folder: Path, filesystem: Filesystem) -> None:
    root_folder.mkdir(exist_ok=True)
    box = TrustStore(root_folder, filesystem)
    trusting.add(box, FIRST)
    taken(box, head(roots=[FIRST], revocations=revoked(1)))
    taken(box, head(LATER, roots=[FIRST, SECOND], revocations=revoked(2, signers=(1,))))


def test_a_kill_at_any_change_leaves_a_box_that_goes_on(
    place: Path, figure: Callable[[str], None]
) -> None:
    recorder = Recorder()
    story(place / "whole", Filesystem(recorder))
    expected = trusting.chains(TrustStore(place / "whole"))
    count = len(recorder.operations)
    figure(f"trust: killed at {count} boundaries")
    for boundary in range(count):
        folder = place / str(boundary)
        assert in_a_process(partial(story, folder, Filesystem(KillAt(boundary)))) == -9
        box = TrustStore(folder)
        assert not any(chain.trouble for chain in trusting.chains(box))
        trusting.add(box, FIRST)
        last = head(LATER, roots=[FIRST, SECOND], revocations=revoked(2, signers=(1,)))
        taken(box, last)
        assert trusting.chains(box) == expected


# -- the box's own key --------------------------------------------------------------------------


def holdings(blobs: dict[str, int]) -> Holdings:
    return Holdings(architecture="x86_64", python="3.11", blobs=blobs, releases=())


def test_a_box_signs_what_it_says_it_holds_always_with_the_same_key(store: TrustStore) -> None:
    blobs = {blob("one").sha256: 3}
    first = verify_have(trusting.sign_have(store, holdings(blobs), NOW))
    again = verify_have(trusting.sign_have(TrustStore(store.folder.parent), holdings({}), NOW))
    assert first.blobs == blobs
    assert first.made == "2027-03-20T12:00:00Z"
    assert first.box == again.box


def test_the_hour_is_told_in_utc(store: TrustStore) -> None:
    seoul = datetime.timezone(datetime.timedelta(hours=9))
    made = datetime.datetime(2027, 3, 20, 21, tzinfo=seoul)
    assert verify_have(trusting.sign_have(store, holdings({}), made)).made == "2027-03-20T12:00:00Z"


@pytest.mark.parametrize("harm", ["garbage", "open"])
def test_a_damaged_box_key_wants_a_person(store: TrustStore, harm: str) -> None:
    trusting.box_identity(store)
    if harm == "garbage":
        store.box_key.write_bytes(b"garbage")
    else:
        store.box_key.chmod(0o644)
    with pytest.raises(NeedsPerson) as error:
        trusting.box_identity(store)
    assert error.value.reference == "box-key-damaged"


# -- a maker and a box, whole ---------------------------------------------------------------------


def test_a_maker_and_a_box_over_the_years(tmp_path: Path) -> None:
    folder, box = tmp_path / "keys", TrustStore(tmp_path / "box")
    (tmp_path / "box").mkdir()
    made = trusting.init(folder, created=CREATED)
    assert trusting.add(box, made.root).fingerprint == made.fingerprint

    def bundle(sequence: int) -> Head:
        return signing.sign_manifest(folder, description(f"{sequence}"), {}, sequence)

    first = bundle(1)
    taken(box, first)
    lost = keys.key_id(keys.read_public(folder / "release-1.pub"))
    trusting.apply(box, trusting.revoke(folder, created=CREATED, min_sequence=2))
    assert refusal(verified, box, first) == "bundle-below-minimum"
    trusting.apply(box, trusting.revoke(folder, created=CREATED, release_keys=[lost]))
    add = [trusting.NewKey(key_folder.KeyKind.RELEASE)]
    trusting.rotate(folder, created=CREATED, add=add, remove=[lost])
    chain = taken(box, bundle(2))
    assert sorted(chain.release_keys.values()) == ["release-2", "release-3"]
    assert chain.floors == Floors(2, description("2").content, 2, 2, 3, chain.floors.time_floor)
    with pytest.raises(AiboxError):
        verified(box, bundle(2), roots_given=[FIRST])


def test_floors_of_the_store_and_of_the_rules_are_the_same_numbers() -> None:
    stored = set(ChainFloors.model_fields) - {"slot"}
    assert stored == set(Floors.__dataclass_fields__)
