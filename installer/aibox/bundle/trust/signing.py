"""What a packager signs: roots of trust, bundles, revocations.

Ed25519 and one spelling per file make signing repeatable: the same input gives the same bytes.
Files are written so that a crash leaves what was there before or a whole new state.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Both modules hand these names on without saying so (`__all__`).
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from tuf.api.metadata import Role, Root  # type: ignore[attr-defined]

from aibox.bundle.layout import MANIFEST_LIMIT
from aibox.bundle.manifest import Description
from aibox.bundle.trust import envelope, key_folder, keys, metadata, revocations, ssh_signature
from aibox.bundle.trust.envelope import Signature
from aibox.bundle.trust.head import Floors, Head, read_unverified
from aibox.bundle.trust.key_folder import KeyKind, Member
from aibox.bundle.trust.keys import ED25519, NAME_FIELD, SigningKey
from aibox.bundle.trust.metadata import RELEASE, RELEASE_ROLES, ROOT, TrustedRoot
from aibox.bundle.trust.revocations import Revocations
from aibox.bundle.trust.targets import SPECIFICATION, Statement, start_of
from aibox.bundle.trust.verification import Terms, judge, read_revocations
from aibox.errors import BadUsage, Fault
from aibox.pins import Blob

ROOT_LIFE = datetime.timedelta(days=5 * 365 + 1)
BUNDLE_LIFE = datetime.timedelta(days=2 * 365)
"""How long after the day they were made a root and a bundle may be taken in."""

_MORE_RELEASE_KEYS = (
    "put the files of more keys into the folder, then: ./aibox bundle build --sign DIR"
)
_MORE_ROOT_KEYS = (
    "name the files of more root keys, and give the same command again, for example: "
    "./aibox trust rotate DIR --key FILE"
)
_INIT, _ROTATE, _REVOKE = (f"./aibox trust {verb} DIR" for verb in ("init", "rotate", "revoke"))


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to add to a root. `public` is the file with its public half, made by its holder; None:
    make the key in the folder.
    """

    kind: KeyKind
    public: Path | None = None


@dataclass(frozen=True, slots=True)
class Initialised:
    """A new folder of keys: its first root, and the fingerprint to print."""

    root: bytes
    fingerprint: str


def initialise(
    folder: Path,
    *,
    created: datetime.date,
    root_keys: int = 3,
    root_threshold: int = 2,
    release_keys: int = 2,
    release_threshold: int = 1,
) -> Initialised:
    """Make keys and the first root in a folder without keys.

    Raises `BadUsage`: `keys-exist`, `threshold-unreachable`.
    """
    counts = {KeyKind.ROOT: root_keys, KeyKind.RELEASE: release_keys}
    made = {
        kind: [keys.generate(f"{kind}-{number}") for number in range(1, count + 1)]
        for kind, count in counts.items()
    }
    members = [Member(kind, key.name, key.public) for kind in made for key in made[kind]]
    root = _root(1, created, members, root_threshold, release_threshold)
    data = _sealed(envelope.encode(root.to_dict()), made[KeyKind.ROOT])
    fingerprint = metadata.fingerprint(data)
    key_folder.make(folder)
    try:
        for kind, pairs in made.items():
            for key in pairs:
                key_folder.add_key(folder, kind, key)
        key_folder.write_allowed_signers(folder, members)
        key_folder.write_readme(
            folder, holders=root_keys, needed=root_threshold, fingerprint=fingerprint
        )
        # Last: a folder with a root is a finished one.
        key_folder.write_root(folder, 1, data)
    except BaseException:
        # Keys without a root are of no use, and would keep the folder from the next attempt.
        for member in members:
            key_folder.drop_key(folder, member.name)
        raise
    return Initialised(data, fingerprint)


