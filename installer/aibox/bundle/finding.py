"""What is found out about one file of a bundle, as a value: for reports and for refusals."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aibox.errors import Failed, Fault

COMMAND = "./aibox bundle verify BUNDLE"


class Status(StrEnum):
    """How a file compares with what the signed manifest and its index say."""

    OK = "ok"
    MISSING = "missing"
    SIZE_DIFFERS = "size-differs"
    DIGEST_DIFFERS = "digest-differs"
    UNREADABLE = "unreadable"
    UNEXPECTED = "unexpected"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `path` lies below `volume`, a volume's name and folder."""

    volume: str
    path: str
    status: Status
    detail: str

    def __str__(self) -> str:
        return f"{self.volume}: {self.path}: {self.status.value}: {self.detail}"


def printable(name: str) -> str:
    """A name from the media for a terminal: control characters and odd bytes are spelt out."""
    return name if name.isprintable() else ascii(name)[1:-1]


def unreadable(where: str, error: OSError | str) -> Failed:
    """The medium fails or is gone. Nothing is wrong with the bundle as far as anybody knows."""
    return Failed(
        "source-unreadable",
        f"{where} cannot be read",
        context=error if isinstance(error, str) else error.strerror or str(error),
        hint="check the medium and its connection, then give the same command again, it goes on"
        f" where it stopped; whether the medium is sound tells: {COMMAND}",
        fault=Fault.HOST,
    )
