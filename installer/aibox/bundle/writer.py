"""Writing a bundle, whole or divided over volumes, so that it appears at once or not at all.

Everything is written into `<folder>.partial` beside the target and renamed at the end. A build
that was killed leaves that folder behind, and the next one to the same target keeps every blob in
it whose bytes are right. Modes and times are fixed: two builds of the same content are the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO, TypeVar

from aibox import digest
from aibox.bundle import label as labels
from aibox.bundle import volumes
from aibox.bundle.finding import unreadable
from aibox.bundle.layout import BLOBS, CHUNK_BYTES, MANIFEST, VOLUME, BundleLayout
from aibox.bundle.manifest import Carried
from aibox.bundle.partial import Partial
from aibox.bundle.storing import (
    FILE_MODE,
    PROGRAM_MODE,
    BlobWriter,
    Stopped,
    differs,
    ignore,
    settle,
    write_all,
)
from aibox.bundle.volumes import ANY_ORDER, Order
from aibox.errors import Failed, Fault
from aibox.pins import Blob

T = TypeVar("T")
R = TypeVar("R")

_FIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,99}){0,7}")
_RESERVED = frozenset(
    {"bundle.json", "bundle.json.sig", "revoked.json", "volume.json", "root", "blobs"}
)

WORKERS = 4


@dataclass(frozen=True, slots=True)
class Source:
    """A file that holds the bytes of an object; it may be a link."""

    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class _OpenFile:
    data: bytes
    mode: int


class BundleWriter:
    """One bundle being written to `folder`; a context manager.

    Add everything, then `finish`. Leaving without it keeps what was written for the next try.
    """

    def __init__(
        self,
        folder: Path,
        *,
        modified: int = 0,
        on_bytes: Callable[[int], None] = ignore,
        workers: int = WORKERS,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Begin, or go on with what a killed build left.

        Args:
            folder: where the bundle appears; it must not be there yet.
            modified: the time of every file, seconds since the epoch.
            on_bytes: gets byte counts of objects that sum up to their sizes (more when a build
                is continued), from one thread at a time.
            workers: objects that are copied at the same time.

        Raises:
            BadUsage: `bundle-exists`, `bundle-in-bundle`, `partial-not-ours`.
            Failed: `bundle-busy`, `bundle-not-written`.
        """
        self.folder = folder
        self._partial = Partial(folder)
        self._modified, self._workers, self._chunk_bytes = modified, workers, chunk_bytes
        self._open_files: dict[str, _OpenFile] = {}
        self._used: dict[str, Blob] = {}
        self._finished = False
        with ExitStack() as closing:
            self._partial.hold(closing)
            self._blobs = BlobWriter(
                self._partial.whole, self._partial.parts, modified=modified, on_bytes=on_bytes
            )
            self._closing = closing.pop_all()

    def __enter__(self) -> BundleWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another build have the folder; one without a blob in it is not left behind."""
        if not (self._finished or self._used or self._blobs.resumed):
            shutil.rmtree(self._partial.root, ignore_errors=True)
        self._closing.close()

    def add_objects(self, sources: Sequence[Source]) -> tuple[Carried, ...]:
        """`add_object` of each, several at a time; the first failure ends all, and the writer."""
        once = {source.sha256: source for source in sources}
        carried = dict(zip(once, self._all(self._add, list(once.values())), strict=True))
        return tuple(carried[source.sha256] for source in sources)

    def add_object(self, source: Path, sha256: str, size: int) -> Carried:
        """Take in the file `source`, whose bytes must be those of `sha256`, cut into chunks.

        Raises:
            VerificationRefused: `source-differs`.
            Failed: `source-unreadable`, `bundle-not-written`.
        """
        return self._add(Source(source, sha256, size))

    def add_blobs(self, blobs: Sequence[Blob], open_blob: Callable[[str], BinaryIO]) -> None:
        """Take in blobs of another bundle, several at a time; raises as `add_object` does."""

        def take(blob: Blob) -> None:
            if not self._known(blob):
                with open_blob(blob.sha256) as stream:
                    self._single(stream, blob, f"blob {blob.sha256}")

        self._all(take, list({blob.sha256: blob for blob in blobs}.values()))

    def add_bytes(self, data: bytes) -> Blob:
        """Write a blob from memory (the index, a list of parts, a manifest of a release)."""
        return self._use(self._blobs.put(data))

    def add_open_file(self, path: str, data: bytes, *, executable: bool = False) -> Blob:
        """Have a file of the first steps in the bundle under its own name; written by `finish`."""
        _refuse_unfit(path, self._open_files)
        self._open_files[path] = _OpenFile(data, PROGRAM_MODE if executable else FILE_MODE)
        return Blob(sha256=digest.of_bytes(data), size=len(data))

    def finish(
        self,
        head: Mapping[str, bytes],
        *,
        shared: Collection[str] = (),
        volume_bytes: int | None = None,
        order: Order = ANY_ORDER,
    ) -> tuple[Path, ...]:
        """Write the head, its manifest last, make all durable, and let the bundle appear.

        Args:
            head: path in the bundle -> bytes: manifest, signature, roots, revocations.
            shared: digests of the blobs that every volume holds: those the manifest names.
            volume_bytes: capacity of a volume; None for one whole bundle.
            order: which blobs the first volume holds, and which follow one another.

        Returns:
            The folders that stand alone: the bundle, or its volumes in order.

        Raises:
            BadUsage: `volume-too-small`, `volumes-too-many`.
            Failed: `bundle-not-written`.
        """
        with self._partial.written():
            self._sweep()
            if volume_bytes is None:
                made, names = self._partial.whole.root, ["."]
                self._write_head(made, head)
            else:
                made = self._partial.split
                names = self._divide(made, head, set(shared), volume_bytes, order)
            self._partial.publish(made, self._modified)
            self._finished = True
        self.close()
        return tuple(self.folder / name for name in names)

    def _all(self, take: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """`take` of each item by some threads; the failure that came first in their order."""
        with ThreadPoolExecutor(self._workers) as threads:
            futures = [threads.submit(take, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                if not all(future.done() for future in futures):
                    self._blobs.stop()
                    threads.shutdown(wait=True, cancel_futures=True)
        failures = [error for future in futures if (error := _failure(future)) is not None]
        if failures:
            raise failures[0]
        return [future.result() for future in futures]

    def _add(self, source: Source) -> Carried:
        blob = Blob(sha256=source.sha256, size=source.size)
        single = source.size <= self._chunk_bytes
        if single and self._known(blob):
            return Carried(sha256=source.sha256, size=source.size, chunks=(blob,))
        with _opened(source) as stream:
            if single:
                chunks = [self._single(stream, blob, str(source.path))]
            else:
                chunks = self._cut(stream, source)
        return Carried(sha256=source.sha256, size=source.size, chunks=tuple(chunks))

    def _known(self, blob: Blob) -> bool:
        if not self._blobs.have(blob):
            return False
        self._blobs.told(blob.size)
        self._use(blob)
        return True

    def _single(self, stream: BinaryIO, blob: Blob, where: str) -> Blob:
        found = self._blobs.store(stream, blob.size, where, None)
        if found.sha256 != blob.sha256:
            raise differs(where, f"bytes hash to {found.sha256}, not {blob.sha256}")
        return self._use(blob)

    def _cut(self, stream: BinaryIO, source: Source) -> list[Blob]:
        whole = hashlib.sha256()
        chunks = [
            self._chunk(stream, start, min(self._chunk_bytes, source.size - start), source, whole)
            for start in range(0, source.size, self._chunk_bytes)
        ]
        if whole.hexdigest() != source.sha256:
            raise differs(str(source.path), f"bytes hash to {whole.hexdigest()}")
        return [self._use(chunk) for chunk in chunks]

    def _chunk(
        self, stream: BinaryIO, start: int, length: int, source: Source, whole: hashlib._Hash
    ) -> Blob:
        """Write a chunk, unless a killed build did: then reading twice is cheaper than writing."""
        where = str(source.path)
        if not self._blobs.resumed:
            return self._blobs.store(stream, length, where, whole)
        chunk = self._blobs.digest(stream, length, where, whole)
        if not self._blobs.have(chunk):
            stream.seek(start)
            if self._blobs.store(stream, length, where, None) != chunk:
                raise differs(where, "it changed while it was read")
        return chunk

    def _use(self, blob: Blob) -> Blob:
        self._used[blob.sha256] = blob
        return blob

    def _sweep(self) -> None:
        """Remove what a killed build of other content, or a refused source, left behind."""
        for path in self._blobs.layout.blobs.iterdir():
            if path.name not in self._used:
                path.unlink()

    def _divide(
        self,
        root: Path,
        head: Mapping[str, bytes],
        shared: set[str],
        volume_bytes: int,
        order: Order,
    ) -> list[str]:
        """Move the blobs into folders of volumes below `root`; their names."""
        common = [self._used[name] for name in sorted(shared)]
        apart = [blob for name, blob in self._used.items() if name not in shared]
        division = self.plan(head, common, apart, volume_bytes, order)
        names = []
        for label, share in zip(
            labels.labels(digest.of_bytes(head[MANIFEST]), division), division, strict=True
        ):
            names.append(labels.folder_name(label))
            volume = BundleLayout(root / names[-1])
            volume.blobs.mkdir(parents=True)
            for blob in share:
                self._blobs.layout.blob(blob.sha256).rename(volume.blob(blob.sha256))
            for blob in common:
                self._blobs.copy(blob, volume)
            self._write_head(volume.root, {**head, VOLUME: labels.dump(label)})
        return names

    def plan(
        self,
        head: Mapping[str, bytes],
        common: Sequence[Blob],
        apart: Sequence[Blob],
        volume_bytes: int,
        order: Order = ANY_ORDER,
    ) -> tuple[tuple[Blob, ...], ...]:
        """How `finish` would divide blobs, once every open file was added; see `plan_volumes`.

        `common` lie on every volume, `apart` on one.
        """
        cost = self._head_cost(head, common, apart, volume_bytes)
        return volumes.plan_volumes(apart, volume_bytes, cost, len(common), order)

    def _head_cost(
        self,
        head: Mapping[str, bytes],
        common: Sequence[Blob],
        apart: Sequence[Blob],
        volume_bytes: int,
    ) -> int:
        names = (*head, *self._open_files, f"{BLOBS}/x")
        directories = {parent for name in names for parent in PurePosixPath(name).parents}
        sizes = (
            *map(len, head.values()),
            *(len(file.data) for file in self._open_files.values()),
            *(blob.size for blob in common),
        )
        return volumes.head_cost(sizes, len(directories), apart, volume_bytes)

    def _write_head(self, root: Path, head: Mapping[str, bytes]) -> None:
        """The open files, then the head; the manifest last: without it nothing is a bundle."""
        files = {name: _OpenFile(data, FILE_MODE) for name, data in head.items()}
        manifest = files.pop(MANIFEST)
        for name, file in {**self._open_files, **files, MANIFEST: manifest}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb", buffering=0) as target:
                write_all(target.fileno(), file.data)
                settle(target.fileno(), file.mode, self._modified)


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    try:
        stream = open(source.path, "rb", buffering=0, opener=_not_waiting)  # noqa: SIM115
    except OSError as error:
        raise unreadable(str(source.path), error) from error
    with stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size != source.size:
            raise differs(str(source.path), f"it has {found.st_size} bytes, not {source.size}")
        yield stream


def _not_waiting(path: str, flags: int) -> int:
    """Open for `open`; a pipe is refused afterwards, not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _failure(future: Future[R]) -> BaseException | None:
    if future.cancelled() or isinstance(future.exception(), Stopped):
        return None
    return future.exception()


def _refuse_unfit(path: str, others: Collection[str]) -> None:
    """Names that FAT keeps as they are, that no other file has there, outside our own folders."""
    taken = {other.casefold() for other in others}
    reserved = path.casefold().split("/")[0] in _RESERVED
    if reserved or path.casefold() in taken or not _FIT.fullmatch(path):
        raise Failed(
            "bundle-name-unfit",
            f"a file of the program cannot be in a bundle under the name {path[:80]!r}",
            hint="report it with: ./aibox doctor",
            fault=Fault.US,
        )
