"""The head of a bundle: what is believed, what is refused, what a person may wave through."""

from __future__ import annotations

import datetime

import pytest

from aibox import digest
from aibox.bundle.trust.head import Floors, Head
from aibox.errors import AiboxError, VerificationRefused
from trust_keys import (
    CREATED,
    NOW,
    RELEASE_KEY,
    SEQUENCE,
    blob,
    description,
    head,
    judged,
    key,
    revoked,
    root,
    statement,
)

DAY = datetime.timedelta(days=1)
CHAIN = [root(1), root(2, (1,), signers=(0, 1)), root(3, (1,))]
CONTENT = description().content


def refusal(bundle: Head, **terms: object) -> str:
    with pytest.raises(VerificationRefused) as error:
        judged(bundle, **terms)  # type: ignore[arg-type]
    assert error.value.exit_code == 4
    return error.value.reference


def seconds(moment: datetime.datetime) -> int:
    return int(moment.timestamp())


# -- what is believed ---------------------------------------------------------------------------


def test_a_right_head_is_believed_and_tells_who_signed_it() -> None:
    found = judged(head())
    assert found.description == description()
    assert (found.sequence, found.root_version, found.warnings) == (SEQUENCE, 1, ())
    assert [item.name for item in found.signers] == [f"key-{RELEASE_KEY}"]
    assert found.ssh_signer.key_id == key(RELEASE_KEY).id
    assert list(found.named.values()) == [blob("index")]
    assert found.chain == digest.of_bytes(root())
    assert found.expires == datetime.datetime(2029, 2, 28, tzinfo=datetime.UTC)


def test_what_to_remember_is_what_was_seen() -> None:
    found = judged(head(revocations=revoked(3, min_sequence=5)))
    assert found.floors == Floors(
        sequence=SEQUENCE,
        content=CONTENT,
        min_sequence=5,
        root_version=1,
        revocations_version=3,
        time_floor=seconds(datetime.datetime(2027, 3, 1, tzinfo=datetime.UTC)),
    )


@pytest.mark.parametrize("trusted", CHAIN, ids=["root 1", "root 2", "root 3"])
def test_any_root_of_the_chain_may_be_the_trusted_one(trusted: bytes) -> None:
    found = judged(head(roots=CHAIN), trusted=trusted)
    assert (found.root_version, found.root) == (3, CHAIN[2])


def test_roots_in_between_may_be_expired() -> None:
    past = "2026-01-01T00:00:00Z"
    first = root(1, expires=past)
    roots = [first, root(2, expires=past), root(3)]
    assert judged(head(roots=roots), trusted=first).root_version == 3


def test_release_keys_are_those_of_the_newest_root() -> None:
    roots = [root(1), root(2, release=(200,))]
    assert judged(head(roots=roots, signers=[200], ssh_signer=200)).signers[0].name == "key-200"
    assert refusal(head(roots=roots)) == "bundle-key-unknown"


# -- roots --------------------------------------------------------------------------------------


def test_a_bundle_that_brings_no_newer_root_than_the_box_knows_is_refused() -> None:
    assert refusal(head(roots=CHAIN[:2]), trusted=CHAIN[2]) == "root-older"
    assert refusal(head(roots=CHAIN[:2]), floors=Floors(root_version=3)) == "root-older"
    judged(head(roots=CHAIN), floors=Floors(root_version=3))


def test_a_chain_of_somebody_else_is_not_trusted() -> None:
    assert refusal(head(roots=[root(1, (5,))])) == "root-not-trusted"


def test_a_stranger_cannot_go_on_with_the_chain() -> None:
    assert refusal(head(roots=[root(1), root(2, (5,), signers=(5,))])) == "root-too-few-keys"
    forged = [root(1), root(2, (5,), signers=(5,))]
    assert refusal(head(roots=forged), trusted=CHAIN[1]) == "root-not-trusted"