def sign_manifest(
    folder: Path, description: Description, named: Mapping[str, Blob], sequence: int
) -> Head:
    """The head of a bundle, signed with every release key in the folder that still holds.

    It may be taken in for `BUNDLE_LIFE` from `description.created` on. What comes out was judged as
    a box would on that day: a bundle that every box refuses is not made.
    Raises `BadUsage` (`keys-missing`, `keys-too-few`, `manifest-unsignable`, and as
    `keys.read_private` does), `VerificationRefused` for a folder whose files do not fit together.
    """
    chain = metadata.follow(key_folder.read_roots(folder))
    held = key_folder.read_revocations(folder)
    signers = _signers(folder, chain[-1], held)
    manifest = _sealed(_payload(description, named, sequence), signers)
    head = Head(
        manifest=manifest,
        ssh_signature=ssh_signature.sign(signers[0], manifest),
        roots={root.version: root.data for root in chain},
        revocations=held,
    )
    made = start_of(description.created)
    judge(head, Terms(trusted=chain[-1].data, floors=Floors(), now=made))
    return head


def require_keys(folder: Path) -> None:
    """Raise what `sign_manifest` would of this folder, before there is anything to sign."""
    chain = metadata.follow(key_folder.read_roots(folder))
    _signers(folder, chain[-1], key_folder.read_revocations(folder))


def _signers(folder: Path, root: TrustedRoot, held: bytes | None) -> list[SigningKey]:
    """The release keys in the folder that still hold, if they are enough."""
    revoked = read_revocations(held, root).keys if held else ()
    usable = set(root.keys(RELEASE)).difference(revoked)
    present = key_folder.present(folder, KeyKind.RELEASE)
    signers = [key for name, key in present.items() if name in usable]
    _require_threshold(root, RELEASE, signers)
    return signers


def unsigned_manifest(description: Description, named: Mapping[str, Blob], sequence: int) -> Head:
    """The head of a bundle that nobody signs; a box refuses it unless it is told not to.

    Raises `BadUsage`: `manifest-unsignable`.
    """
    manifest = _sealed(_payload(description, named, sequence), ())
    read_unverified(manifest)
    return Head(manifest=manifest, ssh_signature=None, roots={}, revocations=None)


def rotate(
    folder: Path,
    *,
    created: datetime.date,
    add: Sequence[NewKey] = (),
    remove: Sequence[str] = (),
    root_threshold: int | None = None,
    release_threshold: int | None = None,
    key_files: Sequence[Path] = (),
) -> bytes:
    """Make the next root, signed by the old rule and by the new one; its bytes.

    `remove` are key ids; `key_files` are private root keys that lie elsewhere, on the media of
    their holders. A list of revocations is signed again for the new root. With nothing to add and
    nothing to remove the root only lasts longer.
    Raises `BadUsage`: `key-unknown`, `key-known`, `threshold-unreachable`, `keys-too-few`, and as
    `keys.read_private` does.
    """
    chain = metadata.follow(key_folder.read_roots(folder))
    before = chain[-1]
    members = _without(_members(before), remove)
    made: list[tuple[KeyKind, SigningKey]] = []
    for new in add:
        member, key = _new_member(folder, new, chain, members)
        members.append(member)
        made.extend([(new.kind, key)] if key else [])
    root = _root(
        before.version + 1,
        created,
        members,
        root_threshold or before.threshold(ROOT),
        release_threshold or before.threshold(RELEASE),
    )
    held = key_folder.present(folder, KeyKind.ROOT, key_files)
    held |= {key.id: key for kind, key in made if kind is KeyKind.ROOT}
    after = _signed_root(root, before, held)
    for kind, key in made:
        key_folder.add_key(folder, kind, key)
    _renew_revocations(folder, created, after, held)
    key_folder.write_allowed_signers(folder, members)
    # Last: until it is there, the folder holds the old root, and this can be run again.
    key_folder.write_root(folder, after.version, after.data)
    return after.data


