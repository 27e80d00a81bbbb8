"""Is the content of a bundle what its signed manifest and index say: nothing less, nothing more?

First a look at names and sizes, which costs nothing, then every byte. A file is opened once, and
what is hashed is what that descriptor gives. Nothing is written, and nothing ends the check early:
whoever stands in front of the machine learns of every bad medium in one pass.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from aibox.bundle import index as indexes
from aibox.bundle.discovery import Volume
from aibox.bundle.finding import COMMAND, Finding, Status, printable, unreadable
from aibox.bundle.hashing import Task, hash_file, hash_files
from aibox.bundle.layout import BLOBS, VOLUME
from aibox.bundle.manifest import Carried, Index
from aibox.bundle.media import Media
from aibox.errors import AiboxError, Fault, VerificationRefused
from aibox.pins import Blob
from aibox.progress import Report

LISTED = 50
"""Problems that are told one by one; the rest is counted."""

_REFERENCES = {
    Status.MISSING: "bundle-file-missing",
    Status.SIZE_DIFFERS: "bundle-file-size-differs",
    Status.DIGEST_DIFFERS: "bundle-file-differs",
    Status.UNEXPECTED: "bundle-file-unexpected",
}
_OF_SYSTEMS = frozenset(
    {
        "system volume information",
        "$recycle.bin",
        "found.000",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
        "autorun.inf",
    }
)
_OF_SYSTEMS_STARTS = (".trash", ".spotlight", ".fseventsd", ".ds_store", "._")
_IN_WORDS = {
    Status.MISSING: "not there",
    Status.SIZE_DIFFERS: "of another size",
    Status.DIGEST_DIFFERS: "with other bytes",
    Status.UNREADABLE: "unreadable",
    Status.UNEXPECTED: "too many",
}
_NOT_THERE = "is not there"
_OWN_FOLDER = "put the bundle into a folder of its own on the medium"


@dataclass(frozen=True, slots=True)
class ContentReport:
    """What was checked and what is wrong. `files` and `size` (bytes) are those that were read."""

    files: int
    size: int
    problems: tuple[Finding, ...]
    counts: Mapping[Status, int]
    missing_volumes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the bundle is whole and nothing is wrong with it."""
        return not self.counts and not self.missing_volumes

    def require(self) -> None:
        """Go on only if all is well.

        Raises:
            VerificationRefused: `bundle-volume-missing`, `bundle-file-missing`,
                `bundle-file-size-differs`, `bundle-file-differs`, `bundle-file-unexpected`: the
                first that holds in this order.
            Failed: `source-unreadable`, when media fail and nothing else is wrong.
        """
        if not self.ok:
            raise self._refusal()

    def as_json(self) -> dict[str, object]:
        """For `bundle verify --json`."""
        return {
            "ok": self.ok,
            "files": self.files,
            "bytes": self.size,
            "counts": {status.value: count for status, count in self.counts.items()},
            "missing_volumes": list(self.missing_volumes),
            "problems": [
                {
                    "volume": item.volume,
                    "path": item.path,
                    "status": item.status.value,
                    "detail": item.detail,
                }
                for item in self.problems
            ],
        }

    def _refusal(self) -> AiboxError:
        facts = [*self.missing_volumes, *map(str, self.problems[:8])]
        context = "; ".join(facts) + ("; …" if len(self.problems) > 8 else "")
        if self.missing_volumes:
            return _refused("bundle-volume-missing", "volumes of the bundle are missing", context)
        for status, reference in _REFERENCES.items():
            if status in self.counts:
                return _refused(
                    reference,
                    f"files of the bundle are wrong: {self._sum}",
                    context,
                    is_too_much=Status.UNEXPECTED in self.counts,
                )
        return unreadable("a medium of the bundle", context)

    @property
    def _sum(self) -> str:
        return ", ".join(f"{count} {_IN_WORDS[status]}" for status, count in self.counts.items())


@dataclass
class _Findings:
    """All are counted, some are kept."""

    listed: list[Finding] = field(default_factory=list)
    counts: Counter[Status] = field(default_factory=Counter)

    def add(self, volume: Volume | str, path: str, status: Status, detail: str) -> None:
        if len(self.listed) < LISTED:
            name = volume if isinstance(volume, str) else volume.name
            self.listed.append(Finding(name, printable(path), status, detail))
        self.counts[status] += 1


def check_content(
    media: Media,
    named: Mapping[str, Blob],
    index: Index,
    *,
    report: Report,
    workers: int | None = None,
) -> ContentReport:
    """Compare every file on the media with what it should be, byte by byte.

    Args:
        named: path in the bundle -> blob, of the files that the signed manifest names; they lie on
            every volume.
        index: checked by `index.check`.
        workers: threads that hash; as many as there are processors if None.
    """
    findings, tasks = _look(media, named, index)
    sound = hash_files(tasks, report=report, workers=workers or os.cpu_count() or 1)
    names = {task.blob.sha256: task.path for task in tasks}
    for task, status, detail in sound.wrong:
        known = names.get(detail) if status is Status.DIGEST_DIFFERS else None
        said = f"holds the bytes of {known}" if known else _other_bytes(status, detail)
        findings.add(task.volume, task.path, status, said)
    return _reported(media, findings, sound.files, sound.size)


def check_sizes(media: Media, named: Mapping[str, Blob], index: Index) -> ContentReport:
    """The part of `check_content` that reads no blob: missing, truncated, longer, unexpected."""
    findings, _ = _look(media, named, index)
    return _reported(media, findings, 0, 0)


