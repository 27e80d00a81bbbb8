"""The running box, asked over its own API on loopback: questions, documents, readiness."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
        if not isinstance(answer, dict):
            raise _not_understood(self.port)
        return answer

    def documents(self) -> list[dict[str, Any]]:
        """Every document with its state."""
        with self._client() as client:
            return list(client.call("GET", "/api/documents")["documents"])

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
        """Remove a document by id."""
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
        files = list(files_below(paths))
        meter = Meter("docs", "upload", sum(path.stat().st_size for _, path in files), report)
        queued: list[str] = []
        refused: list[dict[str, str]] = []
        for name, path in files:
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
            hint="see the reason of each with: ./aibox docs list",
            fault=Fault.YOU,
        )


def files_below(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Every file to add as (name to show, path): folders are walked, hidden files left out.

    Raises `BadUsage` for a path that does not exist.
    """
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                inner = file.relative_to(path)
                if file.is_file() and not any(part.startswith(".") for part in inner.parts):
                    yield inner.as_posix(), file
        elif path.is_file():
            yield path.name, path
        else:
            raise BadUsage(
                "path-missing",
                f"{path} is neither a file nor a folder",
                hint=f"check the name with: ls -l {path.parent}",
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
