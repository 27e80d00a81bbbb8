"""What can be wrong with an image, as values; and what is worth telling without being wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from aibox.errors import Fault, VerificationRefused

SHOWN = 5
"""Problems that a refusal quotes."""


class ProblemKind(StrEnum):
    """What is wrong; each is a reason to refuse the image."""

    MANIFEST = "malformed manifest"
    CONFIG = "malformed configuration"
    MEDIA_TYPE = "unknown media type"
    SCHEMA_1 = "manifest of schema 1"
    FOREIGN_LAYER = "layer that lies elsewhere"
    TOO_LARGE = "too large"
    LAYER_COUNT = "number of layers"
    PIN = "not what its pin says"
    PLATFORM = "another platform"
    ENVIRONMENT = "forbidden environment variable"
    MISSING = "missing"
    DIGEST = "other bytes than its digest"
    DIFF_ID = "other content than its configuration names"
    COMPRESSION = "compression"
    TAR = "damaged archive"
    HEADER = "oversized header"
    BOMB = "expands beyond its limits"
    MEMBERS = "too many members"
    NAME = "forbidden name"
    TYPE = "forbidden type of file"
    DEVICE = "device node"
    HARD_LINK = "hard link out of the image"
    DUPLICATE = "member given twice"
    BELOW_FILE = "member below something that is no folder"
    WHITEOUT = "malformed whiteout"
    ATTRIBUTE = "forbidden extended attribute"


class NoteKind(StrEnum):
    """What a reviewer may want to know."""

    SET_ID = "runs with the rights of its owner (setuid, setgid)"
    CAPABILITY = "file capabilities"
    DEVICE = "device node that every container has"
    FIFO = "named pipe"


@dataclass(frozen=True, slots=True)
class Problem:
    """`where` names the part of the image (`layer 3: etc/passwd`), `detail` the fact."""

    kind: ProblemKind
    where: str
    detail: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Note:
    """How often something was met in a layer (counted from 1), and its first example."""

    kind: NoteKind
    layer: int
    count: int
    example: str


class Unfit(Exception):
    """A problem that ends the reading of a part; never leaves this package."""

    def __init__(self, kind: ProblemKind, where: str, detail: str) -> None:
        self.problem = Problem(kind, where, detail)
        super().__init__(str(self.problem))


def refuse(name: str, problems: Sequence[Problem]) -> None:
    """Raise `VerificationRefused` (`image-refused`) when there is any problem."""
    if not problems:
        return
    shown = "; ".join(str(problem) for problem in problems[:SHOWN])
    more = len(problems) - SHOWN
    raise VerificationRefused(
        "image-refused",
        f"the image {name} is not fit to be loaded",
        context=shown + (f"; and {more} more" if more > 0 else ""),
        hint="ask whoever made the image, or choose another; then: ./aibox lock",
        fault=Fault.UPSTREAM,
    )
