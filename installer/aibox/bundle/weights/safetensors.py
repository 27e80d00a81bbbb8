"""The header of a safetensors file, judged more strictly than the loaders do.

Layout: 8 bytes length of the header (little-endian), the header (JSON), the tensors' bytes. The
tensors must cover the rest of the file without holes and overlaps: a hole hides bytes, an overlap
makes a small file expand to any size in memory (safetensors, attacks/README.md).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import NoReturn

from aibox.bundle.weights.problem import Unsound, printable
from aibox.bundle.weights.reading import Reader

HEADER_LIMIT = 16 << 20
"""Bytes, which take 0.2 GB to read. The format allows 100 MB: about 175,000 tensors fit in here."""

RANK_LIMIT = 16
METADATA = "__metadata__"

# Bits per element (safetensors 0.8).
BITS: Mapping[str, int] = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
}


def check(reader: Reader) -> None:
    """Raises `Unsound`."""
    (length,) = struct.unpack("<Q", reader.take(8))
    if length > HEADER_LIMIT:
        raise Unsound(f"its header says it is {length} bytes long; at most {HEADER_LIMIT} may be")
    header = reader.take(length)
    if not header.startswith(b"{"):
        raise Unsound("its header does not begin with {: this is no safetensors file")
    check_tensors(_parse(header), reader.left)


def check_tensors(tensors: Mapping[str, object], length: int) -> None:
    """`length`: bytes that the tensors must cover exactly. Raises `Unsound`."""
    metadata = tensors.get(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise Unsound(f"its {METADATA} is not text by text")
    spans = sorted(
        (*_span(name, tensor), name) for name, tensor in tensors.items() if name != METADATA
    )
    end = 0
    for start, stop, name in spans:
        if start != end:
            kind = "a hole before" if start > end else "an overlap at"
            raise Unsound(f"its tensors leave {kind} {printable(name)}")
        end = stop
    if end != length:
        raise Unsound(f"its tensors cover {end} bytes, but {length} follow the header")


def _parse(header: bytes) -> dict[str, object]:
    try:
        found = json.loads(
            header.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number
        )
    except (ValueError, RecursionError) as error:
        raise Unsound(f"its header is not JSON: {printable(str(error))}") from error
    if not isinstance(found, dict):
        raise Unsound("its header is not an object")
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unsound("its header has a key twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise Unsound(f"its header has the number {text}")


def _span(name: str, tensor: object) -> tuple[int, int]:
    """First byte and the byte after the last."""
    shown = printable(name)
    if not isinstance(tensor, dict) or set(tensor) != {"dtype", "shape", "data_offsets"}:
        raise Unsound(f"{shown}: a tensor has dtype, shape and data_offsets, and nothing else")
    dtype, shape, offsets = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        raise Unsound(f"{shown}: dtype {printable(str(dtype))} is not known")
    if not _are_sizes(shape) or len(shape) > RANK_LIMIT:
        raise Unsound(f"{shown}: shape is not a list of sizes")
    if not _are_sizes(offsets) or len(offsets) != 2:
        raise Unsound(f"{shown}: data_offsets are not two positions")
    start, stop = offsets
    if (stop - start) * 8 != math.prod(shape) * BITS[dtype]:
        raise Unsound(f"{shown}: its shape and dtype do not make {stop - start} bytes")
    return start, stop


def _are_sizes(values: object) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
        for value in values
    )
