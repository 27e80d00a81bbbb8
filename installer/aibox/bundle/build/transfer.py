"""One address read into one part: attempts, ranges, pauses. The caller judges by the digest."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx

from aibox import digest
from aibox.bundle.build.cache import write_all
from aibox.bundle.build.tally import Tally
from aibox.bundle.build.web import (
    Authorize,
    Trouble,
    announced_length,
    give_up,
    opened,
    refusal,
)
from aibox.errors import Fault

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
WINDOW_BYTES = 16 << 30
"""Asked for at a time: stores of large files give no answer beyond 50 GB (huggingface_hub)."""


class Stopped(Exception):
    """Another transfer of the set failed, or a person interrupted."""


class Stop:
    """Ends transfers from another thread, also those that wait for a silent server."""

    def __init__(self) -> None:
        self._event, self._turn = threading.Event(), threading.Lock()
        self._sockets: set[socket.socket] = set()

    def set(self) -> None:
        with self._turn:
            self._event.set()
            for connection in self._sockets:
                with suppress(OSError):
                    # Of the plain socket: that of a TLS socket would take its state away.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def check(self) -> None:
        """Raises `Stopped` after `set`."""
        if self._event.is_set():
            raise Stopped

    def pause(self, seconds: float) -> None:
        """Wait, unless `set` is called meanwhile; raises `Stopped` then."""
        if self._event.wait(seconds):
            raise Stopped

    @contextmanager
    def reading(self, response: httpx.Response) -> Iterator[None]:
        """While the body of an answer is read."""
        stream = response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is None:
            yield
            return
        with self._turn:
            self._sockets.add(connection)
        try:
            self.check()
            yield
        finally:
            with self._turn:
                self._sockets.discard(connection)


class Part:
    """A part and the hash of what it holds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._state = hashlib.sha256()
        self.held = 0

    def resume(self, limit: int, on_bytes: Callable[[int], None]) -> None:
        """Hash what an earlier process left; nothing can be made of more than `limit` bytes.

        `on_bytes` gets the position.
        """
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
class Source:
    """An address that is read into a part. `size` (bytes) is pinned, or None and learnt.

    At most `limit` bytes are taken. `tally` knows the transfer by `key`.
    """

    client: httpx.Client
    address: str
    what: str
    authorize: Authorize | None
    key: str
    tally: Tally
    stop: Stop
    size: int | None
    limit: int

    def __post_init__(self) -> None:
        self._pinned = self.size is not None
        self._tag = ""

    def fill(self, part: Part, attempts: int) -> bool:
        """Go on until the part is whole; whether all of it came in one answer to us.

        `attempts`: how often in a row an attempt may fail that brings nothing.
        """
        failures, furthest, answers, resumed = 0, part.held, 0, part.held > 0
        whole = part.held == self.size
        while not whole:
            answers += 1
            try:
                whole = self._attempt(part)
            except Trouble as trouble:
                failures = 1 if part.held > furthest else failures + 1
                if failures >= attempts:
                    give_up(self.address, self.what, trouble)
                self._pause(trouble, failures, attempts)
            furthest = max(furthest, part.held)
        return answers == 1 and not resumed

    def _attempt(self, part: Part) -> bool:
        """One request; whether the part is whole now. Raises `Trouble`."""
        if part.held and not (self._pinned or self._tag):
            part.restart()
        goal = self._goal(part)
        headers = self._range(part, goal)
        with (
            opened(self.client, self.address, self.what, headers, self.authorize) as response,
            self.stop.reading(response),
        ):
            self._begin(response, part)
            for chunk in response.iter_raw():
                self._take(chunk, part, response.url)
        wanted = goal or self.size
        if wanted is not None and part.held < wanted:
            raise Trouble("the answer ended early", fault=Fault.UPSTREAM)
        return self.size is None or part.held == self.size

    def _goal(self, part: Part) -> int | None:
        """Where to stop asking for now; None for the end of the file."""
        goal = part.held + WINDOW_BYTES
        return goal if self._pinned and self.size is not None and goal < self.size else None

    def _range(self, part: Part, goal: int | None) -> dict[str, str]:
        if not part.held and goal is None:
            return {}
        last = "" if goal is None else goal - 1
        asked = {"Range": f"bytes={part.held}-{last}"}
        # The digest shows whether a pinned file changed; of others only the server can tell.
        return asked if self._pinned else {**asked, "If-Range": self._tag}

    def _begin(self, response: httpx.Response, part: Part) -> None:
        """Judge the headers; the part starts anew where the answer does not go on with it."""
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            part.restart()
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise Trouble("the server does not have the rest of it", fault=Fault.UPSTREAM)
        try:
            length = announced_length(response, part.held)
        except Trouble:
            part.restart()
            raise
        if self._pinned:
            self._require_length(response, length)
        else:
            self._learn(response, length)
        self.tally.note(self.key)

    def _learn(self, response: httpx.Response, length: int | None) -> None:
        if length is None and "chunked" not in response.headers.get("Transfer-Encoding", ""):
            # A connection that breaks would look like the end of the file.
            silent = Trouble("the server does not say how long it is", fault=Fault.UPSTREAM)
            give_up(self.address, self.what, silent)
        tag = response.headers.get("ETag", "")
        self.size, self._tag = length, "" if tag.startswith("W/") else tag

    def _require_length(self, response: httpx.Response, length: int | None) -> None:
        if length not in (None, self.size):
            kind = response.headers.get("Content-Type", "no stated type")
            facts = f"the server has {length} bytes ({kind}) instead of {self.size}"
            raise refusal(self.what, response.url, facts)

    def _take(self, chunk: bytes, part: Part, url: httpx.URL) -> None:
        self.stop.check()
        if part.held + len(chunk) > self.limit:
            part.restart()
            raise refusal(self.what, url, f"more than {self.limit} bytes came")
        part.write(chunk)
        self.tally.reach(self.key, part.held, len(chunk))

    def _pause(self, trouble: Trouble, failures: int, attempts: int) -> None:
        seconds = delay(trouble, failures)
        next_one = f"attempt {failures + 1} of {attempts} in {seconds:.0f} s"
        self.tally.note(self.key, f"{self.what}: {trouble.reason}; {next_one}")
        self.stop.pause(seconds)


def delay(trouble: Trouble, failures: int) -> float:
    """Seconds before the next attempt: doubled each time, never less than the server asks for."""
    return max(trouble.after_s, min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** min(failures - 1, 16)))
