"""What is fetched from elsewhere, as models.lock pins it: models, images, packages, files.

A pin is `resolved` when every byte behind it has a size and a digest. Somebody may pin a revision
whose files nobody has hashed yet; that is said (`unresolved`), completed by `aibox lock` or
`aibox bundle build`, and refused by an installation.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from aibox.schema import Model, Name, RelativePath, Sha256

Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
# Spelt out: `\w` holds the letters of all languages, and takes a tenth of a second to compile.
_WORD = "[A-Za-z0-9_.-]"
Repository = Annotated[
    str,
    StringConstraints(pattern=rf"^[A-Za-z0-9]{_WORD}{{0,95}}(/[A-Za-z0-9]{_WORD}{{0,95}})?$"),
]
# host[:port]/path[:tag], without a digest: the digest is the pin's own field.
Reference = Annotated[
    str, StringConstraints(pattern=rf"^[a-z0-9]{_WORD}*(:[0-9]+)?(/{_WORD}+)+(:{_WORD}+)?$")
]
Size = Annotated[int, Field(ge=0)]


class State(StrEnum):
    """Whether every byte behind a pin is known."""

    RESOLVED = "resolved"
    UNRESOLVED = "unresolved"


class Redistribution(StrEnum):
    """Who may hand the bytes on.

    ALLOW anybody; OPERATOR_ONLY the operator may carry them to his own machines, a bundle with
    them is not for others; FORBID no bundle may hold them: the operator brings them to the box.
    """

    ALLOW = "allow"
    OPERATOR_ONLY = "operator-only"
    FORBID = "forbid"


class Blob(Model):
    """Bytes by digest; size in bytes."""

    sha256: Sha256
    size: Size


class Pin(Model):
    """What every pin says. `source` tells where the pin was read, for whoever reviews it."""

    name: Name
    licence: str
    redistribution: Redistribution
    owner: str
    source: str
    state: State = State.RESOLVED


class ModelFile(Model):
    """One file of a model repository; size or digest are absent while they are unknown."""

    path: RelativePath
    size: Size | None = None
    sha256: Sha256 | None = None

    @property
    def known(self) -> bool:
        """Whether its bytes are pinned."""
        return self.size is not None and self.sha256 is not None


class ModelPin(Pin):
    """A model repository at one commit. `patterns` choose its files (shell patterns)."""

    repository: Repository
    revision: Commit
    gated: bool = False
    patterns: tuple[str, ...] = ()
    files: tuple[ModelFile, ...] = ()

    @model_validator(mode="after")
    def _is_what_it_says(self) -> ModelPin:
        if self.state is State.RESOLVED and not (self.files and all(f.known for f in self.files)):
            raise ValueError("a resolved model needs files, each with size and sha256")
        return self


class ImagePlatform(Model):
    """An image for one platform (`linux/amd64`): its manifest and what the manifest names.

    `requires_cuda`, `exposed_ports`, `user` repeat its configuration, for people and preflight.
    """

    platform: Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]+(/v[0-9]+)?$")]
    manifest: Blob
    config: Blob
    layers: tuple[Blob, ...]
    requires_cuda: str = ""
    exposed_ports: tuple[str, ...] = ()
    user: str = ""


class ImagePin(Pin):
    """A container image by digest: of its index where it has one, else of its manifest.

    Without a digest it is one that every packager makes himself; it is unresolved until he has.
    """

    reference: Reference
    digest: Sha256 | None = None
    platforms: tuple[ImagePlatform, ...] = ()

    @model_validator(mode="after")
    def _is_what_it_says(self) -> ImagePin:
        if self.state is State.RESOLVED and not (self.platforms and self.digest):
            raise ValueError("a resolved image needs a digest and platforms")
        return self


class PackageFormat(StrEnum):
    """The packaging system of an operating system."""

    DEB = "deb"
    RPM = "rpm"


class Package(Model):
    """One operating-system package; `path` is its place in the archive of label `archive`."""

    name: str
    version: str
    architecture: str
    archive: str = ""
    path: RelativePath
    size: Annotated[int, Field(gt=0)]
    sha256: Sha256
    licence: str = "unknown"


class Archive(Model):
    """An archive the packages came from, and who signed its index (key fingerprints, hex).

    No address: a mirror is the packager's own matter, the digests say what the bytes are.
    """

    label: str
    suite: str
    components: tuple[str, ...] = ()
    signed_by: tuple[str, ...] = ()


class PackageSet(Pin):
    """The closure of some packages on an empty system of one release (`debian-13`)."""

    format: PackageFormat
    target: Name
    architecture: str
    wanted: Annotated[tuple[str, ...], Field(min_length=1)]
    kernels: tuple[str, ...] = ()
    archives: tuple[Archive, ...] = ()
    packages: tuple[Package, ...] = ()

    @model_validator(mode="after")
    def _is_what_it_says(self) -> PackageSet:
        if self.state is State.RESOLVED and not self.packages:
            raise ValueError("a resolved package set needs packages")
        return self


class FilePin(Pin):
    """A single file at an address (a driver installer, a relocatable interpreter)."""

    address: Annotated[str, StringConstraints(pattern=r"^https?://\S+$")] | None = None
    filename: RelativePath
    size: Size | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _is_what_it_says(self) -> FilePin:
        if self.state is State.RESOLVED and (self.size is None or self.sha256 is None):
            raise ValueError("a resolved file needs size and sha256")
        return self
