"""The rules by which the head of a bundle is believed. Pure: bytes, values and a time in.

Nothing is believed before what it rests on; each step may use the ones before it alone:

1. **Size and spelling.** Every file is small and spelled in one way, so no byte can change unseen.
2. **Roots.** The bundle brings the whole chain, 1 to N. The trusted root must be one of it, byte
   for byte. Every root is signed by the thresholds of the root before it and of itself. Roots in
   between may be expired. N may be no older than any root this box has seen.
3. **Revocations.** Signed by the threshold of root N. The newest of the bundle's list and the box's
   own counts; it may be no older than one this box has seen. Lists never expire.
4. **Signatures.** Every signature of bundle.json is right and by a release key of root N; enough of
   them are by keys that were not revoked.
5. **The SSH signature** is over the very bytes of bundle.json, by a release key that counts.
6. **Content** is read only now.
7. **Expiry**, of the bundle and of root N, by the latest of the clock, the day the bundle was made
   and the newest date ever signed to this box: a clock set back revives nothing.
8. **Order.** The sequence is no lower than what this box took in, nor than the floor in the
   revocations; the same sequence has the same content.
9. **Revoked** bundles and blobs are refused, whoever signed them.

A person may wave through 7 and 8 (an older sequence, an expiry); it becomes a warning. Everything
else is final.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from aibox import digest
from aibox.bundle.manifest import Description
from aibox.bundle.trust import envelope, metadata, revocations, ssh_signature, targets
from aibox.bundle.trust.envelope import Envelope
from aibox.bundle.trust.head import Floors, Head, Notice, Signer, Verified
from aibox.bundle.trust.keys import key_id
from aibox.bundle.trust.metadata import RELEASE, ROOT, TrustedRoot
from aibox.bundle.trust.refusals import refused
from aibox.bundle.trust.revocations import Revocations
from aibox.bundle.trust.targets import Statement, start_of
from aibox.errors import VerificationRefused
from aibox.pins import Blob

CLOCK_TOLERANCE = datetime.timedelta(days=1)
"""A date is signed without a time zone, so a clock may differ by that much and be right."""

CLOCK_JUMP = datetime.timedelta(days=400)
"""A clock that is further ahead of everything ever signed may be wrong: a warning."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a head is judged by; see `head.verify`."""

    trusted: bytes
    floors: Floors
    now: datetime.datetime
    revocations: bytes | None = None
    allow_downgrade: bool = False
    allow_expired: bool = False


def judge(head: Head, terms: Terms) -> Verified:
    """See the rules above; raises `VerificationRefused` and nothing else."""
    manifest = signed_manifest(head)
    chain = trusted_chain(head, terms)
    newest = chain[-1]
    revoked, revoked_data = newest_revocations(head.revocations, terms, chain)
    revoked_keys = revoked.keys if revoked else ()
    signers = _release_signers(manifest, newest, revoked_keys)
    ssh_signer = _ssh_signer(head, newest, revoked_keys)
    said = targets.read(manifest)
    warnings = (
        *_clock_warnings(said, revoked, terms),
        *_expiry(said, newest, revoked, terms),
        *_order(said, revoked, terms),
    )
    if revoked:
        refuse_revoked(head.manifest, said.description, said.named, revoked)
    return Verified(
        description=said.description,
        sequence=said.sequence,
        expires=said.expires,
        named=said.named,
        signers=signers,
        ssh_signer=ssh_signer,
        roots={root.version: root.data for root in chain},
        chain=digest.of_bytes(chain[0].data),
        revocations=revoked,
        revocations_data=revoked_data,
        warnings=warnings,
        floors=_raised(said, newest, revoked, terms.floors),
    )


def signed_manifest(head: Head) -> Envelope:
    """bundle.json taken apart, its signatures not judged (rule 1); `bundle-unsigned` if none."""
    manifest = envelope.parse(head.manifest, "bundle")
    if not manifest.signatures:
        raise refused("bundle-unsigned", "the bundle is not signed")
    return manifest


