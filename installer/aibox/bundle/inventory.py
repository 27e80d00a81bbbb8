"""What a bundle is made of, part by part: licence, class, owner, files. Pure.

The short list in the manifest and the SBOM are two views of it. A model is one part, whatever the
number of its files; a set of packages is as many parts as packages, a tree of the project is one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from packaging.utils import canonicalize_name, parse_wheel_filename

from aibox import digest
from aibox.bundle import licences
from aibox.bundle.manifest import Component, Kind, ProgramFile, ProgramListing
from aibox.lock import Role, Wheel
from aibox.objects import image_files
from aibox.pins import (
    Blob,
    FilePin,
    ImagePin,
    ModelPin,
    Package,
    PackageFormat,
    PackageSet,
    Redistribution,
)
from aibox.release import Artifact, Release

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PackageName:
    """The parts of a package URL (purl); `qualifiers` as it spells them."""

    type: str
    namespace: str
    name: str
    version: str
    qualifiers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """One thing in a bundle; `files` are its objects by path or name."""

    kind: Kind
    name: str
    version: str
    licence: str
    redistribution: Redistribution
    owner: str
    files: Mapping[str, Blob]
    url: PackageName | None = None

    @property
    def size(self) -> int:
        """Bytes of its different objects together."""
        return sum({blob.sha256: blob.size for blob in self.files.values()}.values())


@dataclass(frozen=True, slots=True)
class ProgramParts:
    """The command line: `stated` is (licence, owner) of its packages by name, `python` the version
    of the interpreters in the listing."""

    version: str
    listing: ProgramListing
    stated: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    python: str = UNKNOWN


def take(
    releases: Iterable[Release],
    program: ProgramParts,
    objects: Collection[str] | None = None,
    stated: Mapping[str, str] | None = None,
    derived: Iterable[ProgramFile] = (),
) -> tuple[Part, ...]:
    """All parts, sorted by kind, name and version; the same part of several releases is one.

    With `objects` (digests) only those files count, and a part without any is left out. `stated`
    are licences of system packages by digest, for those whose pin does not know theirs. `derived`
    are the indexes of package repositories.
    """
    found: dict[tuple[str, str, str], Part] = {}
    for part in (
        *_of_program(program),
        _ours("aibox-repositories", {file.path: _blob(file) for file in derived}),
        *(p for release in releases for p in _of(release, stated or {})),
    ):
        kept = _only(part, objects)
        key = (part.kind.value, part.name, part.version)
        if key in found:
            kept = replace(kept, files={**found[key].files, **kept.files})
        if kept.files:
            found[key] = kept
    return tuple(part for _, part in sorted(found.items()))


def components(parts: Iterable[Part]) -> tuple[Component, ...]:
    """The parts as the manifest lists them."""
    return tuple(
        Component(
            kind=part.kind,
            name=part.name,
            version=part.version,
            licence=part.licence,
            redistribution=part.redistribution,
            owner=part.owner,
            size=part.size,
            files=len(part.files),
        )
        for part in parts
    )


def _only(part: Part, objects: Collection[str] | None) -> Part:
    if objects is None:
        return part
    files = {name: blob for name, blob in part.files.items() if blob.sha256 in objects}
    return replace(part, files=files)


def _of(release: Release, stated: Mapping[str, str]) -> Iterator[Part]:
    for role in Role:
        artifacts = release.of_role(role)
        if artifacts:
            yield _tree(role, artifacts)
    yield from map(_wheel, release.wheels)
    yield from map(_model, release.models)
    yield from map(_image, release.images)
    for chosen in release.packages:
        yield from (_package(chosen, _known(package, stated)) for package in chosen.packages)
    yield from map(_file, release.files)


def _of_program(program: ProgramParts) -> Iterator[Part]:
    files = {file.path: _blob(file) for file in program.listing.files}
    yield _ours("aibox", files, program.version)
    for file in program.listing.wheels:
        yield _program_wheel(file.path.rsplit("/", 1)[-1], _blob(file), program.stated)
    for machine, tar in program.listing.interpreters.items():
        yield Part(
            kind=Kind.INTERPRETER,
            name=f"cpython-{machine}",
            version=program.python,
            licence="PSF-2.0",
            redistribution=licences.classify("PSF-2.0", Kind.INTERPRETER),
            owner="Python Software Foundation",
            files={f"cpython-{machine}.tar": tar},
            url=PackageName("generic", "", "cpython", program.python, (("arch", machine),)),
        )


def _ours(name: str, files: Mapping[str, Blob], version: str = "") -> Part:
    return Part(
        kind=Kind.PROJECT,
        name=name,
        version=version or content_digest(files)[:12],
        licence="Apache-2.0",
        redistribution=Redistribution.ALLOW,
        owner="aibox",
        files=files,
    )


def _blob(file: ProgramFile) -> Blob:
    return Blob(sha256=file.sha256, size=file.size)


def _program_wheel(filename: str, blob: Blob, stated: Mapping[str, tuple[str, str]]) -> Part:
    name, version, _, _ = parse_wheel_filename(filename)
    licence, owner = stated.get(canonicalize_name(name), (UNKNOWN, UNKNOWN))
    return Part(
        kind=Kind.WHEEL,
        name=name,
        version=str(version),
        licence=licence,
        redistribution=licences.classify(licence, Kind.WHEEL),
        owner=owner,
        files={filename: blob},
        url=PackageName("pypi", "", name, str(version)),
    )


def _tree(role: Role, artifacts: tuple[Artifact, ...]) -> Part:
    files = {item.target: Blob(sha256=item.sha256, size=item.size) for item in artifacts}
    stated = " AND ".join(sorted({item.licence for item in artifacts}))
    return Part(
        kind=Kind.PROJECT,
        name=f"aibox-{role.value}",
        version=content_digest(files)[:12],
        licence=stated,
        redistribution=licences.classify(stated, Kind.PROJECT),
        owner=", ".join(sorted({item.owner for item in artifacts})),
        files=files,
    )


def _wheel(wheel: Wheel) -> Part:
    return Part(
        kind=Kind.WHEEL,
        name=wheel.name,
        version=wheel.version,
        licence=wheel.licence,
        redistribution=wheel.redistribution,
        owner=wheel.owner,
        files={f.filename: Blob(sha256=f.sha256, size=f.size) for f in wheel.files},
        url=PackageName("pypi", "", wheel.name, wheel.version),
    )


def _model(pin: ModelPin) -> Part:
    namespace, _, name = pin.repository.rpartition("/")
    return Part(
        kind=Kind.MODEL,
        name=pin.name,
        version=pin.revision,
        licence=pin.licence,
        redistribution=pin.redistribution,
        owner=pin.owner,
        files={
            file.path: Blob(sha256=file.sha256, size=file.size)
            for file in pin.files
            if file.sha256 is not None and file.size is not None
        },
        url=PackageName("huggingface", namespace, name, pin.revision),
    )


def _image(pin: ImagePin) -> Part:
    repository, tag = pin.reference, ""
    if ":" in pin.reference.rsplit("/", 1)[-1]:
        repository, _, tag = pin.reference.rpartition(":")
    files = {
        f"{found.platform}/{name}": blob
        for found in pin.platforms
        for name, blob in image_files(found).items()
    }
    qualifiers = (("repository_url", repository), *((("tag", tag),) if tag else ()))
    name = repository.rsplit("/", 1)[-1]
    return Part(
        kind=Kind.IMAGE,
        name=pin.name,
        version=f"sha256:{pin.digest or UNKNOWN}",
        licence=pin.licence,
        redistribution=pin.redistribution,
        owner=pin.owner,
        files=files,
        url=PackageName("oci", "", name, f"sha256:{pin.digest or UNKNOWN}", qualifiers),
    )


def _known(package: Package, stated: Mapping[str, str]) -> Package:
    if package.licence != UNKNOWN or package.sha256 not in stated:
        return package
    return package.model_copy(update={"licence": stated[package.sha256]})


def _package(chosen: PackageSet, package: Package) -> Part:
    return Part(
        kind=Kind.PACKAGE,
        name=f"{package.name}:{package.architecture}",
        version=package.version,
        licence=package.licence,
        redistribution=_package_class(chosen, package),
        owner=chosen.owner,
        files={package.path: Blob(sha256=package.sha256, size=package.size)},
        url=_package_url(chosen, package),
    )


def _package_class(chosen: PackageSet, package: Package) -> Redistribution:
    """The set's class is its strictest package's: a free package in it is as its licence says."""
    if chosen.redistribution is Redistribution.ALLOW or package.licence == UNKNOWN:
        return chosen.redistribution
    return licences.classify(package.licence, Kind.PACKAGE)


def _package_url(chosen: PackageSet, package: Package) -> PackageName:
    distribution = chosen.target.partition("-")[0]
    facts = {"arch": package.architecture, "distro": chosen.target}
    version = package.version
    if chosen.format is PackageFormat.RPM and ":" in version:
        facts["epoch"], _, version = version.partition(":")
    qualifiers = tuple(facts.items())
    return PackageName(chosen.format.value, distribution, package.name, version, qualifiers)


def _file(pin: FilePin) -> Part:
    files = {}
    if pin.sha256 is not None and pin.size is not None:
        files = {pin.filename: Blob(sha256=pin.sha256, size=pin.size)}
    version = (pin.sha256 or UNKNOWN)[:12]
    return Part(
        kind=Kind.FILE,
        name=pin.name,
        version=version,
        licence=pin.licence,
        redistribution=pin.redistribution,
        owner=pin.owner,
        files=files,
        url=PackageName("generic", "", pin.name, version),
    )


def content_digest(files: Mapping[str, Blob]) -> str:
    """One digest over the names and digests of many files."""
    return digest.of_json({name: blob.sha256 for name, blob in files.items()})
