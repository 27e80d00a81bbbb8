"""A folder that nobody vouches for: it came on a medium and may hold anything.

Names are opened below a descriptor of the folder, part by part and never through a link, and only
regular files are read. So nothing in the folder can point out of it, block or be endless, whatever
the file system calls it; modes, times and owners are not looked at, because FAT has none.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_DIRECTORY = _BELOW | os.O_DIRECTORY
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_KINDS = {
    stat.S_IFREG: "a file",
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


class TooLarge(Exception):
    """A file is larger than whoever reads it allows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under a name: `kind` in words, `size` in bytes, where on which device."""

    kind: str
    size: int
    device: int
    inode: int

    @property
    def regular(self) -> bool:
        return self.kind == _KINDS[stat.S_IFREG]


class Folder:
    """An open folder; names are relative, `/` between their parts. For many threads at once."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over a descriptor of the folder; `path` is for messages."""
        self.path = path
        self._closing = ExitStack()
        self._directories: dict[str, int] = {}
        self._lock = Lock()
        self._keep("", descriptor)

    @classmethod
    def at(cls, path: Path) -> Folder:
        """Open the folder at a path that the caller vouches for: it may be a link.

        Raises:
            OSError: there is no folder, or it cannot be read.
        """
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def below(self, name: str) -> Folder:
        """Open the folder `name` in this one, not through a link; raises OSError."""
        return Folder(self.path / name, os.open(name, _DIRECTORY, dir_fd=self._directory("")))

    def close(self) -> None:
        """Let the medium go."""
        self._closing.close()

    def open(self, name: str) -> tuple[int, int]:
        """A descriptor of the regular file `name`, and its size in bytes.

        Raises:
            OSError: it is missing, not a regular file (ENOENT too) or cannot be opened.
        """
        entry = self.look(name)
        if entry is None or not entry.regular:  # Devices are not even opened: some act on it.
            raise _not_regular(name)
        parent, _, last = name.rpartition("/")
        descriptor = os.open(last, _BELOW, dir_fd=self._directory(parent))
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise _not_regular(name)
        return descriptor, found.st_size

    def read(self, name: str, limit: int) -> bytes | None:
        """All bytes of a regular file; None if there is none of that name.

        Raises:
            TooLarge: it holds more than `limit` bytes; no more than that is read.
            OSError: it cannot be read.
        """
        try:
            descriptor, _ = self.open(name)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            data = bytearray()
            while len(data) <= limit and (part := file.read(min(limit + 1 - len(data), 1 << 20))):
                data += part
        if len(data) > limit:
            raise TooLarge(name)
        return bytes(data)

    def look(self, name: str) -> Entry | None:
        """What lies under `name`, nothing read; None if nothing does. Raises OSError."""
        parent, _, last = name.rpartition("/")
        try:
            found = os.stat(last, dir_fd=self._directory(parent), follow_symlinks=False)
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "of an unknown kind")
        return Entry(kind, found.st_size, found.st_dev, found.st_ino)

    def names(self, directory: str = "") -> Iterator[str]:
        """What a directory holds, as it comes (there may be millions); nothing if it is none.

        Raises:
            OSError: it cannot be read.
        """
        try:
            descriptor = self._directory(directory)
        except OSError as error:
            if error.errno in _ABSENT:
                return
            raise
        with os.scandir(descriptor) as entries:
            for entry in entries:
                yield entry.name

    def _directory(self, name: str) -> int:
        """A descriptor that stays open: blobs are opened one after the other in one directory."""
        held = self._directories.get(name)
        if held is not None:
            return held
        parent, _, last = name.rpartition("/")
        above = self._directory(parent)
        with self._lock:
            if name not in self._directories:
                self._keep(name, os.open(last, _DIRECTORY, dir_fd=above))
            return self._directories[name]

    def _keep(self, name: str, descriptor: int) -> None:
        self._closing.callback(os.close, descriptor)
        self._directories[name] = descriptor


def _not_regular(name: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "not a regular file", name)
