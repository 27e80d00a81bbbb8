"""What a volume says of the division it is part of; pure.

`volume.json` is not signed and nothing is believed from it: it only gives names to what is
missing. It is read by hand, because looking at a bundle must not wait for anything larger.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aibox import digest
from aibox.bundle.finding import COMMAND
from aibox.bundle.layout import VOLUMES_LIMIT
from aibox.bundle.sizes import show_size
from aibox.errors import Fault, VerificationRefused

if TYPE_CHECKING:
    from aibox.pins import Blob

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Share:
    """The blobs of one volume beyond those that all have; `size` is their bytes."""

    size: int
    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Label:
    """volume.json: of which bundle (digest of bundle.json), which volume, the whole division."""

    format: int
    bundle: str
    number: int
    of: int
    volumes: tuple[Share, ...]

    @property
    def name(self) -> str:
        """`volume 2 of 3`."""
        return f"volume {self.number} of {self.of}"

    @property
    def share(self) -> Share:
        """What this volume holds beyond what all hold."""
        return self.volumes[self.number - 1]

    def missing(self) -> str:
        """The name of a volume that is not there, and how much it holds."""
        return f"{self.name} (holds {len(self.share.blobs)} blobs, {show_size(self.share.size)})"

    def other(self, number: int) -> Label:
        """The label of another volume of the same division."""
        return dataclasses.replace(self, number=number)

    def number_of(self) -> dict[str, int]:
        """Blob -> number of the volume that should hold it."""
        return {
            blob: number
            for number, share in enumerate(self.volumes, start=1)
            for blob in share.blobs
        }


def labels(bundle: str, division: Sequence[Sequence[Blob]]) -> tuple[Label, ...]:
    """The label of each volume; `bundle` is the digest of bundle.json."""
    shares = tuple(
        Share(size=sum(blob.size for blob in share), blobs=tuple(blob.sha256 for blob in share))
        for share in division
    )
    return tuple(
        Label(format=FORMAT, bundle=bundle, number=number, of=len(shares), volumes=shares)
        for number in range(1, len(shares) + 1)
    )


def folder_name(label: Label) -> str:
    """`volume-02-of-12`: sorts as it counts."""
    width = max(2, len(str(label.of)))
    return f"volume-{label.number:0{width}}-of-{label.of:0{width}}"


def dump(label: Label) -> bytes:
    """The bytes of volume.json."""
    return digest.canonical_json(dataclasses.asdict(label))


def parse(data: bytes, where: str) -> Label:
    """Read a volume.json; raises `VerificationRefused` (`volume-label-invalid`)."""
    try:
        label = _label(json.loads(data))
        _refuse_contradictions(label)
    except (ValueError, RecursionError) as error:
        raise VerificationRefused(
            "volume-label-invalid",
            f"volume.json in {where} is not readable, so nobody can tell which volume this is",
            context=str(error) or "nested too deeply",
            hint=f"copy the volume again from where it was written, then: {COMMAND}",
            fault=Fault.HOST,
        ) from error
    return label


def _label(value: Any) -> Label:
    fields = _fields(value, "format", "bundle", "number", "of", "volumes")
    return Label(
        format=_number(fields["format"], 1, FORMAT),
        bundle=_digest(fields["bundle"]),
        number=_number(fields["number"], 1, VOLUMES_LIMIT),
        of=_number(fields["of"], 1, VOLUMES_LIMIT),
        volumes=tuple(map(_share, _list(fields["volumes"]))),
    )


def _share(value: Any) -> Share:
    fields = _fields(value, "size", "blobs")
    size = _number(fields["size"], 0, 1 << 63)
    return Share(size, tuple(map(_digest, _list(fields["blobs"]))))


def _refuse_contradictions(label: Label) -> None:
    if label.of != len(label.volumes) or label.number > label.of:
        raise ValueError("number, of and volumes contradict one another")
    counts = Counter(blob for share in label.volumes for blob in share.blobs)
    if counts and counts.most_common(1)[0][1] > 1:
        raise ValueError("gives a blob to two volumes")


def _fields(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise ValueError(f"must hold {', '.join(names)} and nothing else")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("a list is something else")
    return value


def _number(value: Any, least: int, greatest: int) -> int:
    if type(value) is not int or not least <= value <= greatest:
        raise ValueError(f"a number is not one from {least} to {greatest}")
    return value


def _digest(value: Any) -> str:
    if not isinstance(value, str) or not digest.is_digest(value):
        raise ValueError("a digest is not 64 hex digits")
    return value