def trusted_chain(head: Head, terms: Terms) -> tuple[TrustedRoot, ...]:
    """The chain of a bundle, once it is known to be the one this box trusts (rule 2)."""
    anchor = metadata.parse(terms.trusted)
    metadata.refuse_gaps(head.roots)
    if max(head.roots) < max(anchor.version, terms.floors.root_version):
        raise refused(
            "root-older",
            f"the bundle brings roots up to {max(head.roots)}; this box has seen root "
            f"{max(anchor.version, terms.floors.root_version)}",
        )
    found = head.roots[anchor.version]
    if found != anchor.data:
        if metadata.is_signed_by(anchor, found):
            raise equivocation(anchor.version)
        raise not_trusted(head.roots[1])
    return metadata.follow(head.roots)


def not_trusted(first: bytes) -> VerificationRefused:
    """The refusal of a chain that starts with a root nobody here trusts."""
    return refused(
        "root-not-trusted",
        "the bundle is signed by somebody this box does not trust",
        f"fingerprint of its first root: {metadata.fingerprint(first)}",
    )


def equivocation(version: int) -> VerificationRefused:
    """The refusal of a second root of one version."""
    return refused("root-equivocation", f"there is another root {version} than the trusted one")


def newest_revocations(
    brought: bytes | None, terms: Terms, chain: tuple[TrustedRoot, ...]
) -> tuple[Revocations | None, bytes | None]:
    """The list that counts, and its bytes (rule 3)."""
    found: list[tuple[Revocations, bytes]] = []
    if brought is not None:
        found.append((read_revocations(brought, chain[-1]), brought))
    if terms.revocations is not None:
        # Checked against its root when the box took it in; root keys may have changed since.
        held = revocations.read(envelope.parse(terms.revocations, "revocations"))
        found.append((held, terms.revocations))
    if len({item.version for item, _ in found}) < len({data for _, data in found}):
        raise two_lists(found[0][0].version)
    newest = max(found, key=lambda pair: pair[0].version, default=(None, None))
    version = newest[0].version if newest[0] else 0
    if version < terms.floors.revocations_version:
        raise older_revocations(version, terms.floors.revocations_version)
    return newest


def older_revocations(version: int, floor: int) -> VerificationRefused:
    """The refusal of a list that this box is past; version 0 stands for none."""
    found = f"the list of revocations is version {version}" if version else "there is no list"
    return refused("revocations-older", f"{found}; this box has seen version {floor}")


def two_lists(version: int) -> VerificationRefused:
    """The refusal of a second list of one version."""
    return refused("revocations-equivocation", f"there are two lists of version {version}")


def read_revocations(data: bytes, root: TrustedRoot) -> Revocations:
    """A list that enough root keys of `root` signed."""
    found = envelope.parse(data, "revocations")
    signed = metadata.signers(found, root.keys(ROOT), "revocations")
    metadata.check_threshold(root, ROOT, signed, "revocations", "the list of revocations")
    return revocations.read(found)


def _release_signers(
    manifest: Envelope, root: TrustedRoot, revoked: Collection[str]
) -> tuple[Signer, ...]:
    """The release keys that signed and count (rule 4)."""
    signed = metadata.signers(manifest, root.keys(RELEASE), "bundle")
    counted = signed.difference(revoked)
    if len(counted) < root.threshold(RELEASE) <= len(signed):
        raise _key_revoked(root, min(signed.intersection(revoked)))
    metadata.check_threshold(root, RELEASE, counted, "bundle", "the bundle")
    return tuple(Signer(key, root.name(key)) for key in sorted(counted))


def _ssh_signer(head: Head, root: TrustedRoot, revoked: Collection[str]) -> Signer:
    """The release key of the SSH signature (rule 5)."""
    if head.ssh_signature is None:
        raise refused("ssh-signature-missing", "the bundle has no bundle.json.sig")
    key = key_id(ssh_signature.verify(head.ssh_signature, head.manifest))
    if key not in root.keys(RELEASE):
        raise refused("bundle-key-unknown", "bundle.json.sig is by a key that nobody named", key)
    if key in revoked:
        raise _key_revoked(root, key)
    return Signer(key, root.name(key))


