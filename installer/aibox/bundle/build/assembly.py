"""Writing a bundle: what was gathered becomes objects, an index, a description and a head.

The same gathered material is written twice: once without signatures, as far as one release needs
it, for the proof that its services start from it; and once as the bundle that leaves the house.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aibox import digest, objects
from aibox.bundle import index as indexes
from aibox.bundle import inventory
from aibox.bundle import program as programs
from aibox.bundle.build import sbom
from aibox.bundle.inventory import ProgramParts
from aibox.bundle.layout import BLOBS, MANIFEST, REVOCATIONS, SSH_SIGNATURE, BundleLayout
from aibox.bundle.manifest import (
    FORMAT,
    Absent,
    Description,
    Index,
    Program,
    ProgramFile,
    ProgramListing,
    Proof,
    Reason,
    ReleaseEntry,
    SignatureCheck,
)
from aibox.bundle.program import Files
from aibox.bundle.trust import signing
from aibox.bundle.trust.head import Head
from aibox.bundle.volumes import order_of
from aibox.bundle.writer import BundleWriter, Source
from aibox.lock import ModelsLock
from aibox.pins import Blob
from aibox.release import Release


@dataclass(frozen=True, slots=True)
class Gathered:
    """Everything a bundle is made of, on this machine.

    Attributes:
        titles: what people call each profile.
        program: the project's own files; `listing` names them with wheels and interpreters.
        sources: digest -> the file that holds the object.
        licences: of system packages whose pin does not know theirs, by digest.
        derived: files made from package sets, by path in a generation's tree.
        held, brought: digests the box has already, and those its operator brings.
    """

    lock: ModelsLock
    releases: tuple[Release, ...]
    architectures: tuple[str, ...]
    pythons: tuple[str, ...]
    version: str
    program: Files
    listing: ProgramListing
    stated: Mapping[str, tuple[str, str]]
    sources: Mapping[str, Path]
    titles: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, str] = field(default_factory=dict)
    derived: tuple[ProgramFile, ...] = ()
    held: frozenset[str] = frozenset()
    brought: frozenset[str] = frozenset()
    upstream: tuple[SignatureCheck, ...] = ()
    proofs: tuple[Proof, ...] = field(default=())

    def needed(self) -> dict[str, Blob]:
        """Every object of the releases and of the program, by digest."""
        placed = [
            item
            for release in self.releases
            for machine in self.architectures
            for item in objects.of_release(release, machine)
        ]
        program = (*self.listing.files, *self.listing.wheels, *self.derived)
        blobs = [
            *(Blob(sha256=item.sha256, size=item.size) for item in placed),
            *(Blob(sha256=item.sha256, size=item.size) for item in program),
            *(blob for release in self.releases for blob in fitting(release, self)),
            *self.listing.interpreters.values(),
        ]
        return {blob.sha256: blob for blob in blobs}


@dataclass(frozen=True, slots=True)
class Made:
    """A written bundle: its folders (several when divided), digest of bundle.json, description."""

    folders: tuple[Path, ...]
    bundle: str
    description: Description


def write(
    gathered: Gathered,
    folder: Path,
    *,
    sign: Path | None,
    volume_bytes: int | None = None,
    on_bytes: Callable[[int], None] = lambda _count: None,
) -> Made:
    """Write the bundle to `folder`; signed with the keys in `sign`, or by nobody.

    Raises what `BundleWriter`, `index.check` and `signing` raise.
    """
    needed = gathered.needed()
    with BundleWriter(folder, modified=_modified(gathered.lock), on_bytes=on_bytes) as writer:
        carried = writer.add_objects(
            [
                Source(gathered.sources[sha256], sha256, blob.size)
                for sha256, blob in sorted(needed.items())
                if sha256 not in gathered.held and sha256 not in gathered.brought
            ]
        )
        index = indexes.make(carried, _absent(gathered, needed))
        description, named = _describe(gathered, writer, index, needed)
        indexes.check(index, named.values(), needed.values())
        head = _signed(sign, description, named, gathered.lock.sequence)
        folders = writer.finish(
            _files(head),
            shared=[blob.sha256 for path, blob in named.items() if path.startswith(f"{BLOBS}/")],
            volume_bytes=volume_bytes,
            order=order_of(programs.digests(gathered.listing), carried),
        )
    return Made(folders, digest.of_bytes(head.manifest), description)


def fitting(release: Release, gathered: Gathered) -> list[Blob]:
    """The builds of the release's packages for the bundle's interpreters and architectures."""
    return [
        Blob(sha256=file.sha256, size=file.size)
        for wheel in release.wheels
        for file in wheel.files
        if objects.fits(file.filename, gathered.pythons, gathered.architectures)
    ]


def _absent(gathered: Gathered, needed: Mapping[str, Blob]) -> list[Absent]:
    reasons = dict.fromkeys(gathered.brought, Reason.OPERATOR)
    reasons |= dict.fromkeys(gathered.held, Reason.HELD)
    return [
        Absent(sha256=sha256, size=blob.size, reason=reasons[sha256])
        for sha256, blob in needed.items()
        if sha256 in reasons
    ]


def _describe(
    gathered: Gathered, writer: BundleWriter, index: Index, needed: Mapping[str, Blob]
) -> tuple[Description, dict[str, Blob]]:
    """The description, and everything it rests on written: path in the bundle -> blob."""
    parts = inventory.take(
        gathered.releases,
        ProgramParts(gathered.version, gathered.listing, gathered.stated),
        needed.keys(),
        gathered.licences,
        gathered.derived,
    )
    listing = writer.add_bytes(digest.canonical_json(gathered.listing.model_dump(mode="json")))
    entries = tuple(_entry(release, gathered, writer) for release in gathered.releases)
    index_blob = writer.add_bytes(indexes.dump(index))
    bill = writer.add_bytes(sbom.make(parts, gathered.releases, gathered.lock))
    named = {
        f"{BLOBS}/{blob.sha256}": blob
        for blob in (listing, index_blob, bill, *(entry.manifest for entry in entries))
    }
    named |= _open_files(gathered, writer)
    lock = digest.of_json(gathered.lock.model_dump(mode="json"))
    description = Description(
        format=FORMAT,
        program=Program(version=gathered.version, listing=listing),
        created=gathered.lock.date,
        lock=lock,
        content=digest.of_json([lock, _program(gathered), [entry.id for entry in entries]]),
        architectures=gathered.architectures,
        pythons=gathered.pythons,
        releases=entries,
        index=index_blob,
        sbom=bill,
        components=inventory.components(parts),
        derived=gathered.derived,
        size=sum(blob.size for blob in needed.values()),
        carried=sum(item.size for item in index.carried),
        proofs=gathered.proofs,
        upstream=gathered.upstream,
    )
    return description, named


def _program(gathered: Gathered) -> str:
    """The digest of the project's own files: all of the program that the lock does not tell.

    Not of the listing: a delta has the packages and the interpreter of one host, and its content
    is that of the bundle for all.
    """
    files = {file.path: [file.executable, file.sha256] for file in gathered.listing.files}
    return digest.of_json(files)


def _entry(release: Release, gathered: Gathered, writer: BundleWriter) -> ReleaseEntry:
    return ReleaseEntry(
        id=release.id,
        profile=release.profile,
        title=gathered.titles.get(release.profile, release.profile),
        runtime=release.runtime,
        manifest=writer.add_bytes(release.manifest()),
        requires=release.requires,
        hardware=release.hardware,
    )


def _open_files(gathered: Gathered, writer: BundleWriter) -> dict[str, Blob]:
    files = programs.first_steps(
        gathered.program, gathered.listing, gathered.pythons, gathered.architectures
    )
    return {
        path: writer.add_open_file(path, data, executable=executable)
        for path, (data, executable) in files.items()
    }


def _signed(
    sign: Path | None, description: Description, named: Mapping[str, Blob], sequence: int
) -> Head:
    if sign is None:
        return signing.unsigned_manifest(description, named, sequence)
    return signing.sign_manifest(sign, description, named, sequence)


def _files(head: Head) -> dict[str, bytes]:
    """The head as files of a bundle."""
    layout = BundleLayout(Path())
    files = {MANIFEST: head.manifest}
    if head.ssh_signature is not None:
        files[SSH_SIGNATURE] = head.ssh_signature
    if head.revocations is not None:
        files[REVOCATIONS] = head.revocations
    roots = {layout.root_metadata(version).as_posix(): data for version, data in head.roots.items()}
    return files | roots


def _modified(lock: ModelsLock) -> int:
    """The time of every file: the day of the lock, so that two builds are the same."""
    moment = datetime.datetime.combine(lock.date, datetime.time(), datetime.UTC)
    return int(moment.timestamp())