def test_two_roots_of_one_version_are_an_alarm() -> None:
    other = root(1, (0, 5), signers=(0,))
    assert refusal(head(roots=[other])) == "root-equivocation"


def test_a_chain_must_be_whole() -> None:
    assert refusal(Head(head().manifest, head().ssh_signature, {}, None)) == "root-chain-gap"
    gap = {1: CHAIN[0], 3: CHAIN[2]}
    assert refusal(Head(head().manifest, head().ssh_signature, gap, None)) == "root-chain-gap"


# -- signatures ---------------------------------------------------------------------------------


def test_an_unsigned_bundle_says_so() -> None:
    bundle = head(signers=[])
    assert refusal(bundle) == "bundle-unsigned"
    assert refusal(Head(bundle.manifest, None, {}, None)) == "bundle-unsigned"


def test_a_signature_over_other_bytes_is_wrong() -> None:
    other = head(statement(SEQUENCE + 1))
    manifest = head().manifest
    start = manifest.index(b'"sig":"')
    forged = manifest[:start] + other.manifest[start : start + 137] + manifest[start + 137 :]
    assert refusal(Head(forged, head().ssh_signature, {1: root()}, None)) == (
        "bundle-signature-wrong"
    )


def test_a_root_key_may_not_sign_a_bundle() -> None:
    assert refusal(head(signers=[0])) == "bundle-key-unknown"


def test_a_bundle_without_its_ssh_signature_is_refused() -> None:
    assert refusal(Head(head().manifest, None, {1: root()}, None)) == "ssh-signature-missing"


def test_an_ssh_signature_by_anybody_else_is_refused() -> None:
    assert refusal(head(ssh_signer=5)) == "bundle-key-unknown"
    assert refusal(head(ssh_signer=0)) == "bundle-key-unknown"


def test_an_ssh_signature_of_another_bundle_is_refused() -> None:
    other = head(statement(SEQUENCE + 1)).ssh_signature
    assert refusal(Head(head().manifest, other, {1: root()}, None)) == "ssh-signature-wrong"


# -- revocations --------------------------------------------------------------------------------

TWO = root(1, release=(RELEASE_KEY, 200), release_threshold=1)
BOTH = root(1, release=(RELEASE_KEY, 200), release_threshold=2)


def test_a_revoked_key_does_not_count() -> None:
    gone = revoked(keys=[RELEASE_KEY])
    assert refusal(head(revocations=gone)) == "bundle-key-revoked"
    assert refusal(head(), held=gone) == "bundle-key-revoked"


def test_another_key_counts_beside_a_revoked_one() -> None:
    gone = revoked(keys=[RELEASE_KEY])
    bundle = head(signers=[RELEASE_KEY, 200], ssh_signer=200, roots=[TWO], revocations=gone)
    assert [item.name for item in judged(bundle, trusted=TWO).signers] == ["key-200"]


def test_a_revoked_key_is_missed_where_two_must_sign() -> None:
    gone = revoked(keys=[RELEASE_KEY])
    bundle = head(signers=[RELEASE_KEY, 200], ssh_signer=200, roots=[BOTH], revocations=gone)
    assert refusal(bundle, trusted=BOTH) == "bundle-key-revoked"
    bundle = head(signers=[200], ssh_signer=200, roots=[BOTH], revocations=gone)
    assert refusal(bundle, trusted=BOTH) == "bundle-too-few-keys"


def test_a_revoked_key_cannot_make_the_ssh_signature() -> None:
    gone = revoked(keys=[RELEASE_KEY])
    bundle = head(signers=[200], ssh_signer=RELEASE_KEY, roots=[TWO], revocations=gone)
    assert refusal(bundle, trusted=TWO) == "bundle-key-revoked"