def locate_damage(media: Media, carried: Carried) -> tuple[Finding, ...]:
    """Which chunks of an object are wrong, and on which volumes, after its digest was; reads it."""
    findings = _Findings()
    for blob in carried.chunks:
        path = f"{BLOBS}/{blob.sha256}"
        volume = media.volume_of(blob.sha256)
        if volume is None:
            findings.add(media.place_of(blob.sha256), path, Status.MISSING, _NOT_THERE)
            continue
        status, detail = hash_file(Task(volume, path, blob, 0, 0))
        if status is not Status.OK:
            findings.add(volume, path, status, _other_bytes(status, detail))
    return tuple(findings.listed)


def _other_bytes(status: Status, detail: str) -> str:
    return f"its bytes hash to {detail}" if status is Status.DIGEST_DIFFERS else detail


def _reported(media: Media, findings: _Findings, files: int, size: int) -> ContentReport:
    missing = tuple(label.missing() for label in media.missing_volumes)
    return ContentReport(files, size, tuple(findings.listed), dict(findings.counts), missing)


def _look(media: Media, named: Mapping[str, Blob], index: Index) -> tuple[_Findings, list[Task]]:
    """What names and sizes tell, and what remains to be hashed."""
    findings, tasks = _Findings(), list[Task]()
    chunks = {f"{BLOBS}/{digest}": blob for digest, blob in indexes.chunks(index).items()}
    seen, unreadable_places = set[str](), set[str]()
    for volume in media.volumes:
        look = _Look(volume, media.head, {**chunks, **named}, findings)
        try:
            here = look.names()
        except OSError as error:
            findings.add(volume, ".", Status.UNREADABLE, error.strerror or str(error))
            unreadable_places.add(volume.name)
            continue
        tasks += [task for path in here if (task := look.task(path)) is not None]
        for path in sorted(named.keys() - here):
            findings.add(volume, path, Status.MISSING, _NOT_THERE)
        seen |= here
    away = {blob for label in media.missing_volumes for blob in label.share.blobs}
    for path in sorted(chunks.keys() - seen - named.keys()):
        digest = chunks[path].sha256
        place = media.place_of(digest)
        if digest not in away and place not in unreadable_places:
            findings.add(place, path, Status.MISSING, _NOT_THERE)
    return findings, tasks


class _Look:
    """One volume: which of the expected files are there, and what else is."""

    def __init__(
        self,
        volume: Volume,
        head: Mapping[str, bytes],
        expected: Mapping[str, Blob],
        findings: _Findings,
    ) -> None:
        self._volume, self._expected, self._findings = volume, expected, findings
        # The head was read when the media were opened, and is judged by whoever asked for this.
        self._head = {*head, *([VOLUME] if volume.label else [])}
        self._folders = _parents((*self._head, *expected))

    def names(self) -> set[str]:
        """Expected paths that exist; all others become findings. Raises OSError."""
        here = set()
        for folder in sorted(self._folders):
            for name in self._volume.folder.names(folder):
                path = f"{folder}/{name}" if folder else name
                if path in self._expected:
                    here.add(path)
                elif path in self._folders:
                    self._require_folder(path)
                elif path not in self._head:
                    self._unexpected(path)
        return here

    def task(self, path: str) -> Task | None:
        """What to hash; None if it is clear already that it is wrong."""
        blob = self._expected[path]
        try:
            entry = self._volume.folder.look(path)
        except OSError as error:
            facts = error.strerror or str(error)
            self._findings.add(self._volume, path, Status.UNREADABLE, facts)
            return None
        if entry is None or not entry.regular:
            kind = entry.kind if entry else "gone"
            self._findings.add(self._volume, path, Status.UNEXPECTED, f"is {kind}, not a file")
            return None
        if entry.size != blob.size:
            facts = f"has {entry.size} bytes, not {blob.size}"
            self._findings.add(self._volume, path, Status.SIZE_DIFFERS, facts)
            return None
        return Task(self._volume, path, blob, entry.device, entry.inode)

    def _require_folder(self, path: str) -> None:
        entry = self._volume.folder.look(path)
        if entry is None or entry.kind != "a folder":
            kind = entry.kind if entry else "gone"
            self._findings.add(self._volume, path, Status.UNEXPECTED, f"is {kind}, not a folder")

    def _unexpected(self, path: str) -> None:
        detail = "does not belong to the bundle"
        if len(self._findings.listed) < LISTED:
            entry = self._volume.folder.look(path)
            detail = f"{entry.kind if entry else 'a name'} that does not belong to the bundle"
        if _of_a_system(path):
            detail += f"; an operating system made it: {_OWN_FOLDER}"
        self._findings.add(self._volume, path, Status.UNEXPECTED, detail)


def _parents(paths: Iterable[str]) -> set[str]:
    """Every folder above the paths; the bundle's own is the empty string."""
    found = {""}
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return found


def _of_a_system(path: str) -> bool:
    name = PurePosixPath(path).name.casefold()
    return name in _OF_SYSTEMS or name.startswith(_OF_SYSTEMS_STARTS)


def _refused(
    reference: str, message: str, context: str, *, is_too_much: bool = False
) -> VerificationRefused:
    own = "take away what is too many, and " if is_too_much else ""
    if _OWN_FOLDER in context:
        own = f"{_OWN_FOLDER}, and "
    return VerificationRefused(
        reference,
        message,
        context=context,
        hint=f"{own}give all volumes, each copied again if it is named here, then: {COMMAND}",
        fault=Fault.HOST,
    )
