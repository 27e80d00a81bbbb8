"""Fetching over a network that breaks: in parallel, resumable, checked, with honest progress.

What has come stays in a part of the cache. After a dropped connection, and in a later process
after `kill -9`, the part is hashed and the rest is asked for (`Range`). The digest alone decides
what the bytes are: entity tags differ between mirrors of the same file. Where a file put together
of several answers has another digest than its pin, it is fetched once more as a whole before
anybody is blamed.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import httpx

from aibox import digest
from aibox.bundle.build.cache import BlobCache, ignore, write_all, writing
from aibox.bundle.build.web import (
    AGAIN,
    Authorize,
    Trouble,
    announced_length,
    give_up,
    opened,
    refusal,
    session,
)
from aibox.errors import Fault, PreflightVeto
from aibox.progress import Progress, Report

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
REPORT_S = 1.0
"""Progress is told this often while anything is under way."""

_RATE_WINDOW_S = 10.0
_MIB = 1 << 20
_T = TypeVar("_T")


@dataclass(frozen=True)
class Request:
    """A file to fetch: its address, digest and size (bytes), and what it is for people.

    `authorize` is called before each attempt; its headers go to the host of `address` alone.
    """

    address: str
    sha256: str
    size: int
    what: str
    authorize: Authorize | None = None


def fetch(
    requests: Sequence[Request],
    cache: BlobCache,
    report: Report,
    *,
    step: str,
    connections: int = 4,
    attempts: int = 8,
    client: httpx.Client | None = None,
) -> None:
    """Bring everything into the cache that it does not hold, `connections` files at a time.

    `attempts` is how often in a row an attempt may fail without bringing any bytes.

    Raises:
        VerificationRefused: `download-refused`, more bytes than `size` or others than the digest's.
        Failed: `download-unreachable`, `-broken`, `-missing`, `-denied`, … what came is kept.
        PreflightVeto: `download-no-room`, before anything is fetched.
    """
    wanted = list({request.sha256: request for request in reversed(requests)}.values())[::-1]
    stop = threading.Event()
    missing = _missing(wanted, cache, report, step, connections, stop)
    if not missing:
        return
    _require_room(cache, missing)
    tally = Tally(step, _files(missing), sum(request.size for request in missing), report)
    with session(client) as web:

        def job(request: Request) -> Callable[[], None]:
            return lambda: _Transfer(request, cache, tally, web, stop, attempts).run()

        _in_parallel([job(request) for request in missing], connections, tally, stop)


def fetch_unknown(
    address: str,
    cache: BlobCache,
    report: Report,
    *,
    step: str,
    what: str,
    limit: int,
    authorize: Authorize | None = None,
    attempts: int = 8,
    client: httpx.Client | None = None,
) -> tuple[str, int]:
    """Bring a file of at most `limit` bytes into the cache whose digest nobody knows yet.

    A broken connection goes on where it stopped if the server can tell (strong entity tag) that
    the file is still the same; a killed process starts anew. Returns digest and size (bytes).
    Raises like `fetch`.
    """
    stop = threading.Event()
    tally = Tally(step, what, None, report)
    with session(client) as web, cache.scratch() as (path, descriptor):
        source = _Source(web, address, what, authorize, tally, stop, None, limit)
        part = _Part(descriptor)
        _in_parallel([lambda: source.fill(part, attempts)], 1, tally, stop)
        sha256 = part.sha256()
        with cache.claim(sha256):
            if cache.find(sha256, part.held) is None:
                cache.publish(path, sha256, hashed=True)
        return sha256, part.held


def read_small(
    address: str,
    limit: int,
    headers: Mapping[str, str] | None = None,
    *,
    what: str = "metadata",
    attempts: int = 4,
    client: httpx.Client | None = None,
) -> bytes:
    """Metadata of at most `limit` bytes, in memory; `headers` go to the address's own host alone.

    Raises like `fetch`; `download-refused` for more than `limit` bytes.
    """
    with session(client) as web:
        for attempt in range(1, attempts + 1):
            try:
                with opened(web, address, what, {}, lambda: headers or {}) as response:
                    return _limited(response, limit, what)
            except Trouble as trouble:
                if attempt == attempts:
                    give_up(address, what, trouble)
                time.sleep(_delay(trouble, attempt))
    raise AssertionError("no attempt at all")


class Tally:
    """What a set of transfers has brought; safe to call from several threads.

    A file that starts anew does not take back what was told: its furthest position counts.
    """

    def __init__(
        self,
        step: str,
        what: str,
        total: int | None,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._step, self._what, self._total, self._report = step, what, total, report
        self._clock, self._turn = clock, threading.Lock()
        self._reached: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._done = self._moved = 0
        self._samples = deque([(clock(), 0)])

    def reach(self, key: str, position: int, moved: int = 0) -> None:
        """The file `key` is complete up to `position`; `moved` bytes of it came just now."""
        with self._turn:
            gain = position - self._reached.get(key, 0)
            if gain > 0:
                self._reached[key] = position
                self._done += gain
            self._moved += moved

    def note(self, key: str, text: str = "") -> None:
        """What the file `key` waits for; nothing if it goes on."""
        with self._turn:
            self._notes.pop(key, None)
            if text:
                self._notes[key] = text

    def tell(self) -> None:
        """Report bytes, rate (of the last seconds) and time left."""
        with self._turn:
            now = self._clock()
            self._samples.append((now, self._moved))
            while len(self._samples) > 2 and now - self._samples[0][0] > _RATE_WINDOW_S:
                self._samples.popleft()
            line = self._line(self._rate())
        self._report(Progress(self._step, line))

    def _rate(self) -> float:
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        return (after - before) / max(end - start, 1e-3)

    def _line(self, rate: float) -> str:
        done, speed = f"{self._done / _MIB:.1f}", f"{rate / _MIB:.1f} MiB/s"
        waits = "".join(f"; {note}" for note in list(self._notes.values())[:1])
        if self._total is None:
            return f"{self._what}: {done} MiB, {speed}{waits}"
        left = self._total - self._done
        time_left = f"{left / rate:.0f} s left" if rate else "0 s left" if not left else "stalled"
        return f"{self._what}: {done} of {self._total / _MIB:.1f} MiB, {speed}, {time_left}{waits}"


class _Stopped(Exception):
    """Another transfer of the set failed, or a person interrupted."""


class _Part:
    """A part and the hash of what it holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._state = hashlib.sha256()
        self.held = 0

    def resume(self, limit: int, on_bytes: Callable[[int], None]) -> None:
        """Hash what an earlier process left; nothing can be made of more than `limit` bytes."""
        if os.fstat(self._descriptor).st_size > limit:
            self.restart()
        while chunk := os.pread(self._descriptor, digest.CHUNK_BYTES, self.held):
            self._state.update(chunk)
            self.held += len(chunk)
            on_bytes(self.held)
        os.lseek(self._descriptor, self.held, os.SEEK_SET)

    def restart(self) -> None:
        """Forget everything."""
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._state, self.held = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        write_all(self._descriptor, chunk)
        self._state.update(chunk)
        self.held += len(chunk)

    def sha256(self) -> str:
        return self._state.hexdigest()


