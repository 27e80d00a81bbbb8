"""Models from a hub: a wish becomes a pin, and every file of a pin comes into the cache.

huggingface_hub asks the questions and makes addresses and headers; the bytes come through
`download.fetch`. Since huggingface_hub 2 an interrupted `hf_hub_download` begins anew in a file of
a random name, and its other way (xet) writes the whole file again too: neither survives
`kill -9`, neither hashes what an earlier process left, and neither compares with a digest.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import filter_repo_objects  # type: ignore[attr-defined]

from aibox import digest
from aibox.bundle import weights
from aibox.bundle.build import download, hub_api, web
from aibox.bundle.build.cache import BlobCache
from aibox.errors import Failed, Fault, VerificationRefused
from aibox.pins import ModelFile, ModelPin, Redistribution, State
from aibox.profile import ModelWish
from aibox.progress import Progress, Report

SMALL_LIMIT = 64 << 20
"""Bytes of a file that the hub keeps in Git itself; it wants larger ones in LFS."""

UNKNOWN = "unknown"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_WEIGHTS = (".safetensors", ".gguf")

Classify = Callable[[str], Redistribution]


def resolve(
    wish: ModelWish,
    previous: ModelPin | None,
    cache: BlobCache,
    report: Report,
    *,
    token_file: Path | None,
    classify: Classify,
    step: str = "lock",
) -> ModelPin:
    """Pin a model: commit, files with size and digest, licence, owner.

    An unresolved `previous` keeps its commit and its known digests; a resolved one saves the
    hashing of files while the commit is still the same. Digests of LFS files are the hub's
    statement and are proven by `fetch`; small files are fetched, hashed and judged here.

    Raises:
        VerificationRefused: `model-refused` (code, pickles, …), `model-changed`.
        Failed: `model-missing`, `-gated`, `-moved`, `-empty`, `revision-missing`,
            `hub-unreachable`, `hub-token-refused`, …
    """
    token = hub_api.read_token(token_file)
    unresolved = previous if previous is not None and previous.state is State.UNRESOLVED else None
    revision = unresolved.revision if unresolved else wish.revision
    report(Progress(step, f"{wish.repository}: asking the hub for {revision}"))
    info = hub_api.ask(wish.repository, revision, token)
    commit = _commit(info, wish.repository, revision)
    known = _known(previous, commit)
    chosen = _chosen(info, wish)
    with web.session() as client:
        hasher = _Hasher(wish.repository, commit, token, cache, report, step, client)
        files = tuple(_agreed(hasher.pin(item, known), known, wish) for item in chosen)
    licence = _licence(info)
    return ModelPin(
        name=wish.name,
        licence=licence,
        redistribution=classify(licence),
        owner=wish.repository.partition("/")[0] if "/" in wish.repository else UNKNOWN,
        source=f"hf:{wish.repository}@{commit}",
        repository=wish.repository,
        revision=commit,
        gated=bool(info.gated),
        patterns=wish.patterns,
        files=files,
    )


def complete(
    pin: ModelPin,
    cache: BlobCache,
    report: Report,
    *,
    token_file: Path | None,
    classify: Classify,
    step: str = "lock",
) -> ModelPin:
    """An unresolved pin with all its files, at its own commit; a resolved one as it is."""
    if pin.state is State.RESOLVED:
        return pin
    wish = ModelWish(name=pin.name, repository=pin.repository, revision=pin.revision)
    if pin.patterns:
        wish = wish.model_copy(update={"patterns": pin.patterns})
    return resolve(wish, pin, cache, report, token_file=token_file, classify=classify, step=step)


def fetch(
    pin: ModelPin,
    cache: BlobCache,
    report: Report,
    *,
    token_file: Path | None = None,
    step: str = "fetch",
    connections: int = 4,
    client: httpx.Client | None = None,
) -> None:
    """Bring every file of a resolved pin into the cache, and judge all of them as data.

    Raises like `download.fetch`; `model-gated` where the hub gives no file; `model-refused`.
    """
    if pin.state is not State.RESOLVED:
        raise _failed("model-unresolved", f"the files of {pin.name} are not pinned", Fault.YOU)
    token = hub_api.read_token(token_file)
    requests = [
        download.Request(
            hub_api.address(pin.repository, file.path, pin.revision),
            file.sha256,
            file.size,
            f"{pin.repository}/{file.path}",
            lambda: hub_api.headers(token),
        )
        for file in pin.files
        if file.sha256 is not None and file.size is not None
    ]
    try:
        download.fetch(requests, cache, report, step=step, connections=connections, client=client)
    except Failed as error:
        raise _explained(error, pin.repository, token) from error
    weights.refuse(judge(pin, cache), pin.name)


def judge(pin: ModelPin, cache: BlobCache) -> list[weights.Problem]:
    """What is wrong with the files of a pin: with their names, and with those the cache holds."""
    problems = weights.check_names(file.path for file in pin.files)
    return problems or [problem for file in pin.files for problem in _judge_file(file, cache)]


@dataclass(frozen=True)
class _Hasher:
    """Makes pins of files; fetches the small ones, because the hub states no SHA-256 of them."""

    repository: str
    commit: str
    token: str | None
    cache: BlobCache
    report: Report
    step: str
    client: httpx.Client

    def pin(self, item: RepoSibling, known: Mapping[str, ModelFile]) -> ModelFile:
        if item.lfs is not None:
            sha256, size = item.lfs.sha256, item.lfs.size
            if not isinstance(sha256, str) or not digest.is_digest(sha256) or not _is_size(size):
                raise hub_api.odd_answer(self.repository, f"no digest of {item.rfilename}")
            return ModelFile(path=item.rfilename, size=size, sha256=sha256)
        file = known.get(item.rfilename)
        if file is not None and file.known and file.size == item.size:
            return file
        return self._fetched(item)

    def _fetched(self, item: RepoSibling) -> ModelFile:
        size = item.size
        if size is None or not _is_size(size) or size > SMALL_LIMIT:
            raise hub_api.odd_answer(self.repository, f"{item.rfilename} is not in LFS: {size}")
        try:
            sha256, length = download.fetch_unknown(
                hub_api.address(self.repository, item.rfilename, self.commit),
                self.cache,
                self.report,
                step=self.step,
                what=f"{self.repository}/{item.rfilename}",
                limit=size,
                authorize=lambda: hub_api.headers(self.token),
                client=self.client,
            )
        except Failed as error:
            raise _explained(error, self.repository, self.token) from error
        file = ModelFile(path=item.rfilename, size=length, sha256=sha256)
        if length != size or not _is_git_blob(file, item.blob_id, self.cache):
            raise _changed(self.repository, f"{item.rfilename} is not what the hub's list names")
        weights.refuse(_judge_file(file, self.cache), self.repository)
        return file


def _known(pin: ModelPin | None, commit: str) -> dict[str, ModelFile]:
    """What is pinned already of the same commit, by path."""
    if pin is None or pin.revision != commit:
        return {}
    return {file.path: file for file in pin.files}


def _commit(info: ModelInfo, repository: str, revision: str) -> str:
    if info.id != repository:
        raise _failed(
            "model-moved",
            f"the hub sends on from {repository} to {weights.printable(str(info.id))}",
            Fault.UPSTREAM,
            "another owner may stand behind the new name; if that is right, write it into the "
            "profile, then: ./aibox lock",
        )
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit) or (_COMMIT.fullmatch(revision) and commit != revision):
        raise hub_api.odd_answer(repository, f"commit {weights.printable(commit)}")
    return commit


def _chosen(info: ModelInfo, wish: ModelWish) -> Sequence[RepoSibling]:
    """The files that the patterns choose, sorted; all of allowed kinds, and weights among them."""
    names = [item.rfilename for item in info.siblings or ()]
    found = sorted(
        filter_repo_objects(
            info.siblings or (), allow_patterns=list(wish.patterns), key=lambda item: item.rfilename
        ),
        key=lambda item: item.rfilename,
    )
    weights.refuse(weights.check_names(item.rfilename for item in found), wish.repository)
    if not any(item.rfilename.endswith(_WEIGHTS) for item in found):
        kinds = sorted({name.rpartition(".")[2] for name in names if "." in name})
        raise _failed(
            "model-empty",
            f"the patterns choose no weights (safetensors or GGUF) of {wish.repository}",
            Fault.YOU,
            "choose a revision or a repository that has them, then: ./aibox lock",
            f"it has: {weights.printable(', '.join(kinds)) or 'no files'}",
        )
    return found


def _agreed(file: ModelFile, known: Mapping[str, ModelFile], wish: ModelWish) -> ModelFile:
    """What the hub has now must be what was pinned of the same commit."""
    before = known.get(file.path)
    if before is not None and (
        before.sha256 not in (None, file.sha256) or before.size not in (None, file.size)
    ):
        raise _changed(wish.repository, f"{file.path} had other bytes at the same commit")
    return file


def _is_git_blob(file: ModelFile, blob_id: str | None, cache: BlobCache) -> bool:
    """Whether the bytes are those of the hub's Git object, where it states one."""
    if not blob_id or not _COMMIT.fullmatch(blob_id):
        return True
    path = cache.find(str(file.sha256), file.size or 0)
    data = path.read_bytes() if path is not None else b""
    object_id = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return object_id == blob_id


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _judge_file(file: ModelFile, cache: BlobCache) -> list[weights.Problem]:
    if file.sha256 is None or file.size is None:
        return []
    path = cache.find(file.sha256, file.size)
    if path is None:
        return []
    with path.open("rb") as stream:
        return weights.check_file(file.path, stream, file.size)


def _licence(info: ModelInfo) -> str:
    """By the model's card: an SPDX-like name in lower case, or the licence's own name."""
    card = info.card_data
    stated = getattr(card, "license", None)
    if stated in (None, "", "other"):
        stated = getattr(card, "license_name", None) or stated
    text = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated or UNKNOWN)
    return weights.printable(text.strip()) or UNKNOWN


def _explained(error: Failed, repository: str, token: str | None) -> Failed:
    """A file that the hub denies is one of a gated model, or the token is wrong."""
    return hub_api.gated(repository, token) if error.reference == "download-denied" else error


def _changed(repository: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        "model-changed",
        f"{repository} is not what it was said to be",
        context=facts,
        hint="a commit cannot change: ask whoever runs the hub or mirror, and give the same "
        "command again when it is clear: ./aibox lock",
        fault=Fault.UPSTREAM,
    )


def _failed(
    reference: str,
    message: str,
    fault: Fault,
    hint: str = "complete it, then give the same command again: ./aibox lock",
    facts: str = "",
) -> Failed:
    return Failed(reference, message, context=facts, hint=hint, fault=fault)
