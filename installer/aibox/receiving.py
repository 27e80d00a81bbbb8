"""Receive: from media to a release that may be believed, with nothing changed.

In this order: the head is read and its signatures are judged; the index and the release are read
and compared with the digests in the head; names and sizes of everything on the media are compared
with the index. The bytes of the other objects are hashed once, while they are taken into the store.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

from pydantic import ValidationError

from aibox import digest, objects, release, trusting
from aibox.box import gpus
from aibox.box.trust_store import TrustStore
from aibox.bundle import checking, index
from aibox.bundle.checking import ContentReport
from aibox.bundle.finding import Status, printable, unreadable
from aibox.bundle.layout import (
    BLOBS,
    INDEX_LIMIT,
    MANIFEST,
    MANIFEST_LIMIT,
    REVOCATIONS,
    SSH_SIGNATURE,
    root_version,
)
from aibox.bundle.manifest import Carried, Description, Index, ProgramListing, ReleaseEntry
from aibox.bundle.media import Media
from aibox.bundle.source import Opener, opener
from aibox.bundle.trust.head import Head, Unverified, Verified, read_unverified
from aibox.errors import BadUsage, Fault, VerificationRefused
from aibox.objects import Placed
from aibox.pins import Blob
from aibox.profile_choice import Candidate, ProfileMissing, propose
from aibox.progress import Progress, Report
from aibox.record import Provenance
from aibox.release import Release

STEP = "verify"
PROGRAM = "program"
"""Folder of a generation's tree that holds the command line as its bundle carried it."""

_RELEASE_LIMIT = 32 << 20
_BYTES_DIFFER = frozenset({"blob-refused", "artifact-differs"})
# What `--allow-unsigned` lets pass: nobody known vouches for it. What somebody revoked, replayed
# or signed twice is refused all the same.
_WITHOUT_VOUCHER = frozenset(
    {
        "bundle-unsigned",
        "bundle-key-unknown",
        "bundle-signature-wrong",
        "bundle-too-few-keys",
        "root-not-trusted",
    }
)


@dataclass(frozen=True, slots=True)
class Terms:
    """What the caller brings and lets pass.

    Attributes:
        roots: files of first roots to trust, beside what the box trusts.
        weights: folders with files of models that no bundle may carry.
        allow_unsigned, allow_downgrade, allow_expired: let pass, and record, what is refused.
        partial: the copy holds only what this host lacked, as it does on one of several hosts.
    """

    roots: tuple[Path, ...] = ()
    weights: tuple[Path, ...] = ()
    allow_unsigned: bool = False
    allow_downgrade: bool = False
    allow_expired: bool = False
    partial: bool = False


@dataclass(frozen=True)
class Received:
    """An open bundle. `verified` is None when nobody vouches for it and the caller allowed that."""

    media: Media
    description: Description
    named: Mapping[str, Blob]
    index: Index
    program: ProgramListing
    verified: Verified | None
    provenance: Provenance
    carried: Mapping[str, Opener] = field(default_factory=dict)

    def blob(self, sha256: str, size: int, limit: int) -> bytes:
        """A blob that the manifest names, compared with its digest."""
        return self.media.read_blob(Blob(sha256=sha256, size=size), limit)


@contextmanager
def receive(
    trust: TrustStore, paths: Sequence[Path], terms: Terms, report: Report
) -> Iterator[Received]:
    """Open a bundle and judge its head, its index and what lies on the media.

    Raises `VerificationRefused`, `BadUsage` and `Failed` as `media`, `trust` and `checking` do.
    """
    with Media.open(paths) as media:
        report(Progress(STEP, f"the signatures of {', '.join(map(str, paths))}"))
        yield _judged(trust, media, terms, report)


def _judged(trust: TrustStore, media: Media, terms: Terms, report: Report) -> Received:
    head = head_of(media)
    verified, notices = _voucher(trust, head, terms)
    said = verified or read_unverified(head.manifest)
    for notice in notices:
        report(Progress(STEP, notice))
    description = said.description
    found = index.parse(media.read_blob(description.index, INDEX_LIMIT))
    program = _program(media, description)
    index.check(found, said.named.values(), _program_blobs(program))
    if isinstance(said, Unverified):
        trusting.refuse_revoked(trust, head, said, _digests(found))
    elif said.revocations is not None:
        said.revocations.refuse_blobs(_digests(found))
    _refuse_wrong_files(checking.check_sizes(media, said.named, found), partial=terms.partial)
    return Received(
        media=media,
        description=description,
        named=said.named,
        index=found,
        program=program,
        verified=verified,
        provenance=Provenance(
            bundle=media.bundle,
            sequence=said.sequence,
            signed_by=tuple(signer.key_id for signer in verified.signers) if verified else (),
            notices=notices,
        ),
        carried=_openers(media, found, terms),
    )


