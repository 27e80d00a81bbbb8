"""How large an image may be before it is refused unread."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes are uncompressed. Ten times what the largest images of this field hold is enough.

    `ratio` (uncompressed to compressed) counts from `ratio_from` bytes on: small layers of text
    compress well, and harm nobody. `problems` is where the reading of a layer stops.
    """

    image_bytes: int = 256 << 30
    layer_members: int = 500_000
    header_bytes: int = 1 << 20
    ratio: int = 200
    ratio_from: int = 256 << 20
    problems: int = 20


LIMITS = Limits()
