"""Signatures that `ssh-keygen -Y verify` checks, so that nobody has to run our code to check us.

The format is OpenSSH's PROTOCOL.sshsig, narrowed to Ed25519 over SHA-512 (what ssh-keygen makes of
such a key) and to one spelling: a signature that is read and written again is the same bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from aibox.bundle.trust.keys import SigningKey, public_line
from aibox.bundle.trust.refusals import refused

NAMESPACE = "bundle@aibox"
"""What a signature is for; ssh-keygen wants it after `-n`."""

IDENTITY = "release@aibox"
"""Who signs; ssh-keygen wants it after `-I`."""

LIMIT = 4096
"""Bytes of a signature's file at the most (of an Ed25519 key: about 300)."""

_MAGIC = b"SSHSIG"
_VERSION = (1).to_bytes(4, "big")
_HASH = b"sha512"
_TYPE = b"ssh-ed25519"
_BEGIN, _END = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
_WIDTH = 70


def sign(key: SigningKey, message: bytes, namespace: str = NAMESPACE) -> bytes:
    """The file that `ssh-keygen -Y sign -n <namespace>` would write for this key."""
    return _armour(key.public, namespace, key.sign(_to_sign(message, namespace)))


def verify(data: bytes, message: bytes, namespace: str = NAMESPACE) -> bytes:
    """The public key (32 bytes) whose signature over `message` is in `data`; whose it is, ask.

    Raises `VerificationRefused`: `ssh-signature-malformed`, `-for-another-purpose`, `-wrong`.
    """
    public, found, signature = _parse(data)
    if found != namespace.encode():
        raise refused(
            "ssh-signature-for-another-purpose",
            f"the SSH signature was not made for {namespace}",
            f"made for: {found[:80]!r}",
        )
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, _to_sign(message, namespace))
    except (InvalidSignature, ValueError) as error:
        raise refused(
            "ssh-signature-wrong", "the SSH signature does not fit the bytes of bundle.json"
        ) from error
    return public


def allowed_signers_line(public: bytes, name: str) -> bytes:
    """The line that lets `ssh-keygen -Y verify` believe a key, for this purpose alone."""
    return f'{IDENTITY} namespaces="{NAMESPACE}" '.encode() + public_line(public, name) + b"\n"


def _to_sign(message: bytes, namespace: str) -> bytes:
    fields = (namespace.encode(), b"", _HASH, hashlib.sha512(message).digest())
    return _MAGIC + b"".join(map(_string, fields))


def _armour(public: bytes, namespace: str, signature: bytes) -> bytes:
    blob = b"".join(
        [
            _MAGIC,
            _VERSION,
            _string(_string(_TYPE) + _string(public)),
            _string(namespace.encode()),
            _string(b""),
            _string(_HASH),
            _string(_string(_TYPE) + _string(signature)),
        ]
    )
    text = base64.b64encode(blob)
    lines = [text[place : place + _WIDTH] for place in range(0, len(text), _WIDTH)]
    return b"".join([_BEGIN, *(line + b"\n" for line in lines), _END])


def _parse(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Public key, namespace and signature of a file; only what `_armour` writes is read."""
    try:
        if len(data) > LIMIT or not (data.startswith(_BEGIN) and data.endswith(_END)):
            raise ValueError("no SSH signature")
        text = data[len(_BEGIN) : -len(_END)].replace(b"\n", b"")
        body = _Reader(base64.b64decode(text, validate=True))
        if body.take(len(_MAGIC)) != _MAGIC or body.take(4) != _VERSION:
            raise ValueError("another format")
        key, namespace, _, _, signature = (_Reader(body.string()) for _ in range(5))
        public, made = key.second(), signature.second()
        spelled = _armour(public, namespace.rest.decode(), made)
    except (ValueError, binascii.Error) as error:
        raise refused("ssh-signature-malformed", f"it cannot be read: {error}") from error
    if spelled != data or (len(public), len(made)) != (32, 64):
        raise refused("ssh-signature-malformed", "it is not spelled as ssh-keygen writes it")
    return public, namespace.rest, made


class _Reader:
    """Takes apart the strings of the SSH protocol: four bytes of length, then the bytes."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest

    def take(self, count: int) -> bytes:
        taken, self.rest = self.rest[:count], self.rest[count:]
        if len(taken) != count:
            raise ValueError("it ends early")
        return taken

    def string(self) -> bytes:
        return self.take(int.from_bytes(self.take(4), "big"))

    def second(self) -> bytes:
        """The second of two strings; the first is the type, which spelling it again compares."""
        self.string()
        return self.string()


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