def _refuse_wrong_files(found: ContentReport, *, partial: bool) -> None:
    """Volumes may be missing: what is here can be taken in before the next one is brought.

    Of a partial copy any object may be; what nobody has is refused when it is needed.
    """
    passed = {Status.MISSING} if partial else set()
    problems = tuple(item for item in found.problems if item.status not in passed)
    counts = {status: count for status, count in found.counts.items() if status not in passed}
    replace(found, missing_volumes=(), problems=problems, counts=counts).require()


def head_of(media: Media) -> Head:
    """The head that media hold, for whoever judges it."""
    held = media.head
    roots = {version: data for path, data in held.items() if (version := root_version(path))}
    return Head(held[MANIFEST], held.get(SSH_SIGNATURE), roots, held.get(REVOCATIONS))


def _voucher(
    trust: TrustStore, head: Head, terms: Terms
) -> tuple[Verified | None, tuple[str, ...]]:
    given = [_read_root(path) for path in terms.roots]
    try:
        verified = trusting.verify_head(
            trust,
            head,
            roots_given=given,
            now=datetime.datetime.now(datetime.UTC),
            allow_downgrade=terms.allow_downgrade,
            allow_expired=terms.allow_expired,
        )
    except VerificationRefused as refusal:
        if not (terms.allow_unsigned and refusal.reference in _WITHOUT_VOUCHER):
            raise
        return None, (f"nobody vouches for this bundle ({refusal.message}); you allowed it",)
    return verified, tuple(notice.message for notice in verified.warnings)


def _read_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MANIFEST_LIMIT + 1)
    except OSError as error:
        raise BadUsage(
            "root-unreadable",
            f"{path} cannot be read: {error.strerror}",
            hint="name the file 1.root.json that came with the delivery note: "
            "./aibox trust add ROOT",
            fault=Fault.YOU,
        ) from error


def _digests(found: Index) -> set[str]:
    """Every object and every blob, carried or not."""
    carried = {item.sha256 for item in found.carried}
    return carried | {item.sha256 for item in found.absent} | index.chunks(found).keys()


def _program(media: Media, description: Description) -> ProgramListing:
    listing = description.program.listing
    try:
        return ProgramListing.model_validate_json(media.read_blob(listing, INDEX_LIMIT))
    except ValidationError as error:
        raise _malformed("the listing of the program", _first_line(error)) from error


def _program_blobs(program: ProgramListing) -> list[Blob]:
    files = (*program.files, *program.wheels)
    return [
        *(Blob(sha256=file.sha256, size=file.size) for file in files),
        *program.interpreters.values(),
    ]


def _openers(media: Media, found: Index, terms: Terms) -> dict[str, Opener]:
    """How to open each object that is at hand: on the media, or brought by the operator."""
    openers: dict[str, Opener] = {
        item.sha256: partial(media.open_object, item)
        for item in found.carried
        if not (media.missing_volumes or terms.partial) or _is_here(media, item)
    }
    wanted = {item.sha256: item.size for item in found.absent}
    return openers | {
        sha256: opener(path) for sha256, path in _brought(terms.weights, wanted).items()
    }


def partly(received: Received) -> dict[str, Opener]:
    """How to open the objects of which some chunks are on volumes that are not here."""
    media = received.media
    if not media.missing_volumes:
        return {}
    return {
        item.sha256: partial(media.open_object, item)
        for item in received.index.carried
        if item.sha256 not in received.carried and len(item.chunks) > 1
    }


def volumes_with(received: Received, held: Mapping[str, int]) -> tuple[str, ...]:
    """The volumes that are not here and hold what objects lack, of which `held` bytes are had."""
    wanted = {
        chunk.sha256
        for item in received.index.carried
        if item.sha256 in held
        for chunk, end in zip(item.chunks, _ends(item), strict=True)
        if end > held[item.sha256] or not item.size
    }
    return tuple(
        label.missing()
        for label in received.media.missing_volumes
        if wanted.intersection(label.share.blobs)
    )


