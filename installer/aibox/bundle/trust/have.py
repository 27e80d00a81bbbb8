"""What a box holds, signed by the box: the list that a delta bundle is made against.

The signature proves that the list arrived as the box wrote it; whose box it is, people tell by the
name of the box, which is the digest of its key. `{"signature":…,"signed":{…}}`, canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AfterValidator, StringConstraints

from aibox import digest
from aibox.bundle.layout import INDEX_LIMIT
from aibox.bundle.trust import envelope
from aibox.bundle.trust.keys import SigningKey
from aibox.bundle.trust.refusals import refused
from aibox.bundle.trust.targets import Time
from aibox.pins import Size
from aibox.schema import Model, Sha256

_CONTEXT = b"have@aibox\0"
"""Signed before the list, so that a signature of this key cannot mean anything else."""


def _is_sorted(releases: tuple[str, ...]) -> tuple[str, ...]:
    if list(releases) != sorted(set(releases)):
        raise ValueError("must be sorted, each once")
    return releases


class Holdings(Model):
    """What a box holds, and what it is: packages for other hosts are of no use to it.

    Attributes:
        architecture: as its kernel names it (`x86_64`).
        python: the interpreter of its services (`3.11`).
        blobs: digest -> size in bytes.
        releases: ids of the releases that are installed.
    """

    architecture: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
    python: Annotated[str, StringConstraints(pattern=r"^3\.[0-9]{1,3}$")]
    blobs: dict[Sha256, Size]
    releases: Annotated[tuple[Sha256, ...], AfterValidator(_is_sorted)]


class Have(Holdings):
    """The list as it is signed.

    Attributes:
        box: the name of the box, the digest of its public key (32 bytes, here in hex).
        made: when, in UTC.
    """

    format: Literal[1] = 1
    box: Sha256
    public_key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    made: Time


class _File(Model):
    signature: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{128}$")]
    signed: Have


def box_name(public: bytes) -> str:
    """The name of a box by its public key."""
    return digest.of_bytes(public)


def sign(key: SigningKey, made: str, holdings: Holdings) -> bytes:
    """The file, for a time as `targets.time_text` writes it."""
    have = Have(
        box=box_name(key.public),
        public_key=key.public.hex(),
        made=made,
        **holdings.model_dump(),
    )
    signature = key.sign(_to_sign(have)).hex()
    return digest.canonical_json(_File(signature=signature, signed=have).model_dump(mode="json"))


def verify_have(data: bytes) -> Have:
    """The list in a file, its signature checked. Pure.

    Raises `VerificationRefused`: `have-too-large`, `have-malformed`, `have-signature-wrong`.
    """
    if len(data) > INDEX_LIMIT:
        raise refused("have-too-large", f"more than {INDEX_LIMIT} bytes", f"{len(data)}")
    try:
        file = _File.model_validate(envelope.load(data))
        if digest.canonical_json(file.model_dump(mode="json")) != data:
            raise ValueError("it is not spelled as it was signed")
        public = bytes.fromhex(file.signed.public_key)
        if box_name(public) != file.signed.box:
            raise ValueError("the name of the box is not that of its key")
    except (ValueError, RecursionError) as error:
        raise envelope.malformed("have", error) from error
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(bytes.fromhex(file.signature), _to_sign(file.signed))
    except (InvalidSignature, ValueError) as error:
        raise refused("have-signature-wrong", "the list is not as the box signed it") from error
    return file.signed


def _to_sign(have: Have) -> bytes:
    return _CONTEXT + digest.canonical_json(have.model_dump(mode="json"))
