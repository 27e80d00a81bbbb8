"""Trust put together: what a box believes (`box.trust_store`) and by which rules (`bundle.trust`).

Whoever calls what changes a box (`add`, `apply`, `accept`, `box_identity`) holds its lock.
The packager's side (`init`, `rotate`, `revoke`) works on a folder of keys and knows no box.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from aibox import digest
from aibox.box.trust_store import ChainFloors, TrustStore
from aibox.bundle.trust import envelope, have, keys, metadata, revocations, verification
from aibox.bundle.trust.envelope import Envelope
from aibox.bundle.trust.have import Holdings
from aibox.bundle.trust.head import Floors, Head, Unverified, Verified, verify
from aibox.bundle.trust.keys import SigningKey
from aibox.bundle.trust.metadata import TrustedRoot, fingerprint
from aibox.bundle.trust.refusals import refused
from aibox.bundle.trust.revocations import Revocations
from aibox.bundle.trust.signing import Initialised, NewKey, revoke, rotate
from aibox.bundle.trust.signing import initialise as init
from aibox.bundle.trust.targets import start_of, time_text
from aibox.errors import AiboxError, Fault, NeedsPerson, VerificationRefused

__all__ = [
    "Applied",
    "AppliedKind",
    "Chain",
    "Initialised",
    "NewKey",
    "accept",
    "add",
    "apply",
    "box_identity",
    "chains",
    "fingerprint",
    "init",
    "refuse_revoked",
    "revoke",
    "rotate",
    "sign_have",
    "verify_head",
]


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain of roots that a box trusts.

    Attributes:
        name: the digest of its first root.
        roots: by version, all of them.
        expires: when its newest root does.
        release_keys: key id -> what people call it, of those whose bundles count now.
        revocations: the newest list, None when nothing was revoked.
        floors: what was accepted before.
        trouble: what of its files is gone or damaged, empty if nothing is.
    """

    name: str
    roots: Mapping[int, bytes]
    expires: datetime.datetime
    release_keys: Mapping[str, str]
    revocations: Revocations | None
    floors: Floors
    trouble: str = ""

    @property
    def newest(self) -> bytes:
        """The newest root."""
        return self.roots[self.version]

    @property
    def version(self) -> int:
        """The version of the newest root."""
        return len(self.roots)

    @property
    def fingerprint(self) -> str:
        """What people compare with the delivery note."""
        return fingerprint(self.roots[1])