def _ends(item: Carried) -> Iterator[int]:
    return accumulate(chunk.size for chunk in item.chunks)


def _is_here(media: Media, item: Carried) -> bool:
    return all(media.volume_of(chunk.sha256) is not None for chunk in item.chunks)


def _brought(folders: Sequence[Path], wanted: Mapping[str, int]) -> dict[str, Path]:
    """The operator's files that are wanted objects; those of a fitting size are hashed."""
    sizes, found = set(wanted.values()), dict[str, Path]()
    for folder in folders:
        if not folder.is_dir():
            raise BadUsage(
                "weights-not-found",
                f"{folder} is not a folder",
                hint="name the folder with the model's files: "
                "./aibox install --bundle BUNDLE --weights FOLDER",
                fault=Fault.YOU,
            )
        for sha256, path in _hashed(folder, sizes):
            found.setdefault(sha256, path)
    return {sha256: path for sha256, path in found.items() if sha256 in wanted}


def _hashed(folder: Path, sizes: Collection[int]) -> Iterator[tuple[str, Path]]:
    """Digest and path of the files of one of these sizes; `Failed` when a medium fails."""
    path = folder
    try:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.stat().st_size in sizes:
                with path.open("rb", buffering=0) as stream:
                    yield digest.of_stream(stream)[0], path
    except OSError as error:
        raise unreadable(printable(str(path)), error) from error


def release_of(received: Received, profile: str | None, architecture: str) -> Release:
    """The release of a profile for this host; the only one when no profile is named.

    Raises `BadUsage` (`bundle-lacks-profile`, `profile-missing` with a proposal where there are
    several, `bundle-for-another-architecture`, `bundle-for-another-python`), and as
    `whole_release` does.
    """
    entry = _entry_of(received.description, profile)
    _refuse_other_host(received.description, architecture)
    return whole_release(received, entry, architecture)


def whole_release(received: Received, entry: ReleaseEntry, architecture: str) -> Release:
    """A release of the bundle, with every object it needs in the index, whatever host this is.

    Raises `VerificationRefused`: `bundle-malformed`, `release-unresolved`, `index-incomplete`.
    """
    manifest = entry.manifest
    made = _parsed(received.blob(manifest.sha256, manifest.size, _RELEASE_LIMIT))
    if (made.id, made.profile) != (entry.id, entry.profile):
        raise _malformed("a release", "it is another one than bundle.json says")
    _refuse_unresolved(made)
    builds = (
        file
        for wheel in made.wheels
        for file in wheel.files
        if objects.fits(file.filename, received.description.pythons, (architecture,))
    )
    needed = (
        *objects.of_release(made, architecture),
        *objects.wheels(builds),
        *derived(received, architecture),
    )
    _refuse_misplaced(received.description, needed)
    index.check(received.index, received.named.values(), map(_blob, needed))
    return made


def _refuse_misplaced(description: Description, needed: Iterable[Placed]) -> None:
    """What is not in a release adds nothing to it, and takes no file's place."""
    for file in description.derived:
        if not file.path.startswith(objects.PACKAGES):
            raise _malformed("a release", f"{file.path} does not belong to its packages")
    places: dict[str, str] = {}
    for item in needed:
        if places.setdefault(item.path, item.sha256) != item.sha256:
            raise _malformed("a release", f"{item.path} is two files")


def _entry_of(description: Description, profile: str | None) -> ReleaseEntry:
    entries = {entry.profile: entry for entry in description.releases}
    name = profile or next(iter(entries))
    if profile is None and len(entries) > 1:
        raise ProfileMissing(propose(map(_candidate, description.releases), gpus.detect()))
    if name not in entries:
        raise BadUsage(
            "bundle-lacks-profile",
            f"the bundle has no release for the profile {name!r}",
            context=f"it has: {', '.join(entries)}",
            hint=f"name one of them: ./aibox install --profile {next(iter(entries))}",
            fault=Fault.YOU,
        )
    return entries[name]


def _candidate(entry: ReleaseEntry) -> Candidate:
    return Candidate(entry.profile, entry.title, entry.runtime, entry.requires, entry.hardware)


