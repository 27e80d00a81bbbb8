"""The folder beside a bundle in which it is written, and how it becomes the bundle.

::

    <bundle>.partial/lock      held by the build that writes
                     parts/    blobs that have no name yet
                     bundle/   the bundle, whole
                     split/    its volumes, into which the blobs are moved at the end
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aibox.bundle.layout import BLOBS, MANIFEST, BundleLayout
from aibox.bundle.storing import DIRECTORY_MODE, FILE_MODE, not_written, settle
from aibox.errors import BadUsage, Failed, Fault

_LIBC = ctypes.CDLL(None, use_errno=True)


class Partial:
    """The work folder of the bundle `target`; touches nothing before `hold`."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.root = target.parent / f"{target.name}.partial"

    @property
    def parts(self) -> Path:
        return self.root / "parts"

    @property
    def whole(self) -> BundleLayout:
        return BundleLayout(self.root / "bundle")

    @property
    def split(self) -> Path:
        return self.root / "split"

    def hold(self, closing: ExitStack) -> None:
        """Have it to ourselves until `closing` closes; blobs of a killed build lie in `whole`.

        Raises:
            BadUsage: `bundle-exists`, `bundle-in-bundle`, `partial-not-ours`.
            Failed: `bundle-busy`, `bundle-not-written`.
        """
        with self.written():
            _refuse_existing(self.target)
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock(closing)
            _refuse_existing(self.target)
            self._gather()

    def publish(self, made: Path, modified: int) -> None:
        """Let `made` (whole or split) become the target: all durable first, then its name."""
        _seal(made, modified)
        made.rename(self.target)
        _sync_directory(self.target.parent)
        shutil.rmtree(self.root)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Every OSError is a disk that did not take something."""
        try:
            yield
        except OSError as error:
            raise not_written(Path(error.filename or self.root), error) from error

    def _lock(self, closing: ExitStack) -> None:
        lock = self.root / "lock"
        if not lock.exists() and any(self.root.iterdir()):
            raise _not_ours(self.root)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(lock, flags, FILE_MODE)
        closing.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(self.root) from None

    def _gather(self) -> None:
        """Bring moved blobs back, and remove all else: it is written anew."""
        blobs = self.whole.blobs
        blobs.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.split.glob(f"*/{BLOBS}/*")):
            path.replace(blobs / path.name)
        kept = blobs.parent
        others = [path for path in self.whole.root.iterdir() if path != kept]
        for path in (self.split, self.parts, *others):
            _remove(path)
        self.parts.mkdir()


def require_free(target: Path) -> None:
    """Raise what writing a bundle there would, before hours of work; leaves no work folder that
    was not there."""
    work = Partial(target)
    kept = os.path.lexists(work.root)
    with ExitStack() as closing:
        work.hold(closing)
        if not kept:
            shutil.rmtree(work.root)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _seal(root: Path, modified: int) -> None:
    """Fix the directories, whose times every new file moved, and make all of it durable."""
    for folder, _, _ in os.walk(root, topdown=False):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            settle(descriptor, DIRECTORY_MODE, modified)
        finally:
            os.close(descriptor)
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _LIBC.syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(root))
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _refuse_existing(folder: Path) -> None:
    for parent in folder.parents:
        if (parent / MANIFEST).exists():
            raise BadUsage(
                "bundle-in-bundle",
                f"{parent} is a bundle itself, and a folder in it would make it worthless",
                hint="give a folder beside it: ./aibox bundle build --output DIR",
                fault=Fault.YOU,
            )
    if os.path.lexists(folder):
        raise BadUsage(
            "bundle-exists",
            f"{folder} is there already, and a bundle is never changed",
            hint="remove it or give another folder: ./aibox bundle build --output DIR",
            fault=Fault.YOU,
        )


def _not_ours(work: Path) -> BadUsage:
    return BadUsage(
        "partial-not-ours",
        f"{work} is there already and was not made by a build",
        hint="move it away or give another folder: ./aibox bundle build --output DIR",
        fault=Fault.YOU,
    )


def _busy(work: Path) -> Failed:
    return Failed(
        "bundle-busy",
        "another build writes this bundle",
        context=str(work),
        hint="wait for it, then give the same command again: ./aibox bundle build",
        fault=Fault.YOU,
    )