def revoke(
    folder: Path,
    *,
    created: datetime.date,
    release_keys: Sequence[str] = (),
    bundles: Sequence[str] = (),
    blobs: Sequence[str] = (),
    min_sequence: int = 0,
    key_files: Sequence[Path] = (),
) -> bytes:
    """Add to the list of revocations and sign it with the root keys at hand; its bytes.

    `release_keys` are key ids, `bundles` digests of bundle.json or contents, `blobs` digests.
    Raises `BadUsage`: `key-unknown`, `keys-too-few`, `revocation-malformed`, `nothing-to-revoke`,
    and as `keys.read_private` does.
    """
    if not (release_keys or bundles or blobs or min_sequence > 0):
        raise _unusable(
            "nothing-to-revoke",
            "neither a key, a bundle, a blob nor a lowest sequence is named",
            "",
            f"name what must not be used any more: {_REVOKE}",
        )
    chain = metadata.follow(key_folder.read_roots(folder))
    known = {key: root.name(key) for root in chain for key in root.keys(RELEASE)}
    _require_known(release_keys, known, _REVOKE)
    held = key_folder.read_revocations(folder)
    before = read_revocations(held, chain[-1]) if held else None
    try:
        after = Revocations(
            version=before.version + 1 if before else 1,
            created=max(created, before.created) if before else created,
            keys=_union(release_keys, before.keys if before else ()),
            bundles=_union(bundles, before.bundles if before else ()),
            blobs=_union(blobs, before.blobs if before else ()),
            min_sequence=max(min_sequence, before.min_sequence if before else 0),
        )
    except ValueError as error:
        raise _unusable(
            "revocation-malformed",
            "this cannot be revoked",
            envelope.first_problem(error),
            f"give whole SHA-256 digests: {_REVOKE}",
        ) from error
    present = key_folder.present(folder, KeyKind.ROOT, key_files)
    data = _sealed_by_roots(after.payload(), chain[-1], present)
    key_folder.write_revocations(folder, data)
    return data


def _payload(description: Description, named: Mapping[str, Blob], sequence: int) -> bytes:
    try:
        expires = start_of(description.created) + BUNDLE_LIFE
        payload = Statement(description, sequence, expires, named).payload()
        if len(payload) > MANIFEST_LIMIT - 4096:
            raise ValueError(f"it is larger than {MANIFEST_LIMIT} bytes")
    except (ValueError, OverflowError) as error:
        raise _unusable(
            "manifest-unsignable",
            "what the bundle says of itself cannot be signed",
            str(error),
            "correct the profile or the lock, then: ./aibox bundle build --sign DIR",
        ) from error
    return payload


def _sealed(payload: bytes, signers: Iterable[SigningKey]) -> bytes:
    signatures = [Signature(key.id, key.sign(payload).hex()) for key in signers]
    return envelope.seal(payload, signatures)


def _sealed_by_roots(payload: bytes, root: TrustedRoot, present: Mapping[str, SigningKey]) -> bytes:
    """Signed by every root key of `root` that is at hand, if they are enough."""
    signers = [key for name, key in present.items() if name in root.keys(ROOT)]
    _require_threshold(root, ROOT, signers)
    return _sealed(payload, signers)


def _signed_root(root: Root, before: TrustedRoot, held: Mapping[str, SigningKey]) -> TrustedRoot:
    """A new root, once enough keys of the old and of the new rule have signed it."""
    allowed = {*before.keys(ROOT), *root.roles[ROOT].keyids}
    signers = [key for name, key in held.items() if name in allowed]
    after = metadata.parse(_sealed(envelope.encode(root.to_dict()), signers))
    for rule in (before, after):
        _require_threshold(rule, ROOT, signers)
    metadata.check_succession(before, after)
    return after


def _renew_revocations(
    folder: Path, created: datetime.date, root: TrustedRoot, held: Mapping[str, SigningKey]
) -> None:
    """Sign the list for the new root: boxes ask its keys, and it may have lost some."""
    data = key_folder.read_revocations(folder)
    if data is None:
        return
    before = revocations.read(envelope.parse(data, "revocations"))
    after = before.model_copy(
        update={"version": before.version + 1, "created": max(created, before.created)}
    )
    key_folder.write_revocations(folder, _sealed_by_roots(after.payload(), root, held))


