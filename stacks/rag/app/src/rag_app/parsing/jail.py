"""Reads documents in jails: the side that is trusted.

`Jails.parse` may be called from several threads at once; each call is one jailed process. The
zygote is started when first needed and again when it is lost.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from rag_app.model import ParsedDocument
from rag_app.parsing.dispatch import check_size
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import megabytes, refused
from rag_app.parsing.result import MalformedResult, decode
from rag_app.parsing.zygote import MESSAGE_BYTES

_READ_BYTES = 1024 * 1024
_START_SECONDS = 30.0
# The zygote keeps the deadline; this much later it counts as lost itself.
_GRACE_SECONDS = 10.0
_MEMORY_SHARE = 0.7
_ATTEMPTS = 2


class _ZygoteLost(Exception):
    """The zygote went away or does not answer; a new one is needed."""


class _Outcome(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    code: int
    late: bool
    peak_bytes: int


class Jails:
    """A source of jailed readers. A context manager: on leaving, all jails are killed."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._measures: tuple[str, ...] = ()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> tuple[str, ...]:
        """Start the zygote unless it runs; the names of the measures that hold here."""
        with self._lock:
            self._ensure()
            return self._measures

    def close(self) -> None:
        """Kill zygote and jails, for good: whoever still waits in `parse` gets a refusal."""
        with self._lock:
            self._closed = True
            self._stop()

    def parse(self, path: Path) -> ParsedDocument:
        """Read the document at `path` in a jail of its own.

        Raises `DocumentRefused` with a reference of `refusals.SENTENCES`; a jail that dies, hangs
        or answers nonsense is such a refusal too.
        """
        document = _open(path)
        try:
            check_size(os.fstat(document).st_size, self.limits.file_bytes)
            for _ in range(_ATTEMPTS):
                try:
                    answer, outcome = self._ask(document, path.suffix)
                    return self._judge(answer, outcome)
                except _ZygoteLost:
                    os.lseek(document, 0, os.SEEK_SET)
            raise refused("parser-crashed")
        finally:
            os.close(document)

    def _ask(self, document: int, extension: str) -> tuple[bytes, _Outcome]:
        answer, answer_in = os.pipe()
        outcome, outcome_in = os.pipe()
        try:
            try:
                process = self._send(extension, (document, answer_in, outcome_in))
            finally:
                os.close(answer_in)
                os.close(outcome_in)
            deadline = time.monotonic() + self.limits.wall_seconds + _GRACE_SECONDS
            try:
                said = _read_to_end(answer, self.limits.result_bytes, deadline)
                ended = _read_to_end(outcome, _READ_BYTES, deadline)
                return said, _Outcome.model_validate_json(ended)
            except (TimeoutError, ValidationError):
                self._abandon(process)
                raise _ZygoteLost from None
        finally:
            os.close(answer)
            os.close(outcome)

    def _judge(self, answer: bytes, outcome: _Outcome) -> ParsedDocument:
        """The document, or the refusal that the way the jail ended amounts to."""
        if outcome.late or outcome.code == -signal.SIGXCPU:
            seconds = self.limits.wall_seconds if outcome.late else self.limits.cpu_seconds
            raise refused("out-of-time", limit=seconds)
        try:
            if outcome.code == 0:
                return decode(answer, self.limits)
            raise MalformedResult(f"the reader ended with {outcome.code}")
        except MalformedResult as error:
            # Libraries fail in many ways when memory ends; how much they had tells.
            if outcome.peak_bytes > self.limits.memory_bytes * _MEMORY_SHARE:
                limit = megabytes(self.limits.memory_bytes)
                raise refused("out-of-memory", limit=limit) from error
            raise refused("parser-crashed") from error

    def _send(self, extension: str, descriptors: tuple[int, int, int]) -> subprocess.Popen[bytes]:
        message = extension.encode("ascii", "ignore")[:MESSAGE_BYTES].ljust(MESSAGE_BYTES, b"\0")
        with self._lock:
            process, control = self._ensure()
            try:
                socket.send_fds(control, [message], descriptors)
            except OSError:
                self._stop()
                raise _ZygoteLost from None
            return process

    def _abandon(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            if process is self._process:
                self._stop()

    def _ensure(self) -> tuple[subprocess.Popen[bytes], socket.socket]:
        if self._closed:
            raise _ZygoteLost
        if self._process is None or self._control is None:
            self._process, self._control, self._measures = _start_zygote(self.limits)
        return self._process, self._control

    def _stop(self) -> None:
        """Close the socket, at which the zygote kills its jails; kill it if it lingers."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            try:
                self._process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._control = None


def _start_zygote(
    limits: Limits,
) -> tuple[subprocess.Popen[bytes], socket.socket, tuple[str, ...]]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-BP", "-m", "rag_app.parsing.zygote", _as_json(limits)],
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            # Secrets may stand in the environment of the worker; the readers need nothing of it.
            env={"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUTF8": "1"},
            start_new_session=True,
        )
    ours.settimeout(_START_SECONDS)
    with ours.makefile("rb") as lines:
        greeting = lines.readline()
    if not greeting:
        process.kill()
        process.wait()
        raise OSError("the parser process did not start; its message stands in the log above")
    ours.settimeout(None)
    return process, ours, tuple(json.loads(greeting))


def _as_json(limits: Limits) -> str:
    return json.dumps(dataclasses.asdict(limits))


def _open(path: Path) -> int:
    try:
        document = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        raise refused("file-missing") from None
    if not stat.S_ISREG(os.fstat(document).st_mode):
        os.close(document)
        raise refused("file-missing")
    return document


def _read_to_end(descriptor: int, limit: int, deadline: float) -> bytes:
    """All that comes until the other side closes; more than `limit` bytes is cut, not kept.

    Raises `TimeoutError` at `deadline` (monotonic seconds).
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        readable, _, _ = select.select([descriptor], [], [], max(0, deadline - time.monotonic()))
        if not readable:
            raise TimeoutError
        piece = os.read(descriptor, _READ_BYTES)
        if not piece:
            return b"".join(pieces)
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
