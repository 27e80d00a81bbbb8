"""The secrets of a box: made once by the box itself, read by whoever needs them, in no generation.

`secrets/<name>` belongs to root. A container gets a file mounted as it lies on the host, owner
and mode included, so each reader has one of his own: `secrets/<reader>/<name>`, mode 0600, the
same text. The folder is closed to everybody but root: on the host nobody else comes to any.
"""

from __future__ import annotations

import os
import re
import secrets as entropy
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from aibox import prerequisites
from aibox.box.filesystem import Filesystem
from aibox.errors import Failed, Fault, NeedsPerson
from aibox.prerequisites import Copy, Secret
from aibox.site import check_secret_file

BYTES = 32
LONGEST_COPY = 1024 * 1024
NO_SECRETS = (
    prerequisites.CERTIFICATE,
    prerequisites.path_of_secret("app", prerequisites.SITE_ENGINE_AUTHORITY),
)
"""Copies whose sources others may read."""

_SECRET = re.compile(rb"[0-9a-f]{%d}\n?" % (2 * BYTES))


def provide(filesystem: Filesystem, root: Path, secret: Secret, users: Mapping[str, int]) -> bool:
    """Have a secret and its readers' files; whether anything was missing.

    A secret that is there stays. Raises `NeedsPerson` (`secret-damaged`) for one that is not as
    it was made: a new one would lock the box out of what the old one opens.
    """
    folder = root / prerequisites.SECRETS
    filesystem.make_directory(folder)
    original = folder / secret.name
    made = not os.path.lexists(original)
    if made or os.path.lexists(_temporary(original)):
        _make(filesystem, original)
    text = _read(original)
    for reader in secret.readers:
        target = root / prerequisites.path_of_secret(reader, secret.name)
        filesystem.make_directory(target.parent)
        made |= publish(filesystem, target, text, users[reader])
    return made


def reveal(filesystem: Filesystem, root: Path, name: str) -> str:
    """A secret for the other hosts of the box that need the same; made if it is not there yet."""
    provide(filesystem, root, Secret(name=name, readers=()), {})
    return _read(root / prerequisites.SECRETS / name).decode().strip()


def adopt(filesystem: Filesystem, root: Path, name: str, value: str) -> bool:
    """Have the secret of another host of the box as its own; whether it was another.

    Readers' files follow when they are next provided. Raises `Failed` (`secret-malformed`).
    """
    text = f"{value}\n".encode()
    if not _SECRET.fullmatch(text):
        raise Failed(
            "secret-malformed",
            f"the secret {name} that this host was told is none",
            hint="install again with the program of one bundle: ./aibox install --inventory FILE",
            fault=Fault.US,
        )
    folder = root / prerequisites.SECRETS
    filesystem.make_directory(folder)
    return publish(filesystem, folder / name, text, os.geteuid())


def copy(filesystem: Filesystem, root: Path, wanted: Copy, users: Mapping[str, int]) -> bool:
    """Have the reader's copy of a file of the site; whether it differed.

    Raises `Failed` (`site-file-unreadable`, `site-secret-open` for a key others can read).
    """
    source = Path(wanted.source)
    data = _site_file(source)
    is_secret = wanted.path not in NO_SECRETS
    if is_secret and (problem := check_secret_file(source)):
        raise Failed(
            "site-secret-open",
            problem,
            hint=f"close it with: chmod 600 {source}",
            fault=Fault.YOU,
        )
    target = root / wanted.path
    filesystem.make_directory(target.parent.parent)
    filesystem.make_directory(target.parent)
    return publish(filesystem, target, data, users[wanted.user])


def publish(filesystem: Filesystem, path: Path, data: bytes, user: int) -> bool:
    """Have `data` at `path`, mode 0600, of one user alone; whether it was otherwise."""
    if _is_as_wanted(path, data, user):
        return False
    temporary = _temporary(path)
    filesystem.unlink(temporary)
    with filesystem.open(temporary, fresh=True) as file:
        filesystem.write(file, data)
        filesystem.set_mode(file, 0o600)
        filesystem.give(file, user)
        filesystem.sync_file(file)
    filesystem.rename(temporary, path)
    filesystem.sync_directory(path.parent)
    return True


def _make(filesystem: Filesystem, path: Path) -> None:
    """A new secret under its name, whole or not at all, and never over another one.

    Also ends what a cut has left of it.
    """
    temporary = _temporary(path)
    if not os.path.lexists(path):
        filesystem.unlink(temporary)
        filesystem.write_new(temporary, f"{entropy.token_hex(BYTES)}\n".encode())
        filesystem.link(temporary, path)
    filesystem.unlink(temporary)
    filesystem.sync_directory(path.parent)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _read(path: Path) -> bytes:
    try:
        with _opened(path) as file:
            facts = os.fstat(file.fileno())
            text = file.read(4 * BYTES)
    except OSError as error:
        raise _damaged(path, error.strerror or str(error)) from error
    if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
        raise _damaged(path, "it is not a file of this user")
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise _damaged(path, f"its mode is {stat.S_IMODE(facts.st_mode):04o}, others can read it")
    if not _SECRET.fullmatch(text):
        raise _damaged(path, f"it does not hold {2 * BYTES} hex digits")
    return text


def _damaged(path: Path, reason: str) -> NeedsPerson:
    return NeedsPerson(
        "secret-damaged",
        f"a secret of this box is not as it was made: {reason}",
        context=str(path),
        hint=f"put it back from a backup, or for a new one: rm {path} && aibox stop && aibox start",
        fault=Fault.HOST,
    )


def _site_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LONGEST_COPY + 1)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if not data or len(data) > LONGEST_COPY:
        raise _unreadable(path, "it is empty" if not data else f"larger than {LONGEST_COPY} bytes")
    return data


def _unreadable(path: Path, reason: str) -> Failed:
    return Failed(
        "site-file-unreadable",
        f"a file that the site names cannot be taken: {reason}",
        context=str(path),
        hint="correct the site file, then: ./aibox plan --inventory FILE",
        fault=Fault.YOU,
    )


def _is_as_wanted(path: Path, data: bytes, user: int) -> bool:
    try:
        with _opened(path) as file:
            facts = os.fstat(file.fileno())
            return (
                stat.S_ISREG(facts.st_mode)
                and (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (user, user, 0o600)
                and file.read(len(data) + 1) == data
            )
    except OSError:
        return False


def _opened(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