def _parsed(manifest: bytes) -> Release:
    try:
        made = release.Release.model_validate_json(manifest)
    except ValidationError as error:
        raise _malformed("a release", _first_line(error)) from error
    if made.format != release.FORMAT:
        raise _malformed("a release", f"it has format {made.format}, not {release.FORMAT}")
    return made


def _refuse_other_host(description: Description, architecture: str) -> None:
    if architecture not in description.architectures:
        raise BadUsage(
            "bundle-for-another-architecture",
            f"this host is {architecture}; the bundle is for "
            f"{', '.join(description.architectures)}",
            hint="ask for one for this host, made with: "
            f"./aibox bundle build --architecture {architecture}",
            fault=Fault.YOU,
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in description.pythons:
        raise BadUsage(
            "bundle-for-another-python",
            f"this command runs on Python {version}; the bundle has packages for "
            f"{', '.join(description.pythons)}",
            hint="use the command line in the bundle, which brings what it needs: "
            "sh BUNDLE/aibox install",
            fault=Fault.YOU,
        )


def _refuse_unresolved(made: Release) -> None:
    release.refuse_unresolved(made)


def derived(received: Received, architecture: str) -> tuple[Placed, ...]:
    """What a generation from this bundle holds beside its release: the command line, indexes of
    package repositories."""
    program = received.program
    files = [
        Placed(path=f"{PROGRAM}/{file.path}", size=file.size, sha256=file.sha256)
        for file in (*program.files, *program.wheels)
    ]
    interpreter = program.interpreters.get(architecture)
    if interpreter is not None:
        path = f"{PROGRAM}-interpreter/{architecture}.tar"
        files.append(Placed(path=path, size=interpreter.size, sha256=interpreter.sha256))
    derived = [
        Placed(path=file.path, size=file.size, sha256=file.sha256)
        for file in received.description.derived
    ]
    return (*files, *derived)


def check_content(received: Received, report: Report) -> ContentReport:
    """Hash every file on the media; what `bundle verify` adds."""
    return checking.check_content(received.media, received.named, received.index, report=report)


def modified(description: Description) -> int:
    """The time that every file of the bundle has, seconds since 1970: the day of its lock."""
    moment = datetime.datetime.combine(description.created, datetime.time(), datetime.UTC)
    return int(moment.timestamp())


def first_steps(received: Received) -> dict[str, bytes]:
    """What lies open in the bundle, and its head, by path; each compared with its digest."""
    files = {
        path: received.media.read_open_file(path, blob, INDEX_LIMIT)
        for path, blob in received.named.items()
        if not path.startswith(f"{BLOBS}/")
    }
    return files | {MANIFEST: received.media.head[MANIFEST]}


@contextmanager
def explaining(received: Received) -> Iterator[None]:
    """Say in files and volumes what could only be said in digests."""
    try:
        yield
    except VerificationRefused as refusal:
        if refusal.reference not in _BYTES_DIFFER:
            raise
        raise _explained(received, refusal) from refusal


def _explained(received: Received, refusal: VerificationRefused) -> VerificationRefused:
    for item in received.index.carried:
        if item.sha256 in refusal.context:
            wrong = checking.locate_damage(received.media, item)
            here = [finding for finding in wrong if finding.status is not Status.MISSING]
            elsewhere = () if here else volumes_with(received, {item.sha256: 0})
            if here or elsewhere:
                return VerificationRefused(
                    "bundle-file-differs",
                    "a file of the bundle is not what it should be"
                    if here
                    else "a file on one of the volumes that are not here is not what it should be",
                    context="; ".join(map(str, here or elsewhere)),
                    hint="copy it again from where the bundle was written, then give the same"
                    " command again; to check all of it: ./aibox bundle verify BUNDLE",
                    fault=Fault.HOST,
                )
    return refusal


def _blob(item: Placed) -> Blob:
    return Blob(sha256=item.sha256, size=item.size)


def _first_line(error: ValidationError) -> str:
    return str(error).splitlines()[0]


def _malformed(what: str, facts: str) -> VerificationRefused:
    return VerificationRefused(
        "bundle-malformed",
        f"{what} in the bundle cannot be read",
        context=facts,
        hint="ask its maker for it again, then: ./aibox bundle verify BUNDLE",
        fault=Fault.UPSTREAM,
    )
