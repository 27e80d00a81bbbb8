"""Weight files made by hand, sound and otherwise: whatever header, over whatever bytes."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence

Tensor = tuple[str, list[int], list[int]]
"""dtype, shape, data_offsets"""


def safetensors(header: Mapping[str, object] | bytes, data: bytes = b"") -> bytes:
    """A file of this header; given as bytes it may be anything."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors(**named: Tensor) -> dict[str, object]:
    """A header of tensors."""
    return {
        name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        for name, (dtype, shape, offsets) in named.items()
    }


def small_safetensors(data: bytes = b"\x01\x02\x03\x04") -> bytes:
    """One tensor of bytes."""
    return safetensors(tensors(weight=("U8", [len(data)], [0, len(data)])), data)


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pair(key: str | bytes, kind: int, value: bytes) -> bytes:
    """A GGUF key with a value of a type."""
    return text(key) + struct.pack("<I", kind) + value


def string(key: str, value: str) -> bytes:
    """A GGUF key with a text."""
    return pair(key, 8, text(value))


def array(kind: int, count: int, items: bytes) -> bytes:
    """A GGUF array (the value of type 9)."""
    return struct.pack("<IQ", kind, count) + items


def tensor_info(name: str, shape: Sequence[int] = (4,), kind: int = 0, offset: int = 0) -> bytes:
    """The description of a GGUF tensor; 32-bit floats unless told otherwise."""
    return (
        text(name)
        + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        + struct.pack("<IQ", kind, offset)
    )


def gguf(
    pairs: Sequence[bytes] = (),
    infos: Sequence[bytes] = (),
    data: bytes = b"",
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """A GGUF file; `counts` (tensors, keys) may lie."""
    tensor_count, key_count = counts or (len(infos), len(pairs))
    header = b"GGUF" + struct.pack("<IQQ", version, tensor_count, key_count)
    header += b"".join(pairs) + b"".join(infos)
    padding = -len(header) % alignment if data else 0
    return header + bytes(padding) + data
