"""Messages between the API and the engine: JSON with its length (4 bytes, big endian) before it."""

from __future__ import annotations

from typing import Any, BinaryIO

import orjson

HEAD = 4


def encode(message: Any) -> bytes:
    """A frame."""
    body = orjson.dumps(message)
    return len(body).to_bytes(HEAD, "big") + body


def length(head: bytes) -> int:
    """Length of the body that follows the first `HEAD` bytes of a frame."""
    return int.from_bytes(head, "big")


def write(stream: BinaryIO, message: Any) -> None:
    """Write a frame at once."""
    stream.write(encode(message))
    stream.flush()


def read(stream: BinaryIO) -> Any | None:
    """The next message, or None at the end of the stream (also in the middle of a frame)."""
    head = stream.read(HEAD)
    body = stream.read(length(head)) if len(head) == HEAD else b""
    return orjson.loads(body) if body else None
