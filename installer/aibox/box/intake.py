"""Taking in one blob: copy, hash, make durable, read back; in bounded memory.

A small blob goes through these one after the other. A large one goes through them side by side,
in threads: while one chunk is read, those before it are hashed and written past the page cache,
and a segment that was made durable is read from the disk and hashed again. So the medium, the
disk and two processors are busy at the same time.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from aibox.box.direct import BLOCK_BYTES, DirectFile, DiskReader, aligned
from aibox.box.filesystem import Filesystem, OpenFile
from aibox.errors import AiboxError, Failed, Fault, VerificationRefused

CHUNK_BYTES = 4 << 20
SEGMENT_BYTES = 64 << 20
"""How much is written before it is made durable and read back."""

LARGE_BYTES = 8 << 20
"""From this size on, threads of its own pay off for one blob."""

DIRECT_BYTES = 256 << 10
"""From this size on, passing the page cache by saves more than it costs."""

SEALED = 0o444

_CHUNKS_AHEAD = 5
_CHUNKS_BACK = 3
"""Chunks in use on the way in and on the way back: the memory that one large import takes."""


def ignore(_count: int) -> None:
    """For callers that show no progress."""


class Tally:
    """Counts towards a known size and tells every byte once, whatever is read twice."""

    def __init__(self, size: int, on_bytes: Callable[[int], None]) -> None:
        self._size, self._on_bytes = size, on_bytes
        self._counted = self._told = 0

    def add(self, count: int) -> None:
        """Note `count` more bytes; tells 0 while nothing is new."""
        self._counted += count
        news = max(0, min(self._counted, self._size) - self._told)
        self._told += news
        self._on_bytes(news)

    def restart(self) -> None:
        """All of it is read again."""
        self._counted = 0


class _Lane(Protocol):
    """Where chunks go: into memory that the lane lends, then on."""

    def lend(self, length: int) -> memoryview: ...
    def take(self, chunk: memoryview) -> None: ...

    def arrived(self) -> str:
        """Everything that came is written; its digest."""

    def seal(self) -> None:
        """No more comes."""

    def prove(self) -> str:
        """Everything is durable; the digest of what the disk gives back."""


@dataclass(frozen=True)
class Intake:
    """One import: where the part lies and what it must turn out to be."""

    filesystem: Filesystem
    part: Path
    digest: str
    size: int
    on_bytes: Callable[[int], None]

    def take(self, stream: BinaryIO) -> None:
        """Fill the part from `stream`; on return its bytes are on the disk and are the digest's.

        The part stays when the source fails or ends early, and goes when its bytes are wrong.
        """
        self.filesystem.unseal(self.part)
        with ExitStack() as closing:
            self._judge(self._fill(stream, closing).prove())

    def fill(self, stream: BinaryIO) -> None:
        """The first half of `take`, for a part that is not there yet: nothing is durable."""
        with ExitStack() as closing:
            self._fill(stream, closing)

    def prove(self) -> None:
        """The second half, when the file system was made durable as a whole."""
        with _opened(self.part) as descriptor:
            self._judge(_from_disk(descriptor, self.size))

    def _fill(self, stream: BinaryIO, closing: ExitStack) -> _Lane:
        file = closing.enter_context(self.filesystem.open(self.part, fresh=False))
        if self.size >= DIRECT_BYTES:  # A smaller one is written, or refused, at one stroke.
            self.filesystem.allocate(file, self.size, keep_size=True)
        state, held = self._resume(file, stream)
        lane = self._lane(file, state, held, closing)
        held = self._copy(stream, lane, held)
        arrived = lane.arrived()
        if held < self.size:
            raise _refused("blob-too-short", self.digest, f"{held} of {self.size} bytes came")
        if arrived != self.digest:
            self._refuse(f"bytes hash to {arrived}")
        lane.seal()
        return lane

    def _judge(self, proof: str) -> None:
        if proof != self.digest:
            self._refuse("the disk gives back other bytes than were written")

    def _lane(self, file: OpenFile, state: hashlib._Hash, held: int, closing: ExitStack) -> _Lane:
        if self.size < LARGE_BYTES:
            direct = self.size >= DIRECT_BYTES
            return _Plain(self.filesystem, file, state, held, direct=direct)
        return _Overlapped(self.filesystem, file, state, held, closing)

    def _resume(self, file: OpenFile, stream: BinaryIO) -> tuple[hashlib._Hash, int]:
        """Hash what the part holds and bring the stream and the file to the same place."""
        state, start = hashlib.sha256(), 0
        held = os.fstat(file.descriptor).st_size
        if held > self.size:
            self.filesystem.truncate(file, 0)
            return state, 0
        if held < self.size and self.size >= DIRECT_BYTES:
            held -= held % BLOCK_BYTES  # Where the next direct write can begin.
        while start < held:
            count = os.preadv(file.descriptor, [own_memory()[: held - start]], start)
            state.update(own_memory()[:count])
            self.on_bytes(count)
            start += count
        if held:
            os.lseek(file.descriptor, held, os.SEEK_SET)
            _skip(stream, held)
        return state, held

    def _copy(self, stream: BinaryIO, lane: _Lane, held: int) -> int:
        """Bytes that the part holds when the stream has ended."""
        while True:
            left = self.size - held
            chunk = lane.lend(min(CHUNK_BYTES, left)) if left else memoryview(bytearray(1))
            count, error = _read(stream, chunk)
            if count > left:
                self._refuse(f"more than {self.size} bytes came")
            if count:
                lane.take(chunk[:count])
                self.on_bytes(count)
            if error is not None:
                lane.arrived()  # What came is kept.
                raise error
            held += count
            if count < len(chunk):
                return held

    def _refuse(self, facts: str) -> None:
        self.filesystem.unlink(self.part)
        raise _refused("blob-refused", self.digest, facts)


class _Plain:
    """One step after the other."""

    def __init__(
        self,
        filesystem: Filesystem,
        file: OpenFile,
        state: hashlib._Hash,
        held: int,
        *,
        direct: bool,
    ) -> None:
        self._filesystem, self._file, self._state = filesystem, file, state
        self._target = DirectFile(filesystem, file, direct=direct)
        self._length = held

    def lend(self, length: int) -> memoryview:
        return own_memory()[:length]

    def take(self, chunk: memoryview) -> None:
        self._target.write(chunk)
        self._state.update(chunk)
        self._length += len(chunk)

    def arrived(self) -> str:
        return self._state.hexdigest()

    def seal(self) -> None:
        self._filesystem.set_mode(self._file, SEALED)

    def prove(self) -> str:
        self._filesystem.sync_file(self._file)
        return _from_disk(self._file.descriptor, self._length)


class _Overlapped:
    """Hashing, writing, reading back and hashing again: a thread each, all in order."""

    def __init__(
        self,
        filesystem: Filesystem,
        file: OpenFile,
        state: hashlib._Hash,
        held: int,
        closing: ExitStack,
    ) -> None:
        self._filesystem, self._file = filesystem, file
        self._state, self._proof = state, hashlib.sha256()
        self._target = DirectFile(filesystem, file, direct=True)
        self._reader = DiskReader(closing.enter_context(_opened(file.path)))
        self._ahead, self._back = _Ring(_CHUNKS_AHEAD), _Ring(_CHUNKS_BACK)
        self._written, self._proven = held, 0
        self._proofs = deque[Future[None]]()
        self._broken = False  # An fsync after one that failed would prove nothing.
        self._prover, self._rehasher, self._hasher, self._writer = (
            _thread(closing) for _ in range(4)
        )

    def lend(self, length: int) -> memoryview:
        return self._ahead.lend(length)

    def take(self, chunk: memoryview) -> None:
        users = [
            self._hasher.submit(self._state.update, chunk),
            self._later(lambda: self._target.write(chunk)),
        ]
        self._written += len(chunk)
        if self._written - self._proven >= SEGMENT_BYTES:
            users.append(self._later(lambda: self._filesystem.sync_file(self._file)))
            self._prove(users[-1])
        self._ahead.give(*users)

    def arrived(self) -> str:
        self._ahead.wait()
        return self._state.hexdigest()

    def seal(self) -> None:
        self._later(lambda: self._filesystem.set_mode(self._file, SEALED))

    def prove(self) -> str:
        self._prove(self._later(lambda: self._filesystem.sync_file(self._file)))
        while self._proofs:
            self._proofs.popleft().result()
        return self._proof.hexdigest()

    def _later(self, step: Callable[[], None]) -> Future[None]:
        """Take the step after those before it, unless one of them failed."""

        def take() -> None:
            if not self._broken:
                self._broken = True
                step()
                self._broken = False

        return self._writer.submit(take)

    def _prove(self, durable: Future[None]) -> None:
        while self._proofs and self._proofs[0].done():
            self._proofs.popleft().result()
        start, self._proven = self._proven, self._written
        self._proofs.append(self._prover.submit(self._reread, durable, start, self._written))

    def _reread(self, durable: Future[None], start: int, end: int) -> None:
        durable.result()
        while count := self._reader.read(start, end, chunk := self._back.lend(CHUNK_BYTES)):
            self._back.give(self._rehasher.submit(self._proof.update, chunk[:count]))
            start += count
        self._back.wait()


class _Ring:
    """Memory used in turn: a chunk is lent again when those it was given to are done."""

    def __init__(self, count: int) -> None:
        self._free = [aligned(CHUNK_BYTES) for _ in range(count)]
        self._given: deque[tuple[memoryview, tuple[Future[None], ...]]] = deque()

    def lend(self, length: int) -> memoryview:
        if not self._free:
            self._take_back()
        return self._free[-1][:length]

    def give(self, *users: Future[None]) -> None:
        """What was lent last is in use until all of these are done."""
        self._given.append((self._free.pop(), users))

    def wait(self) -> None:
        """Until nothing is in use; raises what went wrong for those who used it."""
        while self._given:
            self._take_back()

    def _take_back(self) -> None:
        chunk, users = self._given.popleft()
        for user in users:
            user.result()
        self._free.append(chunk)


_kept = threading.local()


def own_memory() -> memoryview:
    """This thread's chunk of aligned memory; whoever calls next on the thread uses it too."""
    chunk: memoryview | None = getattr(_kept, "chunk", None)
    if chunk is None or len(chunk) != CHUNK_BYTES:
        chunk = _kept.chunk = aligned(CHUNK_BYTES)
    return chunk