@pytest.mark.parametrize(
    "digests",
    [
        {"bundles": [CONTENT]},
        {"bundles": [digest.of_bytes(head().manifest)]},
        *({"blobs": [blob(name).sha256]} for name in ("index", "sbom", "listing", "release")),
    ],
    ids=["content", "manifest", "index", "sbom", "listing", "release"],
)
def test_what_was_revoked_is_refused_whoever_signed_it(digests: dict[str, list[str]]) -> None:
    gone = revoked(**digests)  # type: ignore[arg-type]
    assert refusal(head(revocations=gone)) == "bundle-revoked"
    waved = {"allow_downgrade": True, "allow_expired": True}
    assert refusal(head(revocations=gone), **waved) == "bundle-revoked"


def test_the_rest_of_the_blobs_is_asked_for_as_it_is_met() -> None:
    gone = judged(head(revocations=revoked(blobs=[blob("weights").sha256]))).revocations
    assert gone is not None
    gone.refuse_blobs([blob("other").sha256])
    with pytest.raises(VerificationRefused) as error:
        gone.refuse_blobs([blob("other").sha256, blob("weights").sha256])
    assert error.value.reference == "bundle-revoked"


def test_a_list_that_is_older_than_one_seen_before_is_refused() -> None:
    floors = Floors(revocations_version=2)
    assert refusal(head(revocations=revoked(1)), floors=floors) == "revocations-older"
    assert refusal(head(), floors=floors) == "revocations-older"
    judged(head(revocations=revoked(2)), floors=floors)


def test_the_newer_of_two_lists_counts() -> None:
    gone = revoked(2, keys=[RELEASE_KEY])
    assert refusal(head(revocations=revoked(1)), held=gone) == "bundle-key-revoked"
    assert refusal(head(revocations=gone), held=revoked(1)) == "bundle-key-revoked"
    found = judged(head(revocations=revoked(1)), held=revoked(2))
    assert found.revocations_data == revoked(2)


def test_two_lists_of_one_version_are_an_alarm() -> None:
    bundle = head(revocations=revoked(2))
    assert refusal(bundle, held=revoked(2, min_sequence=1)) == "revocations-equivocation"
    judged(bundle, held=revoked(2))


def test_a_list_counts_only_with_enough_root_keys() -> None:
    three = root(1, (0, 1, 2), 2)
    for signers, expected in (
        ((0,), "revocations-too-few-keys"),
        ((0, 5), "revocations-key-unknown"),
        ((0, 0), "revocations-key-twice"),
        ((), "revocations-unsigned"),
        ((RELEASE_KEY,), "revocations-key-unknown"),
    ):
        bundle = head(roots=[three], revocations=revoked(signers=signers))
        assert refusal(bundle, trusted=three) == expected
    judged(head(roots=[three], revocations=revoked(signers=(0, 2))), trusted=three)


def test_a_list_never_expires() -> None:
    old = revoked(created=datetime.date(1999, 1, 1))
    assert judged(head(revocations=old)).warnings == ()


# -- time ---------------------------------------------------------------------------------------

EXPIRES = datetime.datetime(2029, 2, 28, tzinfo=datetime.UTC)


def test_a_bundle_may_be_taken_in_until_it_expires() -> None:
    judged(head(), now=EXPIRES - datetime.timedelta(seconds=1))
    assert refusal(head(), now=EXPIRES) == "bundle-expired"


def test_an_expired_bundle_may_be_waved_through() -> None:
    found = judged(head(), now=EXPIRES, allow_expired=True)
    assert [item.reference for item in found.warnings] == ["clock-ahead", "bundle-expired"]


def test_an_expired_root_stops_a_bundle_unless_it_is_waved_through() -> None:
    first = root(1, expires="2027-03-10T00:00:00Z")
    assert refusal(head(roots=[first]), trusted=first) == "root-expired"
    found = judged(head(roots=[first]), trusted=first, allow_expired=True)
    assert [item.reference for item in found.warnings] == ["root-expired"]


@pytest.mark.parametrize("years", [1970, 2025])
def test_a_clock_set_back_revives_nothing(years: int) -> None:
    back = datetime.datetime(years, 1, 1, tzinfo=datetime.UTC)
    floors = Floors(time_floor=seconds(EXPIRES))
    assert refusal(head(), now=back, floors=floors) == "bundle-expired"
    found = judged(head(), now=back)
    assert [item.reference for item in found.warnings] == ["clock-behind"]


