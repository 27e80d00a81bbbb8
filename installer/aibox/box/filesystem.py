"""The only code that changes the box root.

Each primitive announces an `Operation` before it acts, so that tests can kill the process, cut
the power or inject an error at every boundary there is. An operating-system error becomes a
`DiskTrouble`; it is never retried here. After a failed fsync the kernel may mark the pages
clean, so a second fsync that succeeds proves nothing (Rebello et al., USENIX ATC 2020): the
caller gives the file up and writes it anew.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from aibox.errors import Failed, Fault

CLOSED = 0o700
"""The mode of a directory that is nobody's business but its owner's."""
READABLE = 0o755

_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE, linux/falloc.h
_LIBC = ctypes.CDLL(None, use_errno=True)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Kind(StrEnum):
    """What a primitive does."""

    MAKE_DIRECTORY = "make directory"
    OPEN = "open for writing"
    WRITE = "write"
    TRUNCATE = "truncate"
    ALLOCATE = "allocate"
    SET_MODE = "set mode"
    SET_OWNER = "set owner"
    SYNC_FILE = "fsync file"
    SYNC_DIRECTORY = "fsync directory"
    SYNC_FILESYSTEM = "syncfs"
    RENAME = "rename"
    LINK = "link"
    SYMLINK = "symlink"
    UNLINK = "unlink"
    REMOVE_DIRECTORY = "remove directory"
    READ_BACK = "read back"


@dataclass(frozen=True)
class Operation:
    """One change about to be made; `path` is what changes, `source` the old name of a rename."""

    kind: Kind
    path: Path
    source: Path | None = None


@dataclass(frozen=True)
class OpenFile:
    """A file open for writing, and the name it was opened by."""

    descriptor: int
    path: Path


class DiskTrouble(Failed):
    """The operating system refused a change; `number` is its errno."""

    def __init__(self, operation: Operation, error: OSError) -> None:
        self.number = error.errno or 0
        self.operation = operation
        reference, message, hint = _explain(self.number)
        super().__init__(
            reference,
            message,
            context=f"{operation.kind}: {operation.path}: {error.strerror or error}",
            hint=hint,
            fault=Fault.HOST,
        )

    @property
    def full(self) -> bool:
        """Whether room is what is missing."""
        return self.number in _FULL


class Filesystem:
    """Mutating primitives, each announced to `before`; an exception from it stops the change."""

    def __init__(self, before: Callable[[Operation], None] | None = None) -> None:
        self._before = before

    def make_directory(self, path: Path, mode: int = CLOSED) -> None:
        """Make one directory and make its name durable; nothing if it is there."""
        self.make_directories([path], mode)

    def make_directories(self, paths: Iterable[Path], mode: int = CLOSED) -> None:
        """The same for many, none below another: all names are made durable at the end."""
        missing = [path for path in paths if not path.is_dir()]
        for path in missing:
            with self._doing(Kind.MAKE_DIRECTORY, path):
                path.mkdir(mode=CLOSED, exist_ok=True)
                if mode != CLOSED:
                    path.chmod(mode)  # Whatever the umask is.
        for parent in dict.fromkeys(path.parent for path in missing):
            self.sync_directory(parent)

    @contextmanager
    def open(self, path: Path, *, fresh: bool) -> Iterator[OpenFile]:
        """Open for reading and writing at mode 0600, created if missing, emptied if `fresh`."""
        flags = os.O_RDWR | os.O_CREAT | _NO_FOLLOW | (os.O_TRUNC if fresh else 0)
        with self._doing(Kind.OPEN, path):
            descriptor = os.open(path, flags, 0o600)
        try:
            yield OpenFile(descriptor, path)
        finally:
            os.close(descriptor)

    def write(self, file: OpenFile, data: bytes | memoryview) -> None:
        """Write all of `data` at the file's position."""
        view = memoryview(data)
        with self._doing(Kind.WRITE, file.path):
            while view:
                view = view[os.write(file.descriptor, view) :]

    def truncate(self, file: OpenFile, length: int) -> None:
        """Cut the file to `length` bytes and go to its end."""
        with self._doing(Kind.TRUNCATE, file.path):
            os.ftruncate(file.descriptor, length)
            os.lseek(file.descriptor, length, os.SEEK_SET)

    def allocate(self, file: OpenFile, size: int, *, keep_size: bool) -> None:
        """Claim room for `size` bytes now, so that a full disk is met before the first write.

        A file system that cannot promise room is left to fail at the write.
        """
        with self._doing(Kind.ALLOCATE, file.path):
            _allocate(file.descriptor, size, _KEEP_SIZE if keep_size else 0)

    def set_mode(self, file: OpenFile, mode: int) -> None:
        """Set the mode whatever the umask is, so that a tree is the same on every box."""
        with self._doing(Kind.SET_MODE, file.path):
            os.fchmod(file.descriptor, mode)

    def give(self, file: OpenFile, user: int) -> None:
        """Let the file or folder belong to a user and the group of the same number."""
        with self._doing(Kind.SET_OWNER, file.path):
            os.fchown(file.descriptor, user, user)

    def give_tree(self, folder: Path, user: int) -> None:
        """The same for all below a folder, then for itself; links are given, never followed."""
        with self._doing(Kind.SET_OWNER, folder):
            for _, folders, files, descriptor in os.fwalk(folder, topdown=False):
                for name in (*folders, *files):
                    os.chown(name, user, user, dir_fd=descriptor, follow_symlinks=False)
            os.chown(folder, user, user, follow_symlinks=False)

    def unseal(self, path: Path) -> None:
        """Let the owner write again to a file that was sealed when a command was killed.

        Nothing if it is missing or writable. Root could write to it all the same; nobody else can.
        """
        try:
            sealed = not path.lstat().st_mode & 0o200
        except FileNotFoundError:
            return
        if sealed:
            with self._doing(Kind.SET_MODE, path):
                path.chmod(0o600)

    def sync_file(self, file: OpenFile) -> None:
        """Make data and metadata durable."""
        with self._doing(Kind.SYNC_FILE, file.path):
            os.fsync(file.descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make the names in a directory durable."""
        with self._doing(Kind.SYNC_DIRECTORY, path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextmanager
    def watch(self, folder: Path) -> Iterator[OpenFile]:
        """An open folder for `sync_filesystem`, which then tells what failed from here on."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _NO_FOLLOW)
        try:
            yield OpenFile(descriptor, folder)
        finally:
            os.close(descriptor)

    def sync_filesystem(self, folder: OpenFile) -> None:
        """Make everything durable that anybody has written to the file system of the folder.

        For hundreds of small files at once: an fsync each makes the disk empty its cache for each.
        """
        with self._doing(Kind.SYNC_FILESYSTEM, folder.path):
            if _LIBC.syncfs(folder.descriptor) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def rename(self, source: Path, target: Path) -> None:
        """Give `source` the name `target`, replacing what had it."""
        with self._doing(Kind.RENAME, target, source):
            source.rename(target)

    def link(self, source: Path, target: Path) -> None:
        """Give the file a second name."""
        with self._doing(Kind.LINK, target):
            os.link(source, target, follow_symlinks=False)

    def symlink(self, text: str, path: Path) -> None:
        """Make a symbolic link that holds `text`."""
        with self._doing(Kind.SYMLINK, path):
            path.symlink_to(text)

    def unlink(self, path: Path) -> None:
        """Remove a name; nothing if it is gone."""
        if os.path.lexists(path):
            with self._doing(Kind.UNLINK, path):
                path.unlink(missing_ok=True)

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all below it, entry by entry; nothing if it is gone."""
        if not path.is_dir() or path.is_symlink():
            self.unlink(path)
            return
        for entry in sorted(path.iterdir()):
            self.remove_tree(entry)
        with self._doing(Kind.REMOVE_DIRECTORY, path):
            path.rmdir()

    def write_new(self, path: Path, data: bytes, mode: int = 0o600) -> None:
        """A whole file with durable content; its name is durable after `sync_directory`."""
        with self.open(path, fresh=True) as file:
            self.write(file, data)
            self.set_mode(file, mode)
            self.sync_file(file)

    def publish(self, path: Path, data: bytes) -> None:
        """Replace `path` as a whole: temporary file, fsync, rename, fsync of the directory.

        A crash leaves the old or the new content, never a mixture.
        """
        temporary = path.with_name(path.name + ".new")
        self.write_new(temporary, data)
        self.rename(temporary, path)
        self.sync_directory(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename between two directories and make both names durable."""
        self.rename(source, target)
        self.sync_directory(target.parent)
        self.sync_directory(source.parent)

    @contextmanager
    def _doing(self, kind: Kind, path: Path, source: Path | None = None) -> Iterator[None]:
        operation = Operation(kind, path, source)
        try:
            if self._before is not None:
                self._before(operation)
            yield
        except OSError as error:
            raise DiskTrouble(operation, error) from error


def _allocate(descriptor: int, size: int, mode: int) -> None:
    fallocate = _LIBC.fallocate64
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if size and fallocate(descriptor, mode, 0, size) != 0:
        number = ctypes.get_errno()
        if number in _FULL:
            raise OSError(number, os.strerror(number))


def _explain(number: int) -> tuple[str, str, str]:
    """(reference, message, hint) for an errno."""
    if number in _FULL:
        return (
            "disk-full",
            "the disk of the box is full",
            "free some room, or remove old generations: ./aibox gc",
        )
    if number == errno.EROFS:
        return (
            "disk-read-only",
            "the disk of the box is mounted read-only",
            "find out why (dmesg), mount it writable, then: ./aibox recover",
        )
    if number == errno.EIO:
        return (
            "disk-error",
            "the disk of the box failed; nothing is retried on it, because it cannot be believed",
            "check the disk (dmesg, smartctl), then: ./aibox recover",
        )
    return (
        "disk-refused",
        "the operating system refused a change to the box",
        "see who owns the folder of the box and what is in the way, then: ./aibox recover",
    )
