"""What a bundle says of itself: the part of `bundle.json` that is ours, and the index of blobs.

`bundle.json` is TUF metadata of the role `targets`: `version` is the sequence of the lock,
`targets` names the files of the first steps and the few blobs that describe the rest, and the
field `aibox` holds a `Description`. It stays small whatever the bundle holds, so that looking at
it and checking its signature take milliseconds. Every other byte hangs on the index, itself a blob
named in `targets`.
"""

from __future__ import annotations

import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field, model_validator

from aibox.hardware import Hardware
from aibox.pins import Blob, Redistribution, Size
from aibox.profile import Requires, Runtime
from aibox.schema import Model, Name, RelativePath, Sha256

FORMAT = 1


class Kind(StrEnum):
    """What a component is."""

    MODEL = "model"
    IMAGE = "image"
    PACKAGE = "package"
    WHEEL = "wheel"
    FILE = "file"
    PROJECT = "project"
    INTERPRETER = "interpreter"


class Component(Model):
    """One thing a bundle carries, for whoever asks what it is made of. `size` is in bytes."""

    kind: Kind
    name: str
    version: str
    licence: str
    redistribution: Redistribution
    owner: str
    size: Size
    files: Annotated[int, Field(ge=0)]


class ReleaseEntry(Model):
    """A release in the bundle; `manifest` is the blob whose digest is its id.

    `requires` and `hardware` repeat what it asks of a host, for whoever only looks.
    """

    id: Sha256
    profile: Name
    title: str
    runtime: Runtime
    manifest: Blob
    requires: Requires | None = None
    hardware: Hardware | None = None


class Proof(Model):
    """What the builder tried before it signed: `proven`, or `not proven` and why."""

    what: str
    proven: bool
    reason: str = ""


class SignatureCheck(Model):
    """A signature of somebody upstream that the builder checked: over what, by which key."""

    what: str
    signed_by: str
    method: str


class ProgramFile(Model):
    """A file by its path, whether it is executable, and its object."""

    path: RelativePath
    executable: bool = False
    sha256: Sha256
    size: Size


class Program(Model):
    """The command line in the bundle. `listing` is a `ProgramListing`."""

    version: str
    listing: Blob


class Description(Model):
    """The field `aibox` of bundle.json.

    `content` is the digest of lock and releases: a delta and a full bundle of one state agree on
    it, and two bundles of one sequence must. `size` counts all objects, `carried` those inside.
    `derived` are files that were made from the objects of the releases (indexes of package
    repositories), by path in a generation's tree.
    """

    format: int
    program: Program
    created: datetime.date
    lock: Sha256
    content: Sha256
    architectures: tuple[str, ...]
    pythons: tuple[str, ...]
    releases: Annotated[tuple[ReleaseEntry, ...], Field(min_length=1)]
    index: Blob
    sbom: Blob
    components: tuple[Component, ...]
    derived: tuple[ProgramFile, ...] = ()
    size: Size
    carried: Size
    proofs: tuple[Proof, ...] = ()
    upstream: tuple[SignatureCheck, ...] = ()


class Reason(StrEnum):
    """Why an object of the releases is not in the bundle."""

    HELD = "held by the box"
    OPERATOR = "brought by the operator"


class Carried(Model):
    """An object and the blobs it is cut into, in order; one blob of its own name if small."""

    sha256: Sha256
    size: Size
    chunks: tuple[Blob, ...]

    @model_validator(mode="after")
    def _chunks_make_up_the_object(self) -> Carried:
        if sum(chunk.size for chunk in self.chunks) != self.size:
            raise ValueError("the sizes of its chunks do not add up")
        if len(self.chunks) == 1 and self.chunks[0].sha256 != self.sha256:
            raise ValueError("an object of one chunk has the chunk's digest")
        return self


class Absent(Model):
    """An object that the box must already hold, or the operator must bring."""

    sha256: Sha256
    size: Size
    reason: Reason


class Index(Model):
    """Every object of the releases, sorted by digest: carried here, or absent and why."""

    format: int
    carried: tuple[Carried, ...]
    absent: tuple[Absent, ...] = ()


class ProgramListing(Model):
    """The command line's own tree and wheels, and an interpreter per architecture (a tar)."""

    format: int
    files: tuple[ProgramFile, ...]
    wheels: tuple[ProgramFile, ...]
    interpreters: dict[str, Blob] = Field(default_factory=dict)
