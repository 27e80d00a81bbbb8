"""Which blobs were hashed since this boot, so that a second look is a stat.

An entry counts only while device, inode, size and both times are what they were when the bytes
were hashed, and only in the boot in which they were: a power cut can change bytes that no
program wrote.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Lock

from aibox.box.filesystem import DiskTrouble, Filesystem
from aibox.digest import canonical_json

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def this_boot() -> str:
    """The kernel's name for this boot; it differs after every start of the machine."""
    return BOOT_ID.read_text().strip()


class Verified:
    """The cache: digest -> identity of the file that had it."""

    def __init__(self, path: Path, filesystem: Filesystem, boot: str) -> None:
        self._path = path
        self._filesystem = filesystem
        self._boot = boot
        self._lock = Lock()
        self._known = _load(path, boot)
        self._changed = False

    def knows(self, digest: str, status: os.stat_result) -> bool:
        """Whether this very file was hashed in this boot and not touched since."""
        return self._known.get(digest) == _identity(status)

    def note(self, digest: str, status: os.stat_result) -> None:
        """The file was just hashed, or a name was given to it by us."""
        with self._lock:
            self._known[digest] = _identity(status)
            self._changed = True

    def forget(self, digest: str) -> None:
        """The blob is gone."""
        with self._lock:
            self._changed |= self._known.pop(digest, None) is not None

    def save(self) -> None:
        """Keep it for the next command of this boot; a full disk only costs the next one time."""
        if not self._changed:
            return
        content = canonical_json({"boot": self._boot, "blobs": self._known})
        try:
            self._filesystem.publish(self._path, content)
            self._changed = False
        except DiskTrouble:
            return


def _identity(status: os.stat_result) -> list[int]:
    return [
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ]


def _load(path: Path, boot: str) -> dict[str, list[int]]:
    """The cache of this boot; empty for anything else."""
    try:
        held = json.loads(path.read_bytes())
        return dict(held["blobs"]) if held["boot"] == boot else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