def _key_revoked(root: TrustedRoot, key: str) -> VerificationRefused:
    return refused("bundle-key-revoked", f"the key {root.name(key)} was revoked", key)


def _newest_date(said: Statement, revoked: Revocations | None, floors: Floors) -> datetime.datetime:
    """The newest date that anybody signed to this box."""
    dates = [said.description.created, *([revoked.created] if revoked else [])]
    floor = datetime.datetime.fromtimestamp(floors.time_floor, datetime.UTC)
    return max(start_of(max(dates)), floor)


def _clock_warnings(said: Statement, revoked: Revocations | None, terms: Terms) -> Iterator[Notice]:
    newest = _newest_date(said, revoked, terms.floors)
    clock = f"the clock of this host says {terms.now:%Y-%m-%d}"
    if newest - terms.now > CLOCK_TOLERANCE:
        yield Notice(
            "clock-behind",
            f"{clock}, but something was signed on {newest:%Y-%m-%d}; expiry is judged by that",
        )
    if terms.now - newest > CLOCK_JUMP:
        yield Notice(
            "clock-ahead",
            f"{clock}, {(terms.now - newest).days} days after anything this box saw signed; if the "
            "clock is wrong, expiry is judged wrongly",
        )


def _expiry(
    said: Statement, root: TrustedRoot, revoked: Revocations | None, terms: Terms
) -> Iterator[Notice]:
    """Rule 7; yields what was waved through."""
    today = max(terms.now, _newest_date(said, revoked, terms.floors))
    for reference, what, expires in (
        ("root-expired", f"root {root.version}", root.expires),
        ("bundle-expired", "the bundle", said.expires),
    ):
        if today >= expires:
            message = f"{what} expired on {expires:%Y-%m-%d}"
            if not terms.allow_expired:
                raise refused(reference, message, f"judged by: {today:%Y-%m-%d}")
            yield Notice(reference, message)


def _order(said: Statement, revoked: Revocations | None, terms: Terms) -> Iterator[Notice]:
    """Rule 8; yields what was waved through."""
    floors = terms.floors
    if (
        said.sequence == floors.sequence
        and floors.content
        and said.description.content != floors.content
    ):
        raise refused(
            "bundle-equivocation",
            f"this box took in sequence {said.sequence} with another content",
            f"before: {floors.content}; now: {said.description.content}",
        )
    minimum = max(floors.min_sequence, revoked.min_sequence if revoked else 0)
    for reference, floor, meaning in (
        ("bundle-below-minimum", minimum, f"everything below {minimum} was revoked"),
        ("bundle-older", floors.sequence, f"this box took in {floors.sequence}"),
    ):
        if said.sequence < floor:
            message = f"the bundle has sequence {said.sequence}; {meaning}"
            if not terms.allow_downgrade:
                raise refused(reference, message)
            yield Notice(reference, message)


def refuse_revoked(
    manifest: bytes, description: Description, named: Mapping[str, Blob], revoked: Revocations
) -> None:
    """Rule 9, as far as the manifest reaches; the rest is asked of `refuse_blobs` as it is met."""
    names = {digest.of_bytes(manifest), description.content}
    if found := sorted(names.intersection(revoked.bundles)):
        raise refused("bundle-revoked", "the bundle was revoked", found[0])
    revoked.refuse_blobs(
        [
            *(blob.sha256 for blob in named.values()),
            *(release.manifest.sha256 for release in description.releases),
            *(description.index.sha256, description.sbom.sha256),
            description.program.listing.sha256,
        ]
    )


def _raised(
    said: Statement, root: TrustedRoot, revoked: Revocations | None, before: Floors
) -> Floors:
    """What to remember: floors only rise."""
    newer = said.sequence >= before.sequence
    return Floors(
        sequence=said.sequence if newer else before.sequence,
        content=said.description.content if newer else before.content,
        min_sequence=max(before.min_sequence, revoked.min_sequence if revoked else 0),
        root_version=max(before.root_version, root.version),
        revocations_version=max(before.revocations_version, revoked.version if revoked else 0),
        time_floor=int(_newest_date(said, revoked, before).timestamp()),
    )