class AppliedKind(StrEnum):
    """What a file brought."""

    ROOT = "root"
    REVOCATIONS = "revocations"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` took in; `changed` is False when the box had it already."""

    kind: AppliedKind
    version: int
    chain: Chain
    changed: bool


def add(store: TrustStore, root: bytes) -> Chain:
    """Trust a chain from its first root on. Nothing changes if it is trusted already.

    Raises `VerificationRefused`: `root-not-first`, and what is wrong with the root.
    """
    found = metadata.parse(root)
    if found.version != 1:
        raise refused("root-not-first", f"this is root {found.version}; trust begins with root 1")
    metadata.check_succession(found, found)
    name = store.add(root)
    store.raise_floors(name, ChainFloors(root_version=1))
    return _chain(store, name)


def chains(store: TrustStore) -> tuple[Chain, ...]:
    """What a box trusts, sorted by the names of the chains."""
    return tuple(_chain(store, name) for name in store.chains())


def apply(store: TrustStore, data: bytes) -> Applied:
    """Take in a newer root, or a list of revocations, of a chain that is trusted.

    Raises `VerificationRefused`: `trust-file-of-another-kind`, `root-not-trusted`,
    `root-chain-gap`, `root-equivocation`, `revocations-older`, `revocations-equivocation`, and
    what is wrong with the signatures.
    """
    trusted = chains(store)
    if not trusted:
        raise refused("root-not-trusted", "this box trusts nobody yet")
    found = envelope.parse(data, "trust-file")
    kind = found.signed.get("_type")
    if kind == AppliedKind.ROOT:
        return _apply_root(store, trusted, metadata.parse(data))
    if kind == AppliedKind.REVOCATIONS:
        return _apply_revocations(store, trusted, data, found)
    raise refused(
        "trust-file-of-another-kind",
        "the file is neither a root nor a list of revocations",
        f"it says: {str(kind)[:80]}",
    )


def verify_head(
    store: TrustStore,
    head: Head,
    *,
    roots_given: Sequence[bytes] = (),
    now: datetime.datetime,
    allow_downgrade: bool = False,
    allow_expired: bool = False,
) -> Verified:
    """Judge the head of a bundle by what this box trusts; `Verified.chain` says who signed.

    `roots_given`, when there are any, take the place of what the box trusts. What the box has seen
    of a chain before counts in any case. Changes nothing; see `accept`.
    Raises `VerificationRefused` with a reference of `bundle.trust.refusals`.
    """
    chain = _chain_of(store, head)
    if chain:
        _refuse_fork(chain, head)
    trusted = _anchor(roots_given, chain, head)
    if trusted is None:
        raise _nobody(head)
    return verify(
        head,
        trusted=trusted,
        floors=chain.floors if chain else Floors(),
        now=now,
        revocations=store.revocations(chain.name) if chain and chain.revocations else None,
        allow_downgrade=allow_downgrade,
        allow_expired=allow_expired,
    )


def refuse_revoked(
    store: TrustStore, head: Head, said: Unverified, digests: Collection[str]
) -> None:
    """What anybody this box trusts has revoked is refused, also where nobody vouches for it.

    `digests` are those of all objects and blobs. Raises `VerificationRefused`: `bundle-revoked`.
    """
    for chain in chains(store):
        if chain.revocations is not None:
            verification.refuse_revoked(
                head.manifest, said.description, said.named, chain.revocations
            )
            chain.revocations.refuse_blobs(digests)


def accept(store: TrustStore, verified: Verified) -> Chain:
    """Remember what was taken in: roots, revocations, floors. Done again, it changes nothing.

    Roots and lists come first: a crash in between leaves floors too low, never a floor without
    the bytes that stand on it.
    """
    name = store.add(verified.roots[1])
    for version, data in sorted(verified.roots.items()):
        store.keep_root(name, version, data)
    if verified.revocations_data is not None:
        store.keep_revocations(name, verified.revocations_data)
    store.raise_floors(name, _stored(verified.floors))
    return _chain(store, name)


def box_identity(store: TrustStore) -> SigningKey:
    """The box's own key, made at first use. Raises `NeedsPerson`: `box-key-damaged`."""
    if not store.box_key.exists():
        store.keep_box_key(keys.private_bytes(keys.generate("box"), openssh=False))
    try:
        return keys.read_private(store.box_key)
    except AiboxError as error:
        raise NeedsPerson(
            "box-key-damaged",
            "the key of this box cannot be used",
            context=error.message,
            hint="nothing but lists for delta bundles depends on it: remove the file, then: "
            "./aibox have",
            fault=Fault.HOST,
        ) from error


def sign_have(store: TrustStore, holdings: Holdings, made: datetime.datetime) -> bytes:
    """The list of what this box holds, signed by the box."""
    moment = time_text(made.astimezone(datetime.UTC))
    return have.sign(box_identity(store), moment, holdings)


def _chain(store: TrustStore, name: str) -> Chain:
    """A stored chain, verified again as far as it is sound.

    What is gone or damaged costs no safety: the first root is named by its own digest, and the
    floors keep anybody from bringing back what came before. The next bundle, root or list heals it.
    """
    stored, floors = store.roots(name), _read(store.floors(name))
    roots = _sound(stored)
    revoked, trouble = _held_revocations(store.revocations(name))
    if len(roots) < max(len(stored), floors.root_version):
        trouble = f"only roots up to {len(roots)} are there and sound"
    if (revoked.version if revoked else 0) < floors.revocations_version:
        trouble = trouble or "the list of revocations is gone"
    return Chain(
        name=name,
        roots={root.version: root.data for root in roots},
        expires=roots[-1].expires,
        release_keys={key: roots[-1].name(key) for key in roots[-1].keys(metadata.RELEASE)},
        revocations=revoked,
        floors=floors,
        trouble=trouble,
    )


def _sound(stored: Mapping[int, bytes]) -> tuple[TrustedRoot, ...]:
    """The chain up to the first root that does not follow the one before it."""
    for newest in range(len(stored), 1, -1):
        try:
            return metadata.follow({version: stored[version] for version in range(1, newest + 1)})
        except VerificationRefused:
            continue
    return metadata.follow({1: stored[1]})


def _held_revocations(data: bytes | None) -> tuple[Revocations | None, str]:
    """The list a box holds, and what is wrong with it; it was verified when it was taken in."""
    if data is None:
        return None, ""
    try:
        return revocations.read(envelope.parse(data, "revocations")), ""
    except VerificationRefused as error:
        return None, f"the list of revocations is damaged: {error.message}"


def _chain_of(store: TrustStore, head: Head) -> Chain | None:
    """The stored chain that begins with the same root as the bundle's."""
    name = digest.of_bytes(head.roots[1]) if 1 in head.roots else ""
    return _chain(store, name) if name in store.chains() else None


def _refuse_fork(chain: Chain, head: Head) -> None:
    """Both begin with one root, so they may not differ in any later one."""
    for version, data in chain.roots.items():
        if head.roots.get(version, data) != data:
            raise verification.equivocation(version)


def _anchor(given: Sequence[bytes], chain: Chain | None, head: Head) -> bytes | None:
    """The root to judge a bundle by; None when nobody trusts its maker."""
    if not given:
        return chain.newest if chain else None
    for root in given:
        if head.roots.get(metadata.parse(root).version) == root:
            return root
    return None


def _nobody(head: Head) -> VerificationRefused:
    """Why a bundle is refused whose maker nobody trusts."""
    verification.signed_manifest(head)
    metadata.refuse_gaps(head.roots)
    return verification.not_trusted(head.roots[1])


def _apply_root(store: TrustStore, trusted: Sequence[Chain], root: TrustedRoot) -> Applied:
    for chain in trusted:
        if chain.roots.get(root.version) == root.data:
            return Applied(AppliedKind.ROOT, root.version, chain, changed=False)
    chain = _maker(trusted, root.envelope, "root")
    newest = metadata.parse(chain.newest)
    if root.version <= newest.version and metadata.is_signed_by(newest, root.data):
        raise verification.equivocation(root.version)
    metadata.check_succession(newest, root)
    store.keep_root(chain.name, root.version, root.data)
    store.raise_floors(chain.name, ChainFloors(root_version=root.version))
    return Applied(AppliedKind.ROOT, root.version, _chain(store, chain.name), changed=True)


def _apply_revocations(
    store: TrustStore, trusted: Sequence[Chain], data: bytes, found: Envelope
) -> Applied:
    chain = _maker(trusted, found, "revocations")
    revoked = verification.read_revocations(data, metadata.parse(chain.newest))
    held = chain.revocations
    if store.revocations(chain.name) == data:
        return Applied(AppliedKind.REVOCATIONS, revoked.version, chain, changed=False)
    if revoked.version < chain.floors.revocations_version:
        raise verification.older_revocations(revoked.version, chain.floors.revocations_version)
    if held and held.version == revoked.version:
        raise verification.two_lists(revoked.version)
    store.keep_revocations(chain.name, data)
    store.raise_floors(
        chain.name,
        ChainFloors(
            revocations_version=revoked.version,
            min_sequence=revoked.min_sequence,
            time_floor=int(start_of(revoked.created).timestamp()),
        ),
    )
    return Applied(
        AppliedKind.REVOCATIONS, revoked.version, _chain(store, chain.name), changed=True
    )


def _maker(trusted: Sequence[Chain], found: Envelope, what: str) -> Chain:
    """The chain whose root keys a file names; its signatures are still to be checked."""
    if not found.signatures:
        raise refused(f"{what}-unsigned", "the file is not signed")
    ids = {item.key_id for item in found.signatures}
    for chain in trusted:
        if ids.intersection(metadata.parse(chain.newest).keys(metadata.ROOT)):
            return chain
    raise refused(
        "root-not-trusted",
        "the file is not signed by anybody this box trusts",
        "if another root comes before it, bring that in first",
    )


def _read(stored: ChainFloors) -> Floors:
    return Floors(**{item.name: getattr(stored, item.name) for item in fields(Floors)})


def _stored(floors: Floors) -> ChainFloors:
    return ChainFloors(**asdict(floors))