@dataclass
class _Source:
    """An address that is read into a part. `size` is pinned, or None and learnt on the way."""

    client: httpx.Client
    address: str
    what: str
    authorize: Authorize | None
    tally: Tally
    stop: threading.Event
    size: int | None
    limit: int

    def __post_init__(self) -> None:
        self._pinned = self.size is not None
        self._tag = ""

    def fill(self, part: _Part, attempts: int) -> bool:
        """Go on until the part is whole; whether all of it came in one answer."""
        failures, furthest, one_piece = 0, part.held, not part.held
        while part.held != self.size:
            try:
                self._attempt(part)
                break
            except Trouble as trouble:
                one_piece = False
                failures = 1 if part.held > furthest else failures + 1
                furthest = max(furthest, part.held)
                if failures >= attempts:
                    give_up(self.address, self.what, trouble)
                self._pause(trouble, failures, attempts)
        return one_piece

    def _attempt(self, part: _Part) -> None:
        if part.held and not (self._pinned or self._tag):
            part.restart()
        with opened(
            self.client, self.address, self.what, self._range(part), self.authorize
        ) as response:
            self._begin(response, part)
            for chunk in response.iter_raw():
                self._take(chunk, part, response.url)
        if self.size is not None and part.held < self.size:
            raise Trouble("the answer ended early", fault=Fault.UPSTREAM)

    def _range(self, part: _Part) -> dict[str, str]:
        if not part.held:
            return {}
        asked = {"Range": f"bytes={part.held}-"}
        return asked if self._pinned else {**asked, "If-Range": self._tag}

    def _begin(self, response: httpx.Response, part: _Part) -> None:
        """Judge the headers; the part starts anew where the server does not go on."""
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            part.restart()
        try:
            length = announced_length(response, part.held)
        except Trouble:
            part.restart()
            raise
        if not self._pinned:
            tag = response.headers.get("ETag", "")
            self.size, self._tag = length, "" if tag.startswith("W/") else tag
        elif length not in (None, self.size):
            kind = response.headers.get("Content-Type", "bytes of no stated type")
            facts = f"the server has {length} bytes ({kind}) instead of {self.size}"
            raise refusal(self.what, response.url, facts)
        self.tally.note(self.address)

    def _take(self, chunk: bytes, part: _Part, url: httpx.URL) -> None:
        if self.stop.is_set():
            raise _Stopped
        if part.held + len(chunk) > self.limit:
            part.restart()
            raise refusal(self.what, url, f"more than {self.limit} bytes came")
        part.write(chunk)
        self.tally.reach(self.address, part.held, len(chunk))

    def _pause(self, trouble: Trouble, failures: int, attempts: int) -> None:
        delay = _delay(trouble, failures)
        self.tally.note(
            self.address,
            f"{self.what}: {trouble.reason}; attempt {failures + 1} of {attempts} in {delay:.0f} s",
        )
        if self.stop.wait(delay):
            raise _Stopped


