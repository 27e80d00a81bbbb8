"""Keys from numbers, and whatever can be signed with them, right or wrong.

Key number n is the same in every run, so that a failing case can be repeated byte for byte.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aibox import digest
from aibox.bundle.manifest import Description, Program, ReleaseEntry
from aibox.bundle.trust import envelope, ssh_signature
from aibox.bundle.trust.envelope import Signature
from aibox.bundle.trust.head import Floors, Head, Verified, verify
from aibox.bundle.trust.keys import SigningKey
from aibox.bundle.trust.revocations import Revocations
from aibox.bundle.trust.targets import Statement, start_of
from aibox.pins import Blob
from aibox.profile import Runtime

CREATED = datetime.date(2027, 3, 1)
NOW = datetime.datetime(2027, 3, 20, 12, tzinfo=datetime.UTC)
SEQUENCE = 7
RELEASE_KEY = 100
"""The number of the release key unless a test says otherwise; root keys count from 0."""


@cache
def key(number: int) -> SigningKey:
    seed = digest.of_bytes(f"key {number} of the tests".encode())
    return SigningKey(f"key-{number}", Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))


def ids(numbers: Iterable[int]) -> list[str]:
    return sorted(key(number).id for number in numbers)


def signatures(payload: bytes, numbers: Iterable[int]) -> list[Signature]:
    return [Signature(key(n).id, key(n).sign(payload).hex()) for n in numbers]


def sealed(signed: Mapping[str, object], signers: Iterable[int]) -> bytes:
    payload = envelope.encode(signed)
    return envelope.seal(payload, signatures(payload, signers))


def root_fields(
    version: int = 1,
    keys: Sequence[int] = (0,),
    threshold: int = 1,
    *,
    release: Sequence[int] = (RELEASE_KEY,),
    release_threshold: int = 1,
    expires: str = "2031-03-01T00:00:00Z",
) -> dict[str, object]:
    """The signed part of a root, written out, so that tests do not rest on the code they test."""
    named = {
        key(number).id: {
            "keytype": "ed25519",
            "keyval": {"public": key(number).public.hex()},
            "scheme": "ed25519",
            "x-aibox-name": key(number).name,
        }
        for number in (*keys, *release)
    }
    other = {"keyids": ids(release), "threshold": release_threshold}
    return {
        "_type": "root",
        "consistent_snapshot": False,
        "expires": expires,
        "keys": named,
        "roles": {
            "root": {"keyids": ids(keys), "threshold": threshold},
            **{role: dict(other) for role in ("targets", "snapshot", "timestamp")},
        },
        "spec_version": "1.0.31",
        "version": version,
    }


def root(
    version: int = 1,
    keys: Sequence[int] = (0,),
    threshold: int = 1,
    *,
    signers: Sequence[int] | None = None,
    release: Sequence[int] = (RELEASE_KEY,),
    release_threshold: int = 1,
    expires: str = "2031-03-01T00:00:00Z",
) -> bytes:
    """A root, signed by its own keys unless told otherwise."""
    fields = root_fields(
        version,
        keys,
        threshold,
        release=release,
        release_threshold=release_threshold,
        expires=expires,
    )
    return sealed(fields, keys if signers is None else signers)


def blob(text: str) -> Blob:
    return Blob(sha256=digest.of_bytes(text.encode()), size=len(text))


def description(content: str = "content", created: datetime.date = CREATED) -> Description:
    release = blob("release")
    return Description(
        format=1,
        program=Program(version="0.1.0", listing=blob("listing")),
        created=created,
        lock=blob("lock").sha256,
        content=blob(content).sha256,
        architectures=("x86_64",),
        pythons=("3.11",),
        releases=(
            ReleaseEntry(
                id=release.sha256,
                profile="local",
                title='로컬 "box"',
                runtime=Runtime.PROCESS,
                manifest=release,
            ),
        ),
        index=blob("index"),
        sbom=blob("sbom"),
        components=(),
        size=100,
        carried=100,
    )


def statement(
    sequence: int = SEQUENCE,
    *,
    content: str = "content",
    created: datetime.date = CREATED,
    life: datetime.timedelta = datetime.timedelta(days=730),
) -> bytes:
    """What is signed of a bundle."""
    expires = start_of(created) + life
    named = {"blobs/sha256/" + blob("index").sha256: blob("index")}
    return Statement(description(content, created), sequence, expires, named).payload()


def head(
    payload: bytes | None = None,
    *,
    signers: Sequence[int] = (RELEASE_KEY,),
    ssh_signer: int = RELEASE_KEY,
    roots: Sequence[bytes] | None = None,
    revocations: bytes | None = None,
) -> Head:
    """The head of a bundle, right unless told otherwise."""
    payload = statement() if payload is None else payload
    manifest = envelope.seal(payload, signatures(payload, signers))
    chain = [root()] if roots is None else roots
    return Head(
        manifest=manifest,
        ssh_signature=ssh_signature.sign(key(ssh_signer), manifest),
        roots=dict(enumerate(chain, 1)),
        revocations=revocations,
    )


def revoked(
    version: int = 1,
    *,
    signers: Sequence[int] = (0,),
    keys: Sequence[int] = (),
    bundles: Sequence[str] = (),
    blobs: Sequence[str] = (),
    min_sequence: int = 0,
    created: datetime.date = CREATED,
) -> bytes:
    """A list of revocations."""
    payload = Revocations(
        version=version,
        created=created,
        keys=tuple(ids(keys)),
        bundles=tuple(sorted(bundles)),
        blobs=tuple(sorted(blobs)),
        min_sequence=min_sequence,
    ).payload()
    return envelope.seal(payload, signatures(payload, signers))


def judged(
    head: Head,
    *,
    trusted: bytes | None = None,
    floors: Floors | None = None,
    now: datetime.datetime = NOW,
    held: bytes | None = None,
    allow_downgrade: bool = False,
    allow_expired: bool = False,
) -> Verified:
    """The head, judged by a box that trusts the first root unless told otherwise."""
    return verify(
        head,
        trusted=root() if trusted is None else trusted,
        floors=floors or Floors(),
        now=now,
        revocations=held,
        allow_downgrade=allow_downgrade,
        allow_expired=allow_expired,
    )