def test_a_root_that_was_expired_when_the_bundle_was_made_stays_so() -> None:
    first = root(1, expires="2027-02-01T00:00:00Z")
    back = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    assert refusal(head(roots=[first]), trusted=first, now=back) == "root-expired"


def test_a_newer_list_of_revocations_tells_the_time_too() -> None:
    late = revoked(created=EXPIRES.date())
    assert refusal(head(revocations=late)) == "bundle-expired"


def test_a_clock_far_ahead_is_a_warning_and_moves_no_floor() -> None:
    bundle = head(statement(life=5000 * DAY))
    found = judged(bundle, now=NOW + 401 * DAY)
    assert [item.reference for item in found.warnings] == ["clock-ahead"]
    assert found.floors.time_floor == judged(bundle).floors.time_floor


def test_a_clock_of_another_time_zone_is_no_warning() -> None:
    bundle = head(statement(created=(NOW + DAY).date()))
    assert judged(bundle, now=NOW).warnings == ()


@pytest.mark.parametrize("created", [datetime.date.min, datetime.date(9997, 1, 1)])
def test_dates_at_the_end_of_time_are_no_traceback(created: datetime.date) -> None:
    first = root(1, expires="9999-12-31T23:59:59Z")
    bundle = head(statement(created=CREATED), roots=[first])
    gone = revoked(created=created)
    try:
        judged(Head(bundle.manifest, bundle.ssh_signature, {1: first}, gone), trusted=first)
    except AiboxError as error:
        assert error.exit_code == 4


def test_the_time_floor_only_rises() -> None:
    later = seconds(NOW + 30 * DAY)
    assert judged(head(), floors=Floors(time_floor=later)).floors.time_floor == later


# -- order --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sequence", [SEQUENCE, SEQUENCE + 1, SEQUENCE + 1000])
def test_the_same_sequence_and_newer_ones_are_taken(sequence: int) -> None:
    floors = Floors(sequence=SEQUENCE, content=CONTENT)
    found = judged(head(statement(sequence)), floors=floors)
    assert found.floors.sequence == sequence


def test_an_older_sequence_is_refused_unless_it_is_waved_through() -> None:
    floors = Floors(sequence=SEQUENCE + 1, content=blob("newer").sha256)
    assert refusal(head(), floors=floors) == "bundle-older"
    assert refusal(head(), floors=floors, allow_expired=True) == "bundle-older"
    found = judged(head(), floors=floors, allow_downgrade=True)
    assert [item.reference for item in found.warnings] == ["bundle-older"]
    assert (found.floors.sequence, found.floors.content) == (floors.sequence, floors.content)


def test_the_same_sequence_with_another_content_is_an_alarm() -> None:
    floors = Floors(sequence=SEQUENCE, content=blob("another").sha256)
    assert refusal(head(), floors=floors) == "bundle-equivocation"
    assert refusal(head(), floors=floors, allow_downgrade=True) == "bundle-equivocation"


@pytest.mark.parametrize(
    ("bundle", "floors"),
    [
        (head(), Floors(min_sequence=SEQUENCE + 1)),
        (head(revocations=revoked(min_sequence=SEQUENCE + 1)), Floors()),
    ],
    ids=["seen before", "in the list"],
)
def test_below_the_revoked_floor_is_refused_unless_waved_through(
    bundle: Head, floors: Floors
) -> None:
    assert refusal(bundle, floors=floors) == "bundle-below-minimum"
    found = judged(bundle, floors=floors, allow_downgrade=True)
    assert [item.reference for item in found.warnings] == ["bundle-below-minimum"]
    assert found.floors.min_sequence == SEQUENCE + 1


def test_at_the_revoked_floor_is_taken() -> None:
    judged(head(revocations=revoked(min_sequence=SEQUENCE)))