def read_back(path: Path, on_bytes: Callable[[int], None] = ignore) -> str:
    """The digest of what the disk holds under `path`, never following a link."""
    state = hashlib.sha256()
    with _opened(path) as descriptor:
        while count := os.readv(descriptor, [own_memory()]):
            state.update(own_memory()[:count])
            on_bytes(count)
    return state.hexdigest()


def unreadable(facts: str) -> Failed:
    """The source cannot be read; what came so far is kept, so that the next try goes on."""
    return Failed(
        "source-unreadable",
        "the medium or folder that holds the release cannot be read",
        context=facts,
        hint="check it, then give the same command again, it goes on where it stopped:"
        " ./aibox install --profile local",
        fault=Fault.HOST,
    )


def _from_disk(descriptor: int, length: int) -> str:
    """The digest of what the disk, not the page cache, gives back."""
    reader, state, start = DiskReader(descriptor), hashlib.sha256(), 0
    while count := reader.read(start, length, own_memory()):
        state.update(own_memory()[:count])
        start += count
    return state.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _thread(closing: ExitStack) -> ThreadPoolExecutor:
    """A thread that ends with the block; after a failure it does nothing of what waits."""
    thread = ThreadPoolExecutor(1)
    closing.callback(thread.shutdown, wait=True, cancel_futures=True)
    return thread


