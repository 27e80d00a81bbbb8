"""SHA-256 digests: the only names that are trusted."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import BinaryIO

CHUNK_BYTES = 1 << 20
_HEX = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is 64 lower-case hex digits; asked before any path is made from it."""
    return _HEX.fullmatch(text) is not None


def of_bytes(data: bytes) -> str:
    """The digest of bytes in memory, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def of_stream(stream: BinaryIO, on_bytes: Callable[[int], None] | None = None) -> tuple[str, int]:
    """Digest and length of everything left in `stream`, in bounded memory."""
    state, length = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK_BYTES):
        state.update(chunk)
        length += len(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    return state.hexdigest(), length


def canonical_json(value: object) -> bytes:
    """One spelling per value, so that a digest of it means something (sorted, compact, UTF-8)."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def of_json(value: object) -> str:
    """The digest of a value's canonical JSON."""
    return of_bytes(canonical_json(value))
