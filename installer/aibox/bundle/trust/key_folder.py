"""A packager's folder of keys, as files.

::

    README.txt            which file belongs where
    allowed_signers       for customers: whom `ssh-keygen -Y verify` may believe
    1.root.json …         the chain of roots, for customers and for every bundle
    revoked.json          what was revoked, if anything was
    root-1.key … .pub     root keys; they change roots and revoke, and live offline
    release-1.key … .pub  release keys; they sign bundles

Whoever signs reads the keys of the kind at hand and no others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aibox.bundle.layout import MANIFEST_LIMIT, REVOCATIONS
from aibox.bundle.trust import keys, ssh_signature
from aibox.bundle.trust.keys import SigningKey
from aibox.errors import BadUsage, Failed, Fault

_ALLOWED_SIGNERS = "allowed_signers"
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,5})\.root\.json")
_README = """\
Keys of a maker of aibox bundles

root-*.key       One for each of {holders} people, on media that they keep apart and offline.
                 {needed} of them together make a new root (./aibox trust rotate) and revoke
                 (./aibox trust revoke). Take these files off this machine now.
release-*.key    On the machine that builds bundles, which reads them from this folder:
                 ./aibox bundle build --profile NAME --output BUNDLE --sign DIR
*.pub            Public halves; anybody may see them.
*.root.json      For customers, and in every bundle. Not secret.
revoked.json     There once something was revoked; every bundle carries it.
allowed_signers  For customers who check a bundle before they run any of it:
                 ssh-keygen -Y verify -f allowed_signers -I {identity} \\
                   -n {namespace} -s bundle.json.sig < bundle.json

Print this fingerprint of 1.root.json on the delivery note and in the contract. Customers compare
it before they say: ./aibox trust add 1.root.json

{fingerprint}
"""


class KeyKind(StrEnum):
    """What a key is for; its files are named after it."""

    ROOT = "root"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Member:
    """A public key (32 bytes) with the kind and the name it has in a root."""

    kind: KeyKind
    name: str
    public: bytes


def make(folder: Path) -> None:
    """The folder, private to its owner; `keys-exist` if it was used before."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        used = sorted(
            entry.name for entry in folder.iterdir() if entry.name.endswith((".key", ".root.json"))
        )
    except OSError as error:
        raise Failed(
            "key-folder-refused",
            f"{folder} cannot be used: {error.strerror}",
            hint="name a folder of your own: ./aibox trust init DIR",
            fault=Fault.HOST,
        ) from error
    if used:
        raise BadUsage(
            "keys-exist",
            f"{folder} already holds keys",
            context=", ".join(used[:6]),
            hint="keys are never written over; name an empty folder: ./aibox trust init DIR",
            fault=Fault.YOU,
        )


def add_key(folder: Path, kind: KeyKind, key: SigningKey) -> None:
    """Write both halves. A release key has the form that `ssh-keygen -Y sign` reads too."""
    secret = keys.private_bytes(key, openssh=kind is KeyKind.RELEASE)
    keys.write(folder / f"{key.name}.key", secret, secret=True)
    keys.write(folder / f"{key.name}.pub", keys.public_line(key.public, key.name) + b"\n")


def drop_key(folder: Path, name: str) -> None:
    """Take both halves of a key away, as far as they are there and the disk lets us."""
    for path in (folder / f"{name}.key", folder / f"{name}.pub"):
        with suppress(OSError):
            path.unlink(missing_ok=True)


def free_name(folder: Path, kind: KeyKind, taken: Iterable[str]) -> str:
    """The next name of a key of this kind that neither a file nor a root has used."""
    used = {*taken, *(path.stem for path in folder.glob("*.pub"))}
    number = 1
    while f"{kind}-{number}" in used:
        number += 1
    return f"{kind}-{number}"


def present(folder: Path, kind: KeyKind, elsewhere: Sequence[Path] = ()) -> dict[str, SigningKey]:
    """Key id -> private key, of those of one kind in the folder and in files elsewhere.

    Raises `BadUsage` as `keys.read_private` does.
    """
    paths = [*sorted(folder.glob(f"{kind}-*.key")), *elsewhere]
    found = [keys.read_private(path) for path in paths]
    return {key.id: key for key in sorted(found, key=lambda key: key.id)}


def read_roots(folder: Path) -> dict[int, bytes]:
    """The chain of roots by version; `keys-missing` when the folder has none."""
    try:
        versions = [_ROOT_FILE.fullmatch(entry.name) for entry in folder.iterdir()]
    except OSError:
        versions = []
    roots = {int(found[1]): _content(folder / found[0]) for found in versions if found}
    if not roots:
        raise BadUsage(
            "keys-missing",
            f"{folder} is not a folder of keys",
            hint="name the folder that holds 1.root.json, or make one: ./aibox trust init DIR",
            fault=Fault.YOU,
        )
    return roots


def read_revocations(folder: Path) -> bytes | None:
    """The bytes of the list of revocations, None when nothing was ever revoked."""
    path = folder / REVOCATIONS
    return _content(path) if path.exists() else None


def write_root(folder: Path, version: int, data: bytes) -> None:
    """Add a root to the chain."""
    keys.write(folder / f"{version}.root.json", data)


def write_revocations(folder: Path, data: bytes) -> None:
    """Replace the list of revocations."""
    keys.write(folder / REVOCATIONS, data)


def write_allowed_signers(folder: Path, members: Iterable[Member]) -> None:
    """The file for `ssh-keygen -Y verify -f`: the release keys."""
    lines = [
        ssh_signature.allowed_signers_line(member.public, member.name)
        for member in members
        if member.kind is KeyKind.RELEASE
    ]
    keys.write(folder / _ALLOWED_SIGNERS, b"".join(lines))


def write_readme(folder: Path, *, holders: int, needed: int, fingerprint: str) -> None:
    """The page that tells which file belongs where."""
    text = _README.format(
        holders=holders,
        needed=needed,
        identity=ssh_signature.IDENTITY,
        namespace=ssh_signature.NAMESPACE,
        fingerprint=fingerprint,
    )
    keys.write(folder / "README.txt", text.encode())


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise BadUsage(
            "key-file-unreadable",
            f"{path} cannot be read: {error.strerror}",
            hint="see who owns it (ls -l), then: ./aibox bundle build --sign DIR",
            fault=Fault.YOU,
        ) from error
