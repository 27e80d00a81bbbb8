"""`revoked.json`: what must not be used any more, signed by the root keys.

It has a version of its own, which only rises, and never expires: a list that expired would block
every import on the day nobody renewed it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from aibox.bundle.trust.envelope import Envelope, encode, malformed
from aibox.bundle.trust.refusals import refused
from aibox.schema import Model, Sha256


class Revocations(Model):
    """A list.

    Attributes:
        created: the day it was signed.
        keys: ids of release keys whose signatures do not count.
        bundles: digests of bundle.json, or `Description.content`, of bundles that were withdrawn.
        blobs: digests of bytes that no bundle may bring.
        min_sequence: bundles of a lower sequence are refused.
    """

    type: Literal["revocations"] = Field(default="revocations", alias="_type")
    format: Literal[1] = 1
    version: Annotated[int, Field(ge=1)]
    created: datetime.date
    keys: tuple[Sha256, ...] = ()
    bundles: tuple[Sha256, ...] = ()
    blobs: tuple[Sha256, ...] = ()
    min_sequence: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _is_sorted(self) -> Revocations:
        for digests in (self.keys, self.bundles, self.blobs):
            if list(digests) != sorted(set(digests)):
                raise ValueError("digests must be sorted, each once")
        return self

    def payload(self) -> bytes:
        """The bytes to sign."""
        return encode(self.model_dump(mode="json", by_alias=True))

    def refuse_blobs(self, digests: Iterable[str]) -> None:
        """Raise `bundle-revoked` when one of the digests is listed."""
        found = sorted(frozenset(self.blobs).intersection(digests))
        if found:
            raise refused("bundle-revoked", "the bundle brings bytes that were revoked", found[0])


def read(envelope: Envelope) -> Revocations:
    """The list in an envelope whose signatures were checked; else `revocations-malformed`."""
    try:
        found = Revocations.model_validate(envelope.signed)
        if found.payload() != envelope.payload:
            raise ValueError("it is not spelled as it would be written")
    except (ValueError, RecursionError) as error:
        raise malformed("revocations", error) from error
    return found
