"""Gather: everything a bundle is made of, brought to this machine and checked.

Fetched bytes come into the download cache by digest, so that a build that was killed goes on, and
the next one fetches nothing. What is made of them here (package repositories, interpreters) is
made the same way every time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from aibox import __version__, digest, objects
from aibox.box import wheel_file
from aibox.box import wheels as index
from aibox.box.wheels import WheelPin
from aibox.bundle import program as programs
from aibox.bundle.build import (
    admission,
    checkout,
    deb_file,
    download,
    driver_proof,
    hub,
    interpreter,
    mirrors_file,
    package_key,
    registry,
    repository,
    system_packages,
)
from aibox.bundle.build.assembly import Gathered
from aibox.bundle.build.cache import BlobCache, default_folder
from aibox.bundle.images import check as image_check
from aibox.bundle.images import problems as image_problems
from aibox.bundle.manifest import ProgramFile, Proof, SignatureCheck
from aibox.bundle.source import Checkout
from aibox.content import Content
from aibox.lock import ModelsLock, Wheel, WheelFile
from aibox.pins import Blob, FilePin, ImagePin, PackageFormat, PackageSet
from aibox.progress import Meter, Progress, Report
from aibox.release import Release

STEP = "fetch"
AGAIN = "./aibox bundle build"
SHOWN = 5
"""Names that a line of progress tells."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What of the releases is wanted.

    Attributes:
        without: models that the operator brings.
        sign: folder of the signing keys; package repositories are signed with a key from it.
        mirrors, hub_token: files that say where packages come from, and who asks the hub.
    """

    architectures: tuple[str, ...]
    pythons: tuple[str, ...]
    without: frozenset[str] = frozenset()
    sign: Path | None = None
    mirrors: Path | None = None
    hub_token: Path | None = None


def gather(
    content: Content,
    lock: ModelsLock,
    releases: tuple[Release, ...],
    scope: Scope,
    report: Report,
) -> Gathered:
    """Everything for these releases; raises what fetching, checking and making raise."""
    return _Gathering(content, lock, releases, scope, BlobCache(default_folder()), report).run()


@dataclass
class _Gathering:
    """One run. `sources` grows: digest -> the file that holds the object; `licences`: digest of a
    system package -> what its copyright file states."""

    content: Content
    lock: ModelsLock
    releases: tuple[Release, ...]
    scope: Scope
    cache: BlobCache
    report: Report
    sources: dict[str, Path] = field(default_factory=dict)
    proofs: list[Proof] = field(default_factory=list)
    derived: list[ProgramFile] = field(default_factory=list)
    licences: dict[str, str] = field(default_factory=dict)

    def run(self) -> Gathered:
        packed = checkout.program_files(self.content)
        if changed := checkout.uncommitted(self.content):
            self.report(Progress(STEP, f"packed as they are, uncommitted: {_few(changed)}"))
        self._project(packed)
        self._wheels(wheel for release in self.releases for wheel in release.wheels)
        listing = programs.listing(packed, self._program_wheels(), self._interpreters())
        brought = frozenset(self._models())
        for image in {image.name: image for r in self.releases for image in r.images}.values():
            self._image(image)
        for pins in self._package_sets():
            self._repository(pins)
        self._files({file.name: file for r in self.releases for file in r.files}.values())
        return Gathered(
            lock=self.lock,
            releases=self.releases,
            architectures=self.scope.architectures,
            pythons=self.scope.pythons,
            version=__version__,
            program=packed,
            listing=listing,
            stated={wheel.name: (wheel.licence, wheel.owner) for wheel in self.lock.program},
            sources=self.sources,
            derived=tuple(self.derived),
            licences=self.licences,
            brought=brought,
            upstream=tuple(self._upstream()),
            proofs=tuple(self.proofs),
        )

    # -- the project's own files ----------------------------------------------------------------

    def _project(self, packed: programs.Files) -> None:
        checked = Checkout((self.content.root,))
        for release in self.releases:
            for artifact in release.artifacts:
                self.sources[artifact.sha256] = checked.find(artifact)
        for data, _ in packed.values():
            self._put(data)

    def _put(self, data: bytes) -> Blob:
        """Bytes that were made here, as an object."""
        sha256 = self.cache.put(data)
        found = self.cache.find(sha256, len(data))
        assert found is not None
        self.sources[sha256] = found
        return Blob(sha256=sha256, size=len(data))

    # -- Python packages ------------------------------------------------------------------------

    def _program_wheels(self) -> dict[str, Blob]:
        return {
            file.filename: Blob(sha256=file.sha256, size=file.size)
            for file in self._wheels(self.lock.program)
        }

    def _wheels(self, packages: Iterable[Wheel]) -> list[WheelFile]:
        """The builds that the bundle's hosts may want, from the cache or the index."""
        pins = [
            (wheel, file)
            for wheel in packages
            for file in wheel.files
            if objects.fits(file.filename, self.scope.pythons, self.scope.architectures)
        ]
        missing = [
            WheelPin(wheel.name, wheel.version, file.filename, file.size, file.sha256)
            for wheel, file in pins
            if self.cache.find(file.sha256, file.size) is None
        ]
        with tempfile.TemporaryDirectory(prefix="aibox-wheels-") as folder:
            index.fetch(
                missing,
                Path(folder),
                lambda line: self.report(Progress(STEP, line)),
                foreign=True,
                again=AGAIN,
            )
            for pin in missing:
                # Refused here too: not only where it would be installed, months later.
                wheel_file.contents(Path(folder) / pin.filename)
                self.cache.adopt(Path(folder) / pin.filename, pin.sha256, pin.size)
        for _, file in pins:
            self._cached(file.sha256, file.size)
        return [file for _, file in pins]

    def _cached(self, sha256: str, size: int) -> None:
        found = self.cache.find(sha256, size)
        assert found is not None, sha256
        self.sources[sha256] = found

    # -- models, images, files ------------------------------------------------------------------

    def _models(self) -> Iterator[str]:
        """Fetch them; yields the digests that the operator brings instead."""
        for model in {model.name: model for r in self.releases for model in r.models}.values():
            if model.name in self.scope.without:
                yield from (file.sha256 for file in model.files if file.sha256)
                continue
            token = self.scope.hub_token
            hub.fetch(model, self.cache, self.report, token_file=token, step=STEP)
            for file in model.files:
                self._cached(file.sha256 or "", file.size or 0)

    def _image(self, image: ImagePin) -> None:
        registry.fetch(image, self.scope.architectures, self.cache, self.report)
        for machine in self.scope.architectures:
            built = objects.platform(image, machine)
            for blob in (built.manifest, built.config, *built.layers):
                self._cached(blob.sha256, blob.size)
            size = sum(blob.size for blob in (built.manifest, built.config, *built.layers))
            meter = Meter("check", f"{image.name} for {built.platform}", size, self.report)
            found = image_check.check(built, self._open, on_bytes=meter.add, workers=2)
            image_problems.refuse(image.name, found.problems)
        self._put(objects.IMAGE_VERSION)

    def _open(self, blob: Blob) -> BinaryIO:
        return self.sources[blob.sha256].open("rb")

    def _files(self, pins: Iterable[FilePin]) -> None:
        requests = [
            download.Request(pin.address, pin.sha256, pin.size, pin.filename)
            for pin in pins
            if pin.address is not None and pin.sha256 is not None and pin.size is not None
        ]
        download.fetch(requests, self.cache, self.report, step=STEP)
        for request in requests:
            self._cached(request.sha256, request.size)

    # -- packages of operating systems ----------------------------------------------------------

    def _package_sets(self) -> list[PackageSet]:
        found = {
            pins.name: pins
            for release in self.releases
            for machine in self.scope.architectures
            for pins in objects.packages(release, machine)
        }
        return list(found.values())

    def _packages(self, pins: PackageSet) -> None:
        mirrors = mirrors_file.read(self.scope.mirrors)
        system_packages.fetch(pins, self.cache, mirrors, self.report)

    def _of(self, pins: PackageSet) -> Mapping[str, Path]:
        sizes = {item.sha256: item.size for item in pins.packages}
        found = {sha256: self.cache.find(sha256, size) for sha256, size in sizes.items()}
        return {sha256: path for sha256, path in found.items() if path is not None}

    def _repository(self, pins: PackageSet) -> None:
        """The packages as an apt or dnf repository, and proof that its drivers compile."""
        self._packages(pins)
        paths = self._of(pins)
        self.sources |= paths
        if pins.format is PackageFormat.DEB:
            self.licences |= deb_file.licences(pins, paths.__getitem__, self.report)
        assert self.scope.sign is not None, "admission.require_key"
        key = package_key.load_or_make(self.scope.sign)
        made = repository.make(pins, paths.__getitem__, key, self.lock.date, self.report)
        for path, data in sorted(made.metadata.items()):
            blob = self._put(data)
            place = f"{objects.repository(pins)}/{path}"
            self.derived.append(ProgramFile(path=place, sha256=blob.sha256, size=blob.size))
        self.proofs += driver_proof.prove_all(pins, made, paths.__getitem__, self.report)

    def _interpreters(self) -> dict[str, Blob]:
        """An interpreter per architecture, where the lock has packages to make one of."""
        made = {}
        for machine, pins in self._interpreter_sets().items():
            self._packages(pins)
            made[machine] = self._interpreter(pins)
        return made

    def _interpreter_sets(self) -> dict[str, PackageSet]:
        scope = self.scope
        return admission.interpreters(self.lock, scope.architectures, scope.pythons)

    def _interpreter(self, pins: PackageSet) -> Blob:
        with tempfile.TemporaryDirectory(prefix="aibox-interpreter-") as folder:
            tar = Path(folder) / "interpreter.tar"
            interpreter.make(pins, self._of(pins).__getitem__, tar, self.report)
            with tar.open("rb") as stream:
                sha256, size = digest.of_stream(stream)
            self.cache.adopt(tar, sha256, size)
        self._cached(sha256, size)
        return Blob(sha256=sha256, size=size)

    def _upstream(self) -> Iterator[SignatureCheck]:
        """Each archive that packages come from, once."""
        sets = (*self._package_sets(), *self._interpreter_sets().values())
        for archive in dict.fromkeys(archive for pins in sets for archive in pins.archives):
            yield SignatureCheck(
                what=f"the index of {archive.label} {archive.suite}",
                signed_by=", ".join(archive.signed_by),
                method="OpenPGP, checked when models.lock was resolved",
            )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")
