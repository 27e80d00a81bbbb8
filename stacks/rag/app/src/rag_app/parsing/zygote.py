"""The process that jails are forked from: readers loaded once, no threads, no secrets, no files.

Started by `rag_app.parsing.jail` as `python -m rag_app.parsing.zygote LIMITS` (JSON) with a
socket as standard input. Each request is one fixed-length message (the file's extension) with
three descriptors: the document, where the answer goes, and where the outcome goes. It forks,
confines and reads; the zygote itself only watches the clock and buries the dead. One document
is one process: nothing of it is left when the next one comes.
"""

from __future__ import annotations

import gc
import io
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from rag_app.errors import DocumentRefused
from rag_app.parsing.confinement import code_folders, confine
from rag_app.parsing.dispatch import parse
from rag_app.parsing.limits import Limits
from rag_app.parsing.refusals import megabytes, refused
from rag_app.parsing.result import Result

MESSAGE_BYTES = 32
_DOCUMENT, _ANSWER, _LIFE = 3, 4, 5


@dataclass(frozen=True, slots=True)
class _Jail:
    pid: int
    life: int
    outcome: int
    deadline: float


def main() -> None:
    """Serve requests until the other end of the socket is closed."""
    limits = Limits(**json.loads(sys.argv[1]))
    control = socket.socket(fileno=os.dup(0))
    _stdin_to_null()
    _load_lazy_parts(limits)
    readable = code_folders()
    measures = _try_measures(limits, readable)
    gc.freeze()  # Objects of the zygote are never collected, so their pages stay shared.
    control.sendall(json.dumps(measures).encode() + b"\n")
    _serve(control, limits, readable)


def _stdin_to_null() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)


def _load_lazy_parts(limits: Limits) -> None:
    """Read one small document of each kind, so that jails find all modules loaded."""
    import docx
    import pypdfium2  # type: ignore[import-untyped]

    word, pdf = io.BytesIO(), io.BytesIO()
    document = docx.Document()
    document.add_heading("warm", 1)
    document.save(word)
    pages = pypdfium2.PdfDocument.new()
    pages.new_page(200, 200)
    pages.save(pdf)
    samples = (
        (pdf.getvalue(), ".pdf"),
        (word.getvalue(), ".docx"),
        (b"<html><body><h1>warm</h1><table><tr><td>x</table></html>", ".html"),
        (b"# warm\n\n| a |\n|---|\n| b |\n", ".md"),
        ("따뜻한 문서\n".encode("cp949"), ".txt"),
        ("따뜻한 문서\n".encode("utf-16"), ".txt"),
    )
    for content, extension in samples:
        _warm(content, extension, limits)


def _warm(content: bytes, extension: str, limits: Limits) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.seek(0)
        _read(file.fileno(), extension, limits).encode()


def _try_measures(limits: Limits, readable: frozenset[str]) -> list[str]:
    """Which measures hold on this machine, as found by a process that applies them."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(confine(limits, readable)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = answer.read()
    os.waitpid(pid, 0)
    measures: list[str] = json.loads(found)
    return measures


def _serve(control: socket.socket, limits: Limits, readable: frozenset[str]) -> None:
    jails: dict[int, _Jail] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(_patience(jails)):
                if key.fileobj is not control:
                    selector.unregister(key.fileobj)
                    _bury(jails.pop(key.fd), late=False)
                elif (jail := _admit(control, limits, readable)) is not None:
                    jails[jail.life] = jail
                    selector.register(jail.life, selectors.EVENT_READ)
                else:
                    _kill_all(jails)
                    return
            for jail in [jail for jail in jails.values() if jail.deadline <= time.monotonic()]:
                selector.unregister(jail.life)
                _bury(jails.pop(jail.life), late=True)


def _patience(jails: dict[int, _Jail]) -> float | None:
    if not jails:
        return None
    return max(0.0, min(jail.deadline for jail in jails.values()) - time.monotonic())


def _admit(control: socket.socket, limits: Limits, readable: frozenset[str]) -> _Jail | None:
    """Fork a jail for the next request; None when nobody will ask again."""
    message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
    if len(message) < MESSAGE_BYTES or len(descriptors) != 3:
        return None
    document, answer, outcome = descriptors
    life, alive = os.pipe()
    pid = os.fork()
    if pid == 0:
        extension = message.rstrip(b"\0").decode("ascii", "replace")
        _jail((document, answer, alive), extension, limits, readable)
    for descriptor in (document, answer, alive):
        os.close(descriptor)
    return _Jail(pid, life, outcome, time.monotonic() + limits.wall_seconds)


def _jail(
    descriptors: tuple[int, int, int], extension: str, limits: Limits, readable: frozenset[str]
) -> NoReturn:
    """The life of a jail: own session, three descriptors, confined, one document, gone."""
    try:
        os.setsid()
        _keep_only(descriptors)
        confine(limits, readable)
        answer = _read(_DOCUMENT, extension, limits).encode()
        if len(answer) > limits.result_bytes:
            answer = _answer_of(refused("too-long", limit=limits.characters)).encode()
        with os.fdopen(_ANSWER, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    except BaseException:
        os._exit(1)


def _keep_only(descriptors: tuple[int, int, int]) -> None:
    """Leave 0 to 2 (all of them the null device) and the three given ones as 3, 4 and 5."""
    os.dup2(0, 1)
    os.dup2(0, 2)
    # Through high numbers first: one of them may sit where another has to go.
    parked = [os.dup(descriptor) for descriptor in descriptors]
    moved = [os.dup2(found, 64 + place) for place, found in enumerate(parked)]
    for place, found in enumerate(moved):
        os.dup2(found, _DOCUMENT + place, inheritable=False)
    os.closerange(_LIFE + 1, os.sysconf("SC_OPEN_MAX"))


def _read(descriptor: int, extension: str, limits: Limits) -> Result:
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return Result(parsed=parse(file, extension, limits))
    except DocumentRefused as refusal:
        return _answer_of(refusal)
    except MemoryError:
        return _answer_of(refused("out-of-memory", limit=megabytes(limits.memory_bytes)))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return Result(failure=f"{type(error).__name__} at {place.filename}:{place.lineno}")


def _answer_of(refusal: DocumentRefused) -> Result:
    return Result(reference=refusal.reference, sentence=str(refusal))


def _bury(jail: _Jail, late: bool) -> None:
    """Kill the jail with its whole group, and report how it ended."""
    for kill in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            kill(jail.pid, signal.SIGKILL)
    _, status, usage = os.wait4(jail.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    outcome = {"code": code, "late": late, "peak_bytes": usage.ru_maxrss * 1024}
    os.close(jail.life)
    # The worker may have given up waiting, or be dead; the other jails must be buried all the same.
    with suppress(BrokenPipeError):
        os.write(jail.outcome, json.dumps(outcome).encode())
    os.close(jail.outcome)


def _kill_all(jails: dict[int, _Jail]) -> None:
    for jail in jails.values():
        _bury(jail, late=True)


if __name__ == "__main__":
    main()
