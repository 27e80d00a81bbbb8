"""The signed part of `bundle.json`: TUF `targets` with a `Description` in the field `aibox`.

Reading it needs no cryptography, so that looking at a bundle is quick.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from aibox.bundle.manifest import FORMAT, Description
from aibox.bundle.trust.envelope import Envelope, encode, malformed
from aibox.bundle.trust.refusals import refused
from aibox.digest import canonical_json
from aibox.pins import Blob, Size
from aibox.schema import Model, RelativePath, Sha256

SPECIFICATION = "1.0.31"
"""The version of the TUF specification that is written; others of its major version are read."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"


def _is_time(text: str) -> str:
    parse_time(text)
    return text


Specification = Annotated[str, StringConstraints(pattern=r"^1\.[0-9]{1,4}\.[0-9]{1,4}$")]
Time = Annotated[str, StringConstraints(max_length=20), AfterValidator(_is_time)]


class _Hashes(Model):
    sha256: Sha256


class _Target(Model):
    hashes: _Hashes
    length: Size


class _Targets(Model):
    type: Literal["targets"] = Field(alias="_type")
    spec_version: Specification
    version: Annotated[int, Field(ge=1)]
    expires: Time
    targets: dict[RelativePath, _Target]
    aibox: Description


@dataclass(frozen=True, slots=True)
class Statement:
    """What a bundle says: its sequence, until when it may be taken in, the blobs it names."""

    description: Description
    sequence: int
    expires: datetime.datetime
    named: Mapping[str, Blob]

    def payload(self) -> bytes:
        """The bytes to sign; `ValueError` when a text holds a control character."""
        return encode(
            {
                "_type": "targets",
                "spec_version": SPECIFICATION,
                "version": self.sequence,
                "expires": time_text(self.expires),
                "targets": {
                    path: {"length": blob.size, "hashes": {"sha256": blob.sha256}}
                    for path, blob in self.named.items()
                },
                "aibox": self.description.model_dump(mode="json"),
            }
        )


def read(envelope: Envelope) -> Statement:
    """What is said in an envelope: nothing is guessed, nothing passed over.

    Writing what was read gives the same bytes again, so no field may be missing, of another type
    or unknown. Raises `VerificationRefused`: `bundle-too-new`, `bundle-malformed`.
    """
    _refuse_later(envelope.signed.get("aibox"))
    try:
        found = _Targets.model_validate(envelope.signed)
        if found.aibox.format != FORMAT:
            raise ValueError(f"its format is {found.aibox.format}; this aibox reads {FORMAT}")
        if canonical_json(found.model_dump(mode="json", by_alias=True)) != envelope.payload:
            raise ValueError("it is not spelled as it would be written")
    except (ValueError, RecursionError) as error:
        raise malformed("bundle", error) from error
    return Statement(
        description=found.aibox,
        sequence=found.version,
        expires=parse_time(found.expires),
        named={
            path: Blob(sha256=item.hashes.sha256, size=item.length)
            for path, item in found.targets.items()
        },
    )


def _refuse_later(description: object) -> None:
    """A later format may say anything else in other words."""
    found = description.get("format") if isinstance(description, dict) else None
    if type(found) is int and found > FORMAT:
        raise refused(
            "bundle-too-new", f"the bundle has format {found}; this aibox reads up to {FORMAT}"
        )


def parse_time(text: str) -> datetime.datetime:
    """A point in time as TUF writes it (UTC, whole seconds); `ValueError` for another spelling."""
    moment = datetime.datetime.strptime(text, _TIME).replace(tzinfo=datetime.UTC)
    if time_text(moment) != text:
        raise ValueError(f"not a time in UTC: {text!r}")
    return moment


def time_text(moment: datetime.datetime) -> str:
    """A point in time (UTC) as TUF writes it."""
    return moment.strftime(_TIME)


def start_of(day: datetime.date) -> datetime.datetime:
    """Midnight in UTC: the point in time that a signed date stands for."""
    return datetime.datetime.combine(day, datetime.time(), datetime.UTC)
