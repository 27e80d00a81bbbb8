"""Ed25519 keys and the files they lie in.

A private key is a file of mode 0600 that nobody else can read; its bytes appear in no message.
Two forms are read: PKCS8 (root keys) and OpenSSH's own (release keys, so that `ssh-keygen` can use
them); public keys are one line, as `ssh-keygen` writes them.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from aibox import digest
from aibox.errors import BadUsage, Failed, Fault

ED25519 = "ed25519"
NAME_FIELD = "x-aibox-name"
"""The field of a key in a root that says what people call it."""

_LIMIT = 16 << 10
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and what people call it."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def public(self) -> bytes:
        """The public half, 32 bytes."""
        return self.private.public_key().public_bytes_raw()

    @property
    def id(self) -> str:
        return key_id(self.public)

    def sign(self, data: bytes) -> bytes:
        """64 bytes; the same for the same data."""
        return self.private.sign(data)


def generate(name: str) -> SigningKey:
    """A new key."""
    return SigningKey(name, Ed25519PrivateKey.generate())


def key_id(public: bytes) -> str:
    """The id of a public key, as TUF computes it by default."""
    return digest.of_json(
        {"keytype": ED25519, "scheme": ED25519, "keyval": {"public": public.hex()}}
    )


def is_name(text: object) -> bool:
    """Whether `text` can be the name of a key."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None


def public_line(public: bytes, comment: str) -> bytes:
    """A public key as `ssh-keygen` writes it, without the end of the line."""
    key = Ed25519PublicKey.from_public_bytes(public)
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" " + comment.encode()


def private_bytes(key: SigningKey, *, openssh: bool) -> bytes:
    """The content of a key's file."""
    form = PrivateFormat.OpenSSH if openssh else PrivateFormat.PKCS8
    return key.private.private_bytes(Encoding.PEM, form, NoEncryption())


def read_private(path: Path) -> SigningKey:
    """The key in a file; its name is the file's, without the ending.

    Raises `BadUsage`: `key-file-missing`, `-unreadable`, `-is-a-link`, `-open-to-others`,
    `-encrypted`, `-malformed`.
    """
    data = _read(path, secret=True)
    try:
        if data.startswith(_OPENSSH):
            key: object = serialization.load_ssh_private_key(data, None)
        else:
            key = serialization.load_pem_private_key(data, None)
    except TypeError as error:
        raise _bad(path, "encrypted", "is protected by a passphrase") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        if b"ENCRYPTED" in data:
            raise _bad(path, "encrypted", "is protected by a passphrase") from error
        raise _bad(path, "malformed", "holds no private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _bad(path, "malformed", "holds a key that is not an Ed25519 key")
    return SigningKey(path.stem, key)


def read_public(path: Path) -> bytes:
    """The public key (32 bytes) in a file of one line, as `ssh-keygen` writes it.

    Raises `BadUsage` like `read_private`.
    """
    try:
        key = serialization.load_ssh_public_key(_read(path, secret=False).strip())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _bad(path, "malformed", "holds no public key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise _bad(path, "malformed", "holds a key that is not an Ed25519 key")
    return key.public_bytes_raw()


def write(path: Path, data: bytes, *, secret: bool = False) -> None:
    """A whole file, durable on return; a crash leaves the old content or the new one.

    Raises `Failed`: `key-folder-refused`.
    """
    temporary = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
            os.fchmod(stream.fileno(), 0o600 if secret else 0o644)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Failed(
            "key-folder-refused",
            f"{path} cannot be written: {error.strerror}",
            hint="see that the folder of keys is yours and has room, then: ./aibox trust init DIR",
            fault=Fault.HOST,
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path, *, secret: bool) -> bytes:
    """What lies in a key's file."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError as error:
        raise _bad(path, "missing", "does not exist") from error
    except OSError as error:
        if path.is_symlink():
            raise _bad(path, "is-a-link", "is a symbolic link") from error
        raise _bad(path, "unreadable", f"cannot be read: {error.strerror}") from error
    try:
        return _content(descriptor, path, secret=secret)
    except OSError as error:
        raise _bad(path, "unreadable", f"cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _content(descriptor: int, path: Path, *, secret: bool) -> bytes:
    """The descriptor that is looked at is the one that is read."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LIMIT:
        raise _bad(path, "malformed", "is not a small regular file")
    if secret and found.st_mode & 0o077:
        raise _bad(path, "open-to-others", "can be read or changed by others")
    return os.read(descriptor, _LIMIT)


_WAYS_OUT = {
    "missing": "name the folder that holds the keys, or make one with: ./aibox trust init DIR",
    "unreadable": "see who owns it (ls -l), then sign again with: ./aibox bundle build --sign DIR",
    "is-a-link": "put the file itself there, then: ./aibox bundle build --sign DIR",
    "open-to-others": "chmod 600 it (a memory stick: mount it with umask=077), and replace the key "
    "if somebody may have read it: ./aibox trust rotate DIR",
    "encrypted": "take the passphrase off a copy (ssh-keygen -p -N '' -f COPY), on a machine "
    "without a network, then: ./aibox bundle build --sign DIR",
    "malformed": "give a key that ssh-keygen -t ed25519 or this program made: "
    "./aibox trust init DIR",
}


def _bad(path: Path, reference: str, why: str) -> BadUsage:
    return BadUsage(
        f"key-file-{reference}", f"{path} {why}", hint=_WAYS_OUT[reference], fault=Fault.YOU
    )
