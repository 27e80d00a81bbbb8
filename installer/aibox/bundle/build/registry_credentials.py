"""Whose name a registry is asked in: what `docker login` or `skopeo login` have written down.

Looked for, in this order: $REGISTRY_AUTH_FILE alone if it is set; else `containers/auth.json` of
the session and of the user, and `config.json` of Docker. Entries of `auths` are used as they
are. Programs that give out passwords (credential helpers) are not started: their names come from
a file, and they may ask a person questions that nobody would see.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aibox.bundle.images.reference import DEFAULT_REGISTRY, ImageReference
from aibox.errors import BadUsage, Fault

LIMIT = 1 << 20
"""Bytes of a file that are read at the most."""

_ALIASES = {"index.docker.io": DEFAULT_REGISTRY, "registry-1.docker.io": DEFAULT_REGISTRY}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, and the file they are from; the password is never shown."""

    user: str
    password: str = field(repr=False)
    source: str

    @property
    def basic(self) -> str:
        """The value of an `Authorization` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(reference: ImageReference, files: tuple[Path, ...] | None = None) -> Credentials | None:
    """The credentials for an image, the closest entry of the first file that has one.

    Raises `BadUsage`: `credentials-exposed` (others may read the file), `credentials-helper`,
    `credentials-unreadable`.
    """
    for path in default_files() if files is None else files:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise _unreadable(path, error.strerror or "not readable") from error
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _unreadable(path, "not a file")
            found = parse(stream.read(LIMIT + 1), reference, path)
        if found is not None:
            _require_private(path, status)
            return found
    return None


def default_files() -> tuple[Path, ...]:
    """Where credentials may lie for whoever runs this."""
    if own := os.environ.get("REGISTRY_AUTH_FILE"):
        return (Path(own),)
    home = Path.home()
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    docker = Path(os.environ.get("DOCKER_CONFIG") or home / ".docker")
    session = os.environ.get("XDG_RUNTIME_DIR")
    return (
        *((Path(session) / "containers/auth.json",) if session else ()),
        settings / "containers/auth.json",
        docker / "config.json",
    )


def parse(data: bytes, reference: ImageReference, path: Path) -> Credentials | None:
    """The entry for an image in the bytes of a file; pure."""
    if len(data) > LIMIT:
        raise _unreadable(path, f"more than {LIMIT} bytes")
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, "not JSON") from error
    helpers, entries = _table(raw, "credHelpers"), _table(raw, "auths")
    for name in _names(reference):
        if name in helpers:
            raise _helper(path, name)
        if name in entries:
            helped = isinstance(raw, dict) and bool(raw.get("credsStore"))
            return _credentials(entries[name], path, name, helped=helped)
    return None


def _names(reference: ImageReference) -> Iterator[str]:
    """Names of entries from the closest to the widest: the repository, its folders, the host."""
    parts = reference.repository.split("/")
    for count in range(len(parts), -1, -1):
        yield "/".join([reference.registry, *parts[:count]])


def _table(raw: object, key: str) -> Mapping[str, object]:
    """A table of the file, its keys without scheme and version (`https://index.docker.io/v1/`)."""
    found = raw.get(key) if isinstance(raw, dict) else None
    if not isinstance(found, dict):
        return {}
    return {_tidy(name): value for name, value in found.items()}


def _tidy(name: str) -> str:
    bare = name.removeprefix("https://").removeprefix("http://").rstrip("/")
    bare = bare.removesuffix("/v1").removesuffix("/v2")
    host, slash, rest = bare.partition("/")
    return _ALIASES.get(host, host) + slash + rest


def _credentials(entry: object, path: Path, name: str, *, helped: bool) -> Credentials | None:
    """What an entry holds; an empty one says that a helper knows, or nobody."""
    fields = entry if isinstance(entry, dict) else {}
    if fields.get("identitytoken") or (helped and not fields.get("auth")):
        raise _helper(path, name)
    text = fields.get("auth")
    if not text:
        return None
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (ValueError, TypeError) as error:
        raise _unreadable(path, f"the entry for {name} is not in base64") from error
    if not colon:
        raise _unreadable(path, f"the entry for {name} holds no password")
    # Docker pads passwords with zero bytes.
    return Credentials(user, password.strip("\x00"), str(path))


def _require_private(path: Path, status: os.stat_result) -> None:
    if status.st_mode & 0o077 or status.st_uid not in (os.geteuid(), 0):
        raise BadUsage(
            "credentials-exposed",
            "the file with the password for a registry can be read by others",
            context=f"{path}: mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}",
            hint=f"chmod 600 {path}, change the password if others work here, then: ./aibox lock",
            fault=Fault.YOU,
        )


def _helper(path: Path, name: str) -> BadUsage:
    return BadUsage(
        "credentials-helper",
        f"the password for {name} is kept by another program, which is not started from here",
        context=str(path),
        hint="log in to a file of its own (skopeo login --authfile FILE REGISTRY, chmod 600 FILE),"
        " name it in REGISTRY_AUTH_FILE, then: ./aibox lock",
        fault=Fault.YOU,
    )


def _unreadable(path: Path, reason: str) -> BadUsage:
    return BadUsage(
        "credentials-unreadable",
        "the file with passwords for registries cannot be used",
        context=f"{path}: {reason}",
        hint="correct it, or name another one in REGISTRY_AUTH_FILE, then: ./aibox lock",
        fault=Fault.YOU,
    )
