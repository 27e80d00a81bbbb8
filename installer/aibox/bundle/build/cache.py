"""The download cache: bytes by digest, shared by every bundle that is built on this machine.

::

    <folder>/sha256/<hex>     whole files; hashed once per process before they are believed
    <folder>/parts/<hex>      what has come so far; the next process goes on from there

Several processes may use one cache. Whoever writes a part holds its lock (flock), and only a
whole file of the right digest gets its name, so a killed writer leaves a part and nothing else.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from aibox import digest
from aibox.errors import BadUsage, Failed, Fault, VerificationRefused

WAIT_S = 0.2
"""How often a part that another process writes is asked for."""

_NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_Stamp = tuple[int, int, int, int]


def default_folder() -> Path:
    """$AIBOX_CACHE, or `aibox` below the user's cache folder."""
    if own := os.environ.get("AIBOX_CACHE"):
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # A relative value is to be ignored (XDG base directory specification).
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "aibox"


def ignore(_count: int) -> None:
    """For callers that show no progress."""


def _at_once() -> None:
    """For callers that have nothing to say while they wait."""


class BlobCache:
    """Files by SHA-256 below `folder`; its methods may be called from several threads.

    Errors of the disk are `Failed` (`cache-full`, `cache-refused`), each with the path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._blobs, self._parts = folder / "sha256", folder / "parts"
        self._proven: dict[str, _Stamp] = {}
        self._turn = threading.Lock()
        with writing(folder):
            for path in (folder, self._blobs, self._parts):
                path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, sha256: str, size: int, on_bytes: Callable[[int], None] = ignore) -> Path | None:
        """The file of this digest and size (bytes), or None.

        It is hashed before it is believed, once per process; `on_bytes` hears of that. A file
        whose bytes are not its name's is removed.
        """
        path = self._blobs / _checked(sha256)
        try:
            with _opened(path) as stream:
                stamp = _stamp(os.fstat(stream.fileno()))
                if not self._is_proven(sha256, stamp):
                    if digest.of_stream(stream, on_bytes)[0] != sha256:
                        path.unlink(missing_ok=True)
                        return None
                    self._note(sha256, stamp)
                elif stamp[2] == size:
                    on_bytes(size)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise refused(path, error) from error
        return path if stamp[2] == size else None

    def has(self, sha256: str) -> bool:
        """Whether there is a file of this name: a look, not a proof."""
        return (self._blobs / _checked(sha256)).exists()

    def part(self, sha256: str) -> Path:
        """Where the bytes of a digest lie until all have come; write to it within `claim`."""
        return self._parts / _checked(sha256)

    @contextmanager
    def claim(self, sha256: str, on_wait: Callable[[], None] = _at_once) -> Iterator[int]:
        """The part of a digest, open for reading and writing, for this caller alone.

        While another thread or process has it, `on_wait` is called now and then; afterwards the
        digest may be in the cache. A part left empty is removed.
        """
        part = self.part(sha256)
        descriptor = self._locked(part, on_wait)
        try:
            yield descriptor
        finally:
            try:
                if not os.fstat(descriptor).st_size and _is_same(descriptor, part):
                    part.unlink()
            finally:
                os.close(descriptor)

    def publish(self, part: Path, sha256: str, *, hashed: bool = False) -> Path:
        """Give a whole part its name: bytes hashed, made durable, renamed, read-only from now on.

        `hashed`: the caller has hashed the bytes while it wrote them. The part must lie in the
        cache's file system. Raises `VerificationRefused` (`cache-refused-bytes`), the part removed.
        """
        target = self._blobs / _checked(sha256)
        with writing(part), _opened(part) as stream:
            if not hashed:
                found, _ = digest.of_stream(stream)
                if found != sha256:
                    part.unlink()
                    raise _wrong_bytes(part, sha256, found)
            os.fchmod(stream.fileno(), 0o444)
            os.fsync(stream.fileno())
            part.rename(target)
            _sync_folder(self._blobs)
            self._note(sha256, _stamp(os.fstat(stream.fileno())))
        return target

    def adopt(
        self, source: Path, sha256: str, size: int, on_bytes: Callable[[int], None] = ignore
    ) -> Path:
        """Copy in a file that exists, hashing while copying; the source may change meanwhile.

        Raises `VerificationRefused` (`cache-refused-bytes`) when it is other bytes than the
        digest's or not `size` bytes long.
        """
        if (found := self.find(sha256, size)) is not None:
            on_bytes(size)
            return found
        with self.claim(sha256) as descriptor, writing(self.part(sha256)):
            if (found := self.find(sha256, size)) is not None:
                on_bytes(size)
                return found
            with source.open("rb", buffering=0) as stream:
                actual, length = _copy(stream, descriptor, size, on_bytes)
            if (actual, length) != (sha256, size):
                self.part(sha256).unlink()
                raise _wrong_bytes(source, sha256, f"{actual} ({length} of {size} bytes)")
            return self.publish(self.part(sha256), sha256, hashed=True)

    def put(self, data: bytes) -> str:
        """Take in bytes in memory; returns their digest."""
        sha256 = digest.of_bytes(data)
        if self.find(sha256, len(data)) is None:
            with self.scratch() as (path, descriptor):
                write_all(descriptor, data)
                self.publish(path, sha256, hashed=True)
        return sha256

    @contextmanager
    def scratch(self) -> Iterator[tuple[Path, int]]:
        """A new part of no digest yet, open for writing; removed at the end unless published."""
        with writing(self._parts):
            descriptor, name = tempfile.mkstemp(prefix="unknown-", dir=self._parts)
        try:
            with writing(Path(name)):
                yield Path(name), descriptor
        finally:
            os.close(descriptor)
            Path(name).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Bytes that the cache's file system has room for."""
        room = os.statvfs(self.folder)
        return room.f_bavail * room.f_frsize

    def _locked(self, part: Path, on_wait: Callable[[], None]) -> int:
        """The part's descriptor with the lock; never that of a part renamed while we waited."""
        while True:
            with writing(part):
                descriptor = os.open(part, os.O_RDWR | os.O_CREAT | _NO_FOLLOW, 0o600)
            try:
                while not _lock(descriptor):
                    on_wait()
                    time.sleep(WAIT_S)
                if _is_same(descriptor, part):
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _is_proven(self, sha256: str, stamp: _Stamp) -> bool:
        with self._turn:
            return self._proven.get(sha256) == stamp

    def _note(self, sha256: str, stamp: _Stamp) -> None:
        with self._turn:
            self._proven[sha256] = stamp


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte at the descriptor's position."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of the operating system while `path` is written, as errors for people."""
    try:
        yield
    except OSError as error:
        raise refused(path, error) from error