def _root(
    version: int,
    created: datetime.date,
    members: Sequence[Member],
    root_threshold: int,
    release_threshold: int,
) -> Root:
    """A root without signatures; `threshold-unreachable` when too few keys are left."""
    ids: dict[KeyKind, list[str]] = {
        kind: sorted(keys.key_id(member.public) for member in members if member.kind is kind)
        for kind in KeyKind
    }
    thresholds = {KeyKind.ROOT: root_threshold, KeyKind.RELEASE: release_threshold}
    for kind, needed in thresholds.items():
        if not 1 <= needed <= len(ids[kind]):
            raise _unusable(
                "threshold-unreachable",
                f"{needed} of {len(ids[kind])} {kind} keys cannot sign",
                "",
                "ask for at least one signature and no more than there are keys: "
                + (_INIT if version == 1 else _ROTATE),
            )
    return Root(
        version=version,
        spec_version=SPECIFICATION,
        expires=start_of(created) + ROOT_LIFE,
        keys={keys.key_id(member.public): _tuf_key(member) for member in members},
        roles={
            ROOT: Role(ids[KeyKind.ROOT], root_threshold),
            **{role: Role(ids[KeyKind.RELEASE], release_threshold) for role in RELEASE_ROLES},
        },
        consistent_snapshot=False,
    )


def _tuf_key(member: Member) -> SSlibKey:
    return SSlibKey(
        keys.key_id(member.public),
        ED25519,
        ED25519,
        {"public": member.public.hex()},
        {NAME_FIELD: member.name},
    )


def _members(root: TrustedRoot) -> list[Member]:
    return [
        Member(kind, root.name(name), bytes.fromhex(key.keyval["public"]))
        for kind, role in ((KeyKind.ROOT, ROOT), (KeyKind.RELEASE, RELEASE))
        for name, key in root.keys(role).items()
    ]


def _without(members: Sequence[Member], remove: Sequence[str]) -> list[Member]:
    known = {keys.key_id(member.public): member.name for member in members}
    _require_known(remove, known, _ROTATE)
    return [member for member in members if keys.key_id(member.public) not in remove]


def _new_member(
    folder: Path, new: NewKey, chain: Sequence[TrustedRoot], members: Sequence[Member]
) -> tuple[Member, SigningKey | None]:
    """A key to add, and its private half if it is made here."""
    taken = {item.name for root in chain for item in _members(root)}
    taken |= {member.name for member in members}
    if new.public is None:
        key = keys.generate(key_folder.free_name(folder, new.kind, taken))
        return Member(new.kind, key.name, key.public), key
    member = Member(new.kind, new.public.stem, keys.read_public(new.public))
    if any(other.public == member.public for other in members):
        problem = "is in the root already"
    elif member.name in taken or not keys.is_name(member.name):
        problem = "has a name that is taken, or none (a-z, 0-9, ., _, -): rename its file"
    else:
        return member, None
    raise _unusable("key-known", f"{new.public} {problem}", "", f"name another key: {_ROTATE}")


def _union(new: Iterable[str], old: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*new, *old}))


def _require_known(ids: Sequence[str], known: Mapping[str, str], command: str) -> None:
    for key in ids:
        if key not in known:
            listed = ", ".join(f"{known[name]} = {name}" for name in sorted(known))
            raise _unusable(
                "key-unknown",
                f"there is no such key: {key[:80]!r}",
                listed,
                f"name it by its whole id: {command}",
            )


def _require_threshold(root: TrustedRoot, role: str, signers: Iterable[SigningKey]) -> None:
    held = {key.id for key in signers}.intersection(root.keys(role))
    if len(held) < root.threshold(role):
        absent = sorted(root.name(key) for key in root.keys(role) if key not in held)
        raise _unusable(
            "keys-too-few",
            f"root {root.version} asks for {root.threshold(role)} keys; {len(held)} are here",
            f"not here, or revoked: {', '.join(absent)}",
            _MORE_ROOT_KEYS if role == ROOT else _MORE_RELEASE_KEYS,
        )


def _unusable(reference: str, message: str, context: str, hint: str) -> BadUsage:
    return BadUsage(reference, message, context=context, hint=hint, fault=Fault.YOU)
