"""The head of a bundle: the few signed files that are read before anything else is believed.

What goes in and what comes out. The rules are in `verification`; looking without judging
(`read_unverified`) needs no cryptography and is quick.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

from aibox.bundle.manifest import Description
from aibox.bundle.trust import envelope, targets
from aibox.bundle.trust.revocations import Revocations
from aibox.pins import Blob


@dataclass(frozen=True, slots=True)
class Head:
    """Bytes as they were read: bundle.json, bundle.json.sig, roots by version, revoked.json."""

    manifest: bytes
    ssh_signature: bytes | None
    roots: Mapping[int, bytes]
    revocations: bytes | None


@dataclass(frozen=True, slots=True)
class Floors:
    """What was accepted before, below which nothing may fall; 0 and "" mean: nothing yet.

    Attributes:
        sequence, content: of the newest bundle (`content` is `Description.content`).
        min_sequence: below this sequence everything was revoked.
        root_version, revocations_version: the newest that were seen.
        time_floor: the newest date somebody signed, seconds since 1970.
    """

    sequence: int = 0
    content: str = ""
    min_sequence: int = 0
    root_version: int = 0
    revocations_version: int = 0
    time_floor: int = 0


@dataclass(frozen=True, slots=True)
class Signer:
    """A release key that counted: its id, and what people call it."""

    key_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to show and to record that did not stop the bundle; kebab-case reference."""

    reference: str
    message: str


@dataclass(frozen=True, slots=True)
class Verified:
    """A bundle whose head may be believed.

    Attributes:
        named: path in the bundle -> blob, for everything the manifest names.
        signers: the release keys whose signatures counted.
        ssh_signer: the release key of bundle.json.sig.
        roots: the whole chain, by version; `chain` is the digest of the first.
        revocations, revocations_data: the newest list known, and its bytes.
        floors: what to remember once the bundle is taken in.
    """

    description: Description
    sequence: int
    expires: datetime.datetime
    named: Mapping[str, Blob]
    signers: tuple[Signer, ...]
    ssh_signer: Signer
    roots: Mapping[int, bytes]
    chain: str
    revocations: Revocations | None
    revocations_data: bytes | None
    warnings: tuple[Notice, ...]
    floors: Floors

    @property
    def root_version(self) -> int:
        """The version of the newest root."""
        return len(self.roots)

    @property
    def root(self) -> bytes:
        """The newest root."""
        return self.roots[self.root_version]


@dataclass(frozen=True, slots=True)
class Unverified:
    """What a bundle says of itself; nobody has checked that it is true.

    `signed_by` are the ids of the keys it says it was signed by.
    """

    description: Description
    sequence: int
    expires: datetime.datetime
    named: Mapping[str, Blob]
    signed_by: tuple[str, ...]


def read_unverified(manifest: bytes) -> Unverified:
    """What bundle.json says, read as strictly as ever, its signatures not judged.

    Raises `VerificationRefused`: `bundle-too-large`, `bundle-malformed`, `bundle-key-twice`.
    """
    found = envelope.parse(manifest, "bundle")
    said = targets.read(found)
    return Unverified(
        description=said.description,
        sequence=said.sequence,
        expires=said.expires,
        named=said.named,
        signed_by=tuple(item.key_id for item in found.signatures),
    )


def verify(
    head: Head,
    *,
    trusted: bytes,
    floors: Floors,
    now: datetime.datetime,
    revocations: bytes | None = None,
    allow_downgrade: bool = False,
    allow_expired: bool = False,
) -> Verified:
    """Judge a head by the rules of `verification`. Pure.

    Args:
        trusted: a root this box trusts, any version of the chain; better the newest.
        floors: what this box accepted before.
        now: what the clock of this host says, with its time zone.
        revocations: the newest list this box has of the same chain; it counts if it is newer.
        allow_downgrade, allow_expired: let pass with a warning what is older, or expired.

    Raises `VerificationRefused` with one of the references in `refusals`, and nothing else.
    """
    # Imported here, because only this needs cryptography and python-tuf.
    from aibox.bundle.trust import verification

    terms = verification.Terms(trusted, floors, now, revocations, allow_downgrade, allow_expired)
    return verification.judge(head, terms)
