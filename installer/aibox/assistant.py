"""The running box, asked over its own API on loopback: questions, documents, readiness."""

from __future__ import annotations

import os
import re
import shlex
import stat
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aibox.box.http import JSON_TIMEOUT_S, Loopback, Tls
from aibox.errors import AiboxError, BadUsage, Failed, Fault
from aibox.progress import Meter, Progress, Report

_POLL_S = 0.25
_OK = 200
_NOT_FOUND = 404
_ENDED = frozenset({"ready", "failed"})
_ANSWERED = frozenset({"answer", "grounded", "citations", "engine", "release"})
_ID = re.compile("[0-9A-Za-z_-]{1,128}")


@dataclass(frozen=True, slots=True)
class Assistant:
    """The API of the box at `port` of this host, over TLS where there is a certificate."""

    port: int
    tls: Tls | None = None

    def ready(self) -> tuple[bool, str]:
        """Whether a question can be answered now, and if not, why."""
        try:
            with self._client(5.0) as client:
                answer = client.ask("GET", "/readyz")
        except AiboxError as error:
            return False, error.message
        body = answer.body if isinstance(answer.body, dict) else {}
        return answer.status == _OK, str(body.get("reason", f"HTTP status {answer.status}"))

    def ask(self, question: str, language: str, timeout_s: float) -> Mapping[str, Any]:
        """The `ask` contract. `language` is `en`, `ko`, or empty to let the box tell."""
        body = {"question": question, **({"language": language} if language else {})}
        with self._client(timeout_s) as client:
            answer = client.call("POST", "/api/ask", body)
        if not isinstance(answer, dict) or not answer.keys() >= _ANSWERED:
            raise _not_understood(self.port)
        return answer

    def documents(self) -> list[dict[str, Any]]:
        """Every document with its state."""
        with self._client() as client:
            answer = client.call("GET", "/api/documents")
        if not isinstance(answer, dict) or not isinstance(answer.get("documents"), list):
            raise _not_understood(self.port)
        return list(answer["documents"])

    def usage(self) -> Mapping[str, Any]:
        """What the box has counted since its application started.

        Raises `Failed`: `usage-not-counted` where its release does not count yet.
        """
        with self._client() as client:
            answer = client.ask("GET", "/api/usage")
        if answer.status == _NOT_FOUND:
            raise _not_counted()
        if answer.status != _OK or not isinstance(answer.body, dict):
            raise _not_understood(self.port)
        return answer.body

    def remove(self, document: str) -> None:
        """Remove a document by id. Raises `BadUsage` (`unknown-document`) where there is none."""
        if not _ID.fullmatch(document):
            raise BadUsage(
                "unknown-document",
                f"there is no document {document[:80]!r}",
                hint="see the ids of all with: ./aibox docs list",
                fault=Fault.YOU,
            )
        with self._client() as client:
            client.call("DELETE", f"/api/documents/{quote(document, safe='')}")

    def add(self, name: str, path: Path, meter: Meter) -> list[dict[str, Any]]:
        """Upload one file under `name`; it is queued when this returns."""
        with self._client() as client:
            reply = client.upload("/api/documents", [(name, path)], on_bytes=meter.add)
        return list(reply["documents"])

    def _client(self, timeout_s: float = JSON_TIMEOUT_S) -> Loopback:
        return Loopback(self.port, timeout_s=timeout_s, tls=self.tls)

    def add_all(self, paths: Sequence[Path], report: Report) -> Added:
        """Upload files and folders; returns when each is searchable or its failure is known."""
        found = gather(paths)
        meter = Meter("docs", "upload", found.size, report)
        queued: list[str] = []
        refused = found.refused
        for name, path in found.files:
            report(Progress("docs", f"upload {name}"))
            with _refusals(name, refused):
                queued += [str(item["id"]) for item in self.add(name, path, meter)]
        return Added(tuple(self.wait_until_read(queued, report)), tuple(refused))

    def wait_until_read(
        self, ids: Sequence[str], report: Report, pause: Callable[[float], None] = time.sleep
    ) -> list[dict[str, Any]]:
        """Wait until each document is searchable or has failed; the states as they are then."""
        told = ""
        while True:
            found = [item for item in self.documents() if item["id"] in set(ids)]
            waiting = [item["name"] for item in found if item["state"] not in _ENDED]
            if not waiting:
                return found
            line = f"{len(found) - len(waiting)} of {len(found)} read; now {waiting[0]}"
            if line != told:
                told = line
                report(Progress("docs", line))
            pause(_POLL_S)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of uploaded files: documents with their states, and files refused at once."""

    documents: tuple[dict[str, Any], ...]
    refused: tuple[dict[str, str], ...]

    def error(self) -> Failed | None:
        """What the command must end with: a file that is not searchable is never success."""
        failed = [f"{item['name']}: {item['reason']}" for item in self.refused]
        failed += [f"{d['name']}: {d['reason']}" for d in self.documents if d["state"] == "failed"]
        if not failed:
            return None
        return Failed(
            "documents-failed",
            f"{len(failed)} of {len(self.documents) + len(self.refused)} files are not searchable",
            context="; ".join(failed[:5]),
            hint="mend those that were refused, then: ./aibox docs add PATH"
            if self.refused
            else "see the reason of each with: ./aibox docs list",
            fault=Fault.YOU,
        )


class Gathered:
    """Files to add, each under the name that it gets, and what cannot be added.

    The box knows a document by its name without folders: of two files of one name the second
    would take the place of the first.
    """

    def __init__(self) -> None:
        self.files: list[tuple[str, Path]] = []
        self.refused: list[dict[str, str]] = []
        self._taken: dict[str, tuple[str, Path]] = {}

    def add(self, path: Path) -> None:
        """Take a file, or all files below a folder but hidden ones.

        Raises `BadUsage` for a path that is neither.
        """
        mode = _mode(path)
        if stat.S_ISREG(mode):
            self._take(path.name, path)
        elif stat.S_ISDIR(mode):
            for file in self._below(path):
                self._take_below(path, file)
        else:
            raise _path_missing(path, "it is neither a file nor a folder")

    @property
    def size(self) -> int:
        """Bytes of all files, as far as they can be told."""
        return sum(_size(path) for _, path in self.files)

    def _below(self, folder: Path) -> list[Path]:
        def closed(error: OSError) -> None:
            self._refuse(readable(str(error.filename)), "folder-unreadable", error)

        found: list[Path] = []
        for root, folders, files in os.walk(folder, onerror=closed):
            folders[:] = [name for name in folders if not name.startswith(".")]
            found += [Path(root, name) for name in files if not name.startswith(".")]
        return sorted(found)

    def _take_below(self, folder: Path, file: Path) -> None:
        name = file.relative_to(folder).as_posix()
        try:
            is_file = stat.S_ISREG(file.stat().st_mode)
        except FileNotFoundError:
            return  # A link that leads nowhere.
        except OSError as error:
            self._refuse(readable(name), "file-unreadable", error)
            return
        if is_file:
            self._take(name, file)

    def _take(self, name: str, path: Path) -> None:
        shown = readable(name)
        first, at = self._taken.setdefault(_known_as(shown), (shown, path))
        if at is path:
            self.files.append((shown, path))
        elif at.resolve() != path.resolve():
            reason = f"{first} has the same name and would be replaced; rename one of them"
            self.refused.append({"name": shown, "reference": "same-name", "reason": reason})

    def _refuse(self, name: str, reference: str, error: OSError) -> None:
        reason = f"it cannot be read: {error.strerror}"
        self.refused.append({"name": name, "reference": reference, "reason": reason})


def gather(paths: Sequence[Path]) -> Gathered:
    """Every file to add. Raises `BadUsage` for a path that is not there, or where no file is."""
    found = Gathered()
    for path in paths:
        found.add(path)
    if found.files or found.refused:
        return found
    raise BadUsage(
        "nothing-to-add",
        "there is no file in it; hidden files are left out",
        context=readable(", ".join(map(str, paths))),
        hint=f"see what is there with: ls -la {shlex.quote(str(paths[0]))}",
        fault=Fault.YOU,
    )


def readable(name: str) -> str:
    """A file's name as people read it: UTF-8, or CP949 as on old Korean disks."""
    raw = os.fsencode(name)
    for encoding in ("utf-8", "cp949"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return raw.decode("utf-8", "replace")


def _known_as(name: str) -> str:
    """The name by which the box knows a document: its last part, composed (macOS takes apart)."""
    return unicodedata.normalize("NFC", name).replace("\\", "/").rpartition("/")[2].strip()


def _size(path: Path) -> int:
    """In bytes; 0 for a file that is gone by now, which its upload tells."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError as error:
        raise _path_missing(path, error.strerror or str(error)) from error


def _path_missing(path: Path, why: str) -> BadUsage:
    return BadUsage(
        "path-missing",
        f"{readable(str(path))} cannot be added: {why}",
        hint=f"check the name with: ls -l {shlex.quote(str(path.parent))}",
        fault=Fault.YOU,
    )


@contextmanager
def _refusals(name: str, refused: list[dict[str, str]]) -> Iterator[None]:
    """Note why one file was refused, and let the others go on."""
    try:
        yield
    except BadUsage as error:
        refused.append({"name": name, "reference": error.reference, "reason": error.message})


def _not_counted() -> Failed:
    return Failed(
        "usage-not-counted",
        "the release of this box does not count its usage",
        hint="see which release runs: ./aibox status",
        fault=Fault.YOU,
    )


def _not_understood(port: int) -> Failed:
    return Failed(
        "not-a-box",
        f"what answers on port {port} is not this box",
        hint="see what runs with: ./aibox status",
        fault=Fault.HOST,
    )