@dataclass(frozen=True)
class _Transfer:
    """One request, from the part it left behind to the name it gets in the cache."""

    request: Request
    cache: BlobCache
    tally: Tally
    client: httpx.Client
    stop: threading.Event
    attempts: int

    def run(self) -> None:
        if self.stop.is_set():
            raise _Stopped
        request, path = self.request, self.cache.part(self.request.sha256)
        with self.cache.claim(request.sha256, self._waits) as descriptor, writing(path):
            if self.cache.find(request.sha256, request.size) is None:
                self._complete(_Part(descriptor))
                self.cache.publish(path, request.sha256, hashed=True)
        self.tally.note(request.address)
        self.tally.reach(request.address, request.size)

    def _complete(self, part: _Part) -> None:
        request = self.request
        part.resume(request.size, lambda held: self.tally.reach(request.address, held))
        if self._fill(part) or part.sha256() == request.sha256:
            pass
        else:
            part.restart()
            self._fill(part)
        if part.sha256() != request.sha256:
            found = part.sha256()
            part.restart()
            raise refusal(request.what, request.address, f"sha256 is {found}")

    def _fill(self, part: _Part) -> bool:
        request = self.request
        source = _Source(
            self.client,
            request.address,
            request.what,
            request.authorize,
            self.tally,
            self.stop,
            request.size,
            request.size,
        )
        return source.fill(part, self.attempts)

    def _waits(self) -> None:
        if self.stop.is_set():
            raise _Stopped
        self.tally.note(self.request.address, f"{self.request.what}: another process fetches it")


def _missing(
    requests: Sequence[Request],
    cache: BlobCache,
    report: Report,
    step: str,
    connections: int,
    stop: threading.Event,
) -> list[Request]:
    """Those that the cache does not hold; what it holds is hashed, which takes time."""
    tally = Tally(step, "download cache", None, report)

    def job(request: Request) -> Callable[[], bool]:
        return lambda: cache.find(request.sha256, request.size, ignore) is not None

    held = _in_parallel([job(request) for request in requests], connections, tally, stop)
    return [request for request, found in zip(requests, held, strict=True) if not found]


def _in_parallel(
    jobs: Sequence[Callable[[], _T]], connections: int, tally: Tally, stop: threading.Event
) -> list[_T]:
    """The results in order; the first failure, or an interrupt, stops all."""
    with ThreadPoolExecutor(connections) as pool:
        futures = [pool.submit(job) for job in jobs]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, REPORT_S, FIRST_EXCEPTION)
                tally.tell()
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


def _limited(response: httpx.Response, limit: int, what: str) -> bytes:
    data = bytearray()
    for chunk in response.iter_raw():
        data += chunk
        if len(data) > limit:
            raise refusal(what, response.url, f"more than the {limit} bytes that it may have")
    return bytes(data)


def _delay(trouble: Trouble, failures: int) -> float:
    """Seconds: doubled each time, and never less than the server asks for."""
    return max(trouble.after_s, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16)))


def _require_room(cache: BlobCache, missing: Sequence[Request]) -> None:
    needed = sum(request.size for request in missing)
    for request in missing:
        part = cache.part(request.sha256)
        needed -= min(part.stat().st_size, request.size) if part.exists() else 0
    if cache.free_bytes() < needed:
        raise PreflightVeto(
            "download-no-room",
            "the disk of the download cache has no room for what is to be fetched",
            context=f"{cache.folder}: {needed} bytes needed, {cache.free_bytes()} free",
            hint="free some room, or name another folder in AIBOX_CACHE, then " + AGAIN,
            fault=Fault.HOST,
        )


def _files(requests: Sequence[Request]) -> str:
    return requests[0].what if len(requests) == 1 else f"{len(requests)} files"