def refused(path: Path, error: OSError) -> Failed:
    """The disk does not take it; says which path, and that nothing is lost."""
    full = error.errno in _FULL
    return Failed(
        "cache-full" if full else "cache-refused",
        "the disk of the download cache is full"
        if full
        else "the operating system refused a change to the download cache",
        context=f"{error.filename or path}: {error.strerror or error}",
        hint=("free some room" if full else "see who owns the folder")
        + ", or name another folder in AIBOX_CACHE, and give the same command again;"
        " what came so far is kept: ./aibox bundle build",
        fault=Fault.HOST,
    )


def _checked(sha256: str) -> str:
    if not digest.is_digest(sha256):
        raise BadUsage(
            "not-a-digest",
            "a file is named by something that is not a SHA-256 digest",
            context=f"name: {sha256[:80]!r}",
            hint="correct the lock file, then: ./aibox lock --check",
            fault=Fault.YOU,
        )
    return sha256


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _NO_FOLLOW)
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        yield stream


def _copy(
    stream: BinaryIO, descriptor: int, size: int, on_bytes: Callable[[int], None]
) -> tuple[str, int]:
    """At most one chunk more than `size` bytes, from the start of the part."""
    os.ftruncate(descriptor, 0)
    state, length = hashlib.sha256(), 0
    while length <= size and (chunk := stream.read(digest.CHUNK_BYTES)):
        write_all(descriptor, chunk)
        state.update(chunk)
        length += len(chunk)
        on_bytes(len(chunk))
    return state.hexdigest(), length


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _stamp(found: os.stat_result) -> _Stamp:
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wrong_bytes(source: Path, sha256: str, found: str) -> VerificationRefused:
    return VerificationRefused(
        "cache-refused-bytes",
        "a file is not what its digest says",
        context=f"{source}: expected {sha256}, found {found}",
        hint="look where the file comes from, and correct the file or its pin, then: "
        "./aibox lock --check",
        fault=Fault.UPSTREAM,
    )
