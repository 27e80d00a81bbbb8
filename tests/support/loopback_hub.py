"""A small model hub on loopback: the part of the API that huggingface_hub 2.4 really calls.

Model info with blobs, `resolve` with commit, entity tags and LFS redirects, gated and private
repositories. Bodies break by the faults of `FlakyServer`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

from flaky_server import FileHandler, FlakyServer, serving

LFS_SUFFIXES = (".safetensors", ".gguf", ".model", ".bin")


def commit_of(text: str) -> str:
    """Forty digits that a text stands for."""
    return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Repository:
    """A model at one commit. `token`: without it the repository does not exist (private)."""

    name: str
    files: dict[str, bytes | Path]
    commit: str = commit_of("first")
    branches: dict[str, str] = field(default_factory=lambda: {"main": commit_of("first")})
    card: Mapping[str, object] = field(default_factory=lambda: {"license": "apache-2.0"})
    gated: bool = False
    token: str = ""
    lies: dict[str, str] = field(default_factory=dict)
    """Digests that the hub states wrongly, by path."""

    def sha256(self, path: str) -> str:
        return hashlib.sha256(_bytes(self.files[path])).hexdigest()


class LoopbackHub(FlakyServer):
    """Its address belongs into HF_ENDPOINT. Only `good_token` opens gated repositories."""

    good_token = "hf_goodgoodgood"

    def __init__(self) -> None:
        super().__init__(_HubHandler)
        self.repositories: dict[str, Repository] = {}

    def add(self, repository: Repository) -> Repository:
        self.repositories[repository.name] = repository
        return repository


class _HubHandler(FileHandler):
    server: LoopbackHub

    def serve(self, path: str) -> None:
        parts = unquote(path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self._serve_info(parts[2:])
        elif path in self.server.moved:
            super().serve(path)
        elif parts[0] == "lfs":
            self._serve_lfs(parts[1])
        else:
            self._serve_file(parts)

    def _serve_info(self, parts: list[str]) -> None:
        name, _, revision = "/".join(parts).partition("/revision/")
        repository = self._known(name)
        if repository is None:
            return
        commit = repository.branches.get(revision or "main", revision)
        if commit != repository.commit:
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
            return
        body = json.dumps(
            {
                "id": repository.name,
                "author": repository.name.partition("/")[0],
                "sha": commit,
                "gated": "manual" if repository.gated else False,
                "cardData": dict(repository.card),
                "siblings": [_sibling(repository, path) for path in sorted(repository.files)],
            }
        )
        self.answer(200, body.encode(), {"Content-Type": "application/json"})

    def _serve_file(self, parts: list[str]) -> None:
        name, _, rest = "/".join(parts).partition("/resolve/")
        commit, _, path = rest.partition("/")
        repository = self._known(name)
        if repository is None:
            return
        if path not in repository.files or commit != repository.commit:
            self._refuse(404, "EntryNotFound", "Entry not found")
        elif repository.gated and self._token() != self.server.good_token:
            self._refuse(403 if self._token() else 401, "GatedRepo", "Access is restricted")
        else:
            self._send(repository, path)

    def _send(self, repository: Repository, path: str) -> None:
        headers = {"X-Repo-Commit": repository.commit}
        if not path.endswith(LFS_SUFFIXES):
            self.send_file(repository.files[path], headers)
            return
        digest = repository.lies.get(path, repository.sha256(path))
        size = str(len(_bytes(repository.files[path])))
        place = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": size}
        self.answer(302, b"", {**headers, **place, "Location": f"/lfs/{digest}?Signature=secret"})

    def _serve_lfs(self, digest: str) -> None:
        for repository in self.server.repositories.values():
            for path, content in repository.files.items():
                if repository.sha256(path) == digest:
                    self.send_file(content, {})
                    return
        self.answer(404, b"", {})

    def _known(self, name: str) -> Repository | None:
        if self._token() == "hf_wrong":
            self._refuse(401, "", "Invalid credentials in Authorization header")
            return None
        repository = self.server.repositories.get(name)
        if repository is None or (repository.token and repository.token != self._token()):
            self._refuse(404 if self._token() else 401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
        self.answer(status, json.dumps({"error": message}).encode(), headers)


@contextmanager
def loopback_hub(*repositories: Repository) -> Iterator[LoopbackHub]:
    """A hub that is up until the end."""
    hub = LoopbackHub()
    for repository in repositories:
        hub.add(repository)
    with serving(hub):
        yield hub


def _sibling(repository: Repository, path: str) -> dict[str, object]:
    data = _bytes(repository.files[path])
    if not path.endswith(LFS_SUFFIXES):
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"rfilename": path, "size": len(data), "blobId": repository.lies.get(path, blob)}
    sha256 = repository.lies.get(path, hashlib.sha256(data).hexdigest())
    pointer = f"version https://git-lfs\noid sha256:{sha256}\nsize {len(data)}\n".encode()
    return {
        "rfilename": path,
        "size": len(data),
        "blobId": hashlib.sha1(pointer).hexdigest(),
        "lfs": {"sha256": sha256, "size": len(data), "pointerSize": len(pointer)},
    }


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content
