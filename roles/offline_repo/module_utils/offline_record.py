"""What a role brought to a host: `<state>/<owner>.packages.json`, so that it can be taken away."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ansible.module_utils.offline_refusal import Refused  # type: ignore[import-not-found]

VERSION = 1
SUFFIX = ".packages.json"


@dataclass
class Record:
    """The packages one owner brought.

    `packages` (name -> version) and `held` are on the host because of this owner. `unfinished`
    names packages that an installation was about to bring when it was last heard of: they are
    written down before the first of them is unpacked. `leaving` is set when the owner has been
    removed and something else still needs the packages that are left.
    """

    packages: dict[str, str] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    unfinished: list[str] = field(default_factory=list)
    leaving: bool = False
    version: int = VERSION

    @property
    def names(self) -> set[str]:
        """Every package that is, or may have been, brought."""
        return {*self.packages, *self.unfinished}


def path_of(state: Path, owner: str) -> Path:
    """Where the record of an owner lies."""
    return state / f"{owner}{SUFFIX}"


def load(path: Path) -> Record:
    """The record at `path`, an empty one if there is none; `Refused` when it cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["version"] > VERSION:
            raise ValueError(f"version {found['version']} was written by a newer aibox")
        return Record(**found)
    except FileNotFoundError:
        return Record()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Refused(
            f"the list of installed packages {path} cannot be read",
            cause=str(error),
            fix=f"put it right or aside, then install again; look: cat {path}",
        ) from error


def save(path: Path, record: Record) -> None:
    """Replace the record in one step, so that a power cut leaves the old one or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        json.dump(asdict(record), stream, indent=1, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    _settle(path.parent)


def drop(path: Path) -> None:
    """Forget a record; it need not exist."""
    path.unlink(missing_ok=True)


def leaving(state: Path) -> dict[Path, Record]:
    """Records of removed owners whose last packages something else still needs."""
    records = {path: load(path) for path in sorted(state.glob(f"*{SUFFIX}"))}
    return {path: record for path, record in records.items() if record.leaving}


@contextlib.contextmanager
def alone(state: Path) -> Iterator[bool]:
    """Whether no other run works with the records in `state`; none can for the length of the block.

    A run that was killed leaves its installation behind, which goes on to its end. The folder
    itself is locked, so that nothing is left of the lock.
    """
    try:
        descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield True
        return
    try:
        yield _locks(descriptor)
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
