"""Fetching over a network that breaks: in parallel, resumable, checked, with honest progress.

What has come stays in a part of the cache. After a dropped connection, and in a later process
after `kill -9`, the part is hashed and the rest is asked for (`Range`). The digest alone decides
what the bytes are: entity tags differ between mirrors of the same file. Where a file put together
of several answers has another digest than its pin, it is fetched once more as a whole before
anybody is blamed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TypeVar

import httpx

from aibox.bundle.build.cache import BlobCache, writing
from aibox.bundle.build.tally import Tally
from aibox.bundle.build.transfer import Part, Source, Stop, delay
from aibox.bundle.build.web import AGAIN, Authorize, Trouble, give_up, opened, refusal, session
from aibox.errors import Fault, PreflightVeto
from aibox.progress import Report

REPORT_S = 1.0
"""Progress is told this often while anything is under way."""

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
    stop = Stop()
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
    stop = Stop()
    tally = Tally(step, what, None, report)
    with session(client) as web, cache.scratch() as (path, descriptor):
        source = Source(web, address, what, authorize, what, tally, stop, None, limit)
        part = Part(descriptor)
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
                time.sleep(delay(trouble, attempt))
    raise AssertionError("no attempt at all")


@dataclass(frozen=True)
class _Transfer:
    """One request, from the part it left behind to the name it gets in the cache."""

    request: Request
    cache: BlobCache
    tally: Tally
    client: httpx.Client
    stop: Stop
    attempts: int

    def run(self) -> None:
        self.stop.check()
        request, path = self.request, self.cache.part(self.request.sha256)
        with self.cache.claim(request.sha256, self._waits) as descriptor, writing(path):
            if self.cache.find(request.sha256, request.size) is None:
                self._complete(Part(descriptor))
                self.cache.publish(path, request.sha256, hashed=True)
        self.tally.note(request.sha256)
        self.tally.reach(request.sha256, request.size)

    def _complete(self, part: Part) -> None:
        request = self.request
        part.resume(request.size, lambda held: self.tally.reach(request.sha256, held))
        if not self._fill(part) and part.sha256() != request.sha256:
            part.restart()
            self._fill(part)
        if part.sha256() != request.sha256:
            found = part.sha256()
            part.restart()
            raise refusal(request.what, request.address, f"sha256 is {found}")

    def _fill(self, part: Part) -> bool:
        request = self.request
        source = Source(
            self.client,
            request.address,
            request.what,
            request.authorize,
            request.sha256,
            self.tally,
            self.stop,
            request.size,
            request.size,
        )
        return source.fill(part, self.attempts)

    def _waits(self) -> None:
        self.stop.check()
        self.tally.note(self.request.sha256, f"{self.request.what}: another process fetches it")


def _missing(
    requests: Sequence[Request],
    cache: BlobCache,
    report: Report,
    step: str,
    connections: int,
    stop: Stop,
) -> list[Request]:
    """Those that the cache does not hold; what it holds is hashed, which takes time."""
    named = [request for request in requests if cache.has(request.sha256)]
    tally = Tally(step, "checking the cache", sum(request.size for request in named), report)

    def job(request: Request) -> Callable[[], bool]:
        def on_bytes(count: int) -> None:
            stop.check()
            tally.add(request.sha256, count)

        return lambda: cache.find(request.sha256, request.size, on_bytes) is not None

    found = _in_parallel([job(request) for request in named], connections, tally, stop)
    held = {request.sha256 for request, sound in zip(named, found, strict=True) if sound}
    return [request for request in requests if request.sha256 not in held]


def _in_parallel(
    jobs: Sequence[Callable[[], _T]], connections: int, tally: Tally, stop: Stop
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