def _read(stream: BinaryIO, chunk: memoryview) -> tuple[int, AiboxError | None]:
    """Read until the chunk is full or the stream ends: how much came, and what broke it off."""
    filled = 0
    try:
        while filled < len(chunk) and (count := read_into(stream, chunk[filled:])):
            filled += count
    except AiboxError as error:
        return filled, error
    except OSError as error:
        return filled, unreadable(str(error))
    return filled, None


def read_into(stream: BinaryIO, chunk: memoryview) -> int:
    """Bytes that came, at most the length of `chunk`; 0 at the end of the stream."""
    readinto = getattr(stream, "readinto", None)
    if readinto is not None:
        return readinto(chunk) or 0
    data = stream.read(len(chunk))
    chunk[: len(data)] = data
    return len(data)


def _skip(stream: BinaryIO, length: int) -> None:
    if stream.seekable():
        stream.seek(length, os.SEEK_CUR)
        return
    while length and (chunk := stream.read(min(length, CHUNK_BYTES))):
        length -= len(chunk)


def _refused(reference: str, digest: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        reference,
        "a blob is not what the release says it is",
        context=f"sha256:{digest}: {facts}",
        hint="check where the bytes come from, then: ./aibox install --profile local",
        fault=Fault.UPSTREAM,
    )
