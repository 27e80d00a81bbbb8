"""Root metadata: which keys speak for what, and how many of them it takes.

Parsed by python-tuf's metadata API and then narrowed: Ed25519 alone, every key named by the
digest of itself (so that one key cannot count as two), no field that nobody asked for, and the
bytes of the file are the ones we would write.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from securesystemslib.exceptions import UnverifiedSignatureError

# Both modules hand these names on without saying so (`__all__`).
from securesystemslib.signer import Key  # type: ignore[attr-defined]
from securesystemslib.signer import Signature as KeySignature  # type: ignore[attr-defined]
from tuf.api.metadata import Metadata, Role, Root  # type: ignore[attr-defined]
from tuf.api.serialization import DeserializationError

from aibox.bundle.layout import ROOTS_LIMIT
from aibox.bundle.trust import envelope as envelopes
from aibox.bundle.trust.envelope import Envelope
from aibox.bundle.trust.keys import ED25519, NAME_FIELD, is_name, key_id
from aibox.bundle.trust.refusals import refused
from aibox.digest import is_digest

ROOT = "root"
RELEASE = "targets"
RELEASE_ROLES = (RELEASE, "snapshot", "timestamp")
"""TUF asks for four roles. A bundle is one file, so its release keys hold the other three."""


@dataclass(frozen=True, slots=True)
class TrustedRoot:
    """One version of a root: its bytes, and what they say."""

    data: bytes
    envelope: Envelope
    root: Root

    @property
    def version(self) -> int:
        return self.root.version

    @property
    def expires(self) -> datetime.datetime:
        return self.root.expires

    def keys(self, role: str) -> dict[str, Key]:
        """Key id -> key of everybody who may sign for a role."""
        return {key: self.root.keys[key] for key in self.root.roles[role].keyids}

    def threshold(self, role: str) -> int:
        """How many of them it takes."""
        return self.root.roles[role].threshold

    def name(self, key: str) -> str:
        """What people call a key."""
        return str(self.root.keys[key].unrecognized_fields[NAME_FIELD])


def parse(data: bytes) -> TrustedRoot:
    """A root as it says it is; nothing is said about its signatures.

    Raises `VerificationRefused`: `root-too-large`, `root-malformed`, `root-key-twice`.
    """
    envelope = envelopes.parse(data, ROOT)
    try:
        root = Metadata[Root].from_bytes(data).signed
        _require(isinstance(root, Root), "it is not a root")
        _check(root)
        _require(envelopes.encode(root.to_dict()) == envelope.payload, "something is left over")
    except (DeserializationError, ValueError) as error:
        raise envelopes.malformed(ROOT, error) from error
    return TrustedRoot(data, envelope, root)


def follow(roots: Mapping[int, bytes]) -> tuple[TrustedRoot, ...]:
    """The chain of roots from the first to the newest, each signed as it must be.

    The first is signed by its own threshold, every other by the one of the root before it and by
    its own. Whether any of them is trusted or expired is not asked here.
    Raises `VerificationRefused` as `refuse_gaps`, `parse` and `check_succession` do.
    """
    refuse_gaps(roots)
    chain: list[TrustedRoot] = []
    for version in range(1, len(roots) + 1):
        root = parse(roots[version])
        if root.version != version:
            raise refused("root-chain-gap", f"root {version} says that it is root {root.version}")
        check_succession(chain[-1] if chain else root, root)
        chain.append(root)
    return tuple(chain)


def refuse_gaps(roots: Mapping[int, bytes]) -> None:
    """Raise `root-chain-gap` or `root-chain-too-long` unless the versions are 1 to N."""
    if len(roots) > ROOTS_LIMIT:
        raise refused("root-chain-too-long", f"more than {ROOTS_LIMIT} roots")
    if not roots or set(roots) != set(range(1, len(roots) + 1)):
        held = ", ".join(map(str, sorted(roots)))
        raise refused(
            "root-chain-gap", "the chain of roots is not whole", f"found: {held or 'none'}"
        )


def check_succession(before: TrustedRoot, after: TrustedRoot) -> None:
    """Whether `after` may follow `before`; the first root is judged by itself (twice the same).

    Raises `VerificationRefused`: `root-chain-gap`, `root-unsigned`, `root-key-unknown`,
    `root-signature-wrong`, `root-too-few-keys`.
    """
    if before is not after and after.version != before.version + 1:
        raise refused("root-chain-gap", f"root {after.version} cannot follow root {before.version}")
    signed = signers(after.envelope, before.keys(ROOT) | after.keys(ROOT), ROOT)
    for judge in (before, after):
        check_threshold(judge, ROOT, signed, ROOT, f"root {after.version}")


def signers(envelope: Envelope, keys: Mapping[str, Key], what: str) -> frozenset[str]:
    """The ids of the keys that signed; every signature there is must be right.

    Raises `VerificationRefused`: `<what>-unsigned`, `-key-unknown`, `-signature-wrong`.
    """
    if not envelope.signatures:
        raise refused(f"{what}-unsigned", f"there is no signature ({what})")
    for item in envelope.signatures:
        key = keys.get(item.key_id)
        if key is None:
            raise refused(f"{what}-key-unknown", "a key signs that nobody named", item.key_id)
        try:
            key.verify_signature(KeySignature(item.key_id, item.value), envelope.payload)
        except UnverifiedSignatureError as error:
            raise refused(
                f"{what}-signature-wrong", "a signature does not fit the bytes", item.key_id
            ) from error
    return frozenset(item.key_id for item in envelope.signatures)


def check_threshold(
    judge: TrustedRoot, role: str, signed: Collection[str], what: str, name: str
) -> None:
    """Raise `<what>-too-few-keys` unless enough keys of a role of `judge` signed."""
    counted = len(set(judge.keys(role)).intersection(signed))
    needed = judge.threshold(role)
    if counted < needed:
        raise refused(
            f"{what}-too-few-keys",
            f"{name} is signed by {counted} of {needed} keys that root {judge.version} asks for",
        )


def is_signed_by(judge: TrustedRoot, data: bytes) -> bool:
    """Whether a root, whatever its version, carries the signatures of the root keys of `judge`."""
    found = parse(data)
    keys = judge.keys(ROOT)
    known = tuple(item for item in found.envelope.signatures if item.key_id in keys)
    if len(known) < judge.threshold(ROOT):
        return False
    signers(Envelope(known, found.envelope.signed, found.envelope.payload), keys, ROOT)
    return True


def fingerprint(root: bytes) -> str:
    """What people compare with the delivery note: SHA-256 of the first root, in groups of four."""
    text = hashlib.sha256(root).hexdigest()
    return " ".join(text[place : place + 4] for place in range(0, len(text), 4))


def _check(root: Root) -> None:
    """`ValueError` for what TUF allows and we do not."""
    _require(not root.unrecognized_fields, "a field of the root is unknown")
    _require(type(root.version) is int, "the version is not a number")
    _require(isinstance(root.consistent_snapshot, bool), "consistent_snapshot is missing")
    for name, key in root.keys.items():
        _check_key(name, key)
    for role in root.roles.values():
        _check_role(role, root.keys)
    used = {key for role in root.roles.values() for key in role.keyids}
    _require(used == set(root.keys), "a key has no role")
    shared = set(root.roles[ROOT].keyids) & set(root.roles[RELEASE].keyids)
    _require(not shared, "a key is both a root key and a release key")


def _check_key(name: str, key: Key) -> None:
    _require((key.keytype, key.scheme) == (ED25519, ED25519), "a key is not an Ed25519 key")
    _require(set(key.keyval) == {"public"}, "a key holds more than its public half")
    public = key.keyval["public"]
    _require(isinstance(public, str) and is_digest(public), "a key is not 32 bytes")
    _require(key_id(bytes.fromhex(public)) == name, "a key is not named by its own digest")
    _require(set(key.unrecognized_fields) == {NAME_FIELD}, "a key has unknown fields or no name")
    _require(is_name(key.unrecognized_fields[NAME_FIELD]), "the name of a key is not a name")


def _check_role(role: Role, keys: Mapping[str, Key]) -> None:
    _require(not role.unrecognized_fields, "a field of a role is unknown")
    _require(type(role.threshold) is int, "a threshold is not a number")
    _require(set(role.keyids) <= set(keys), "a role names a key that is not there")
    _require(role.threshold <= len(role.keyids), "a role has fewer keys than it asks for")


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)
