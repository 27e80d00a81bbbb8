"""One command at a time: an flock on a file that is never deleted.

The kernel frees the lock when the last descriptor closes, so there is no stale lock to break.
A child that gets the descriptor (`pass_fds`) keeps the lock when its parent is killed: what is
still being changed stays locked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aibox.box.filesystem import Filesystem
from aibox.box.layout import Layout
from aibox.errors import BadUsage, Failed, Fault


@contextmanager
def hold(
    root: Path,
    *,
    shared: bool = False,
    existing: bool = False,
    filesystem: Filesystem | None = None,
) -> Iterator[int]:
    """Hold the box for the length of the block; yields the descriptor to pass to children.

    `shared` is for readers that must not see the collector at work (a deep check of blobs);
    `status` and `history` read files that are replaced as a whole and need no lock. An exclusive
    holder makes the root if it is missing, unless only an `existing` box is of use to it; a shared
    one never writes.

    Raises:
        Failed: `box-busy` at once when another command holds it.
        BadUsage: `no-box` without a box, for whoever does not make one.
    """
    path = Layout(root).lock
    if not shared and not existing:
        _make(path, filesystem or Filesystem())
    descriptor = _open(path)
    try:
        _lock(descriptor, shared)
        yield descriptor
    finally:
        os.close(descriptor)


def _make(path: Path, filesystem: Filesystem) -> None:
    for directory in (*reversed(path.parent.parents), path.parent):
        filesystem.make_directory(directory)
    if not path.exists():
        with filesystem.open(path, fresh=False):
            pass


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise BadUsage(
            "no-box",
            "nothing is installed here",
            context=f"{path}: {error.strerror}",
            hint="install a box with: ./aibox install --profile local",
            fault=Fault.YOU,
        ) from error


def _lock(descriptor: int, shared: bool) -> None:
    mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Failed(
            "box-busy",
            "another command is changing this box",
            context=f"held by: {_holder(descriptor)}",
            hint="wait until it has ended, then try again; to see what it did: ./aibox history",
            fault=Fault.YOU,
        ) from error


def _holder(descriptor: int) -> str:
    """Who took the lock, from /proc/locks; that process may be gone and a child of it alive."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
    except OSError:
        return "unknown"
    holders = [row[4] for row in rows if len(row) > 5 and row[5].split(":")[-1] == inode]
    return f"process {holders[0]}" if holders else "unknown"
