"""The header of a GGUF file: counts, lengths and offsets, judged before an engine believes them.

Engines written in C multiply and add these numbers (CVE-2025-53630, CVE-2026-7482); here they
are Python integers. Layout: ggml-org/ggml, docs/gguf.md. Little-endian, versions 2 and 3.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from aibox.bundle.weights.problem import Unsound, printable
from aibox.bundle.weights.reading import Reader

VERSIONS = (2, 3)
HEADER_LIMIT = 64 << 20
"""Bytes of keys, values and tensor descriptions; a vocabulary of 500,000 tokens has 9 MiB."""

KEYS_LIMIT = 65_536
TENSORS_LIMIT = 65_536
KEY_BYTES_LIMIT = 1024
NAME_BYTES_LIMIT = 256
STRING_BYTES_LIMIT = 16 << 20
ITEMS_LIMIT = 1 << 22
NESTING_LIMIT = 4
DIMENSIONS_LIMIT = 4
ALIGNMENT_LIMIT = 1 << 20
DEFAULT_ALIGNMENT = 32
TEMPLATES = "tokenizer.chat_template"

_KEY = re.compile(r"[A-Za-z0-9_.:\-]+")
_STRING, _ARRAY, _BOOL = 8, 9, 7
_UINT32 = 4
# Bytes of a metadata value by its type.
_WIDTH = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

# Tensor type: elements of a block, bytes of a block (gguf 0.19, GGML_QUANT_SIZES).
BLOCKS: Mapping[int, tuple[int, int]] = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    9: (32, 40),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    15: (256, 292),
    16: (256, 66),
    17: (256, 74),
    18: (256, 98),
    19: (256, 50),
    20: (32, 18),
    21: (256, 110),
    22: (256, 82),
    23: (256, 136),
    24: (1, 1),
    25: (1, 2),
    26: (1, 4),
    27: (1, 8),
    28: (1, 8),
    29: (256, 56),
    30: (1, 2),
    34: (256, 54),
    35: (256, 66),
    39: (32, 17),
    40: (64, 36),
    41: (128, 18),
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    """Offset in the data section and length, both in bytes."""

    name: str
    offset: int
    length: int


def check(reader: Reader) -> dict[str, str]:
    """The chat templates in the metadata, by key. Raises `Unsound`."""
    if reader.take(4) != b"GGUF":
        raise Unsound("it does not begin with GGUF")
    version = _unsigned(reader, 4)
    if version not in VERSIONS:
        raise Unsound(f"its version is {version}; {VERSIONS} are known, little-endian")
    tensors, keys = _unsigned(reader, 8), _unsigned(reader, 8)
    if tensors > TENSORS_LIMIT or keys > KEYS_LIMIT:
        raise Unsound(f"it says it has {tensors} tensors and {keys} keys, which is absurd")
    metadata = _Metadata(reader)
    for _ in range(keys):
        metadata.read_pair()
    _check_tensors([_tensor(reader) for _ in range(tensors)], reader, metadata.alignment)
    return metadata.templates


class _Metadata:
    """Passes over key-value pairs; keeps the alignment and the chat templates."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._keys: set[str] = set()
        self.alignment = DEFAULT_ALIGNMENT
        self.templates: dict[str, str] = {}

    def read_pair(self) -> None:
        key = _text(self._reader, KEY_BYTES_LIMIT, "a key")
        if not _KEY.fullmatch(key):
            raise Unsound(f"a key has odd characters: {printable(key)}")
        if key in self._keys:
            raise Unsound(f"the key {printable(key)} is there twice")
        self._keys.add(key)
        kind = _unsigned(self._reader, 4)
        if key == "general.alignment":
            self._read_alignment(kind)
        elif key == TEMPLATES or key.startswith(TEMPLATES + "."):
            if kind != _STRING:
                raise Unsound(f"{key} is not text")
            self.templates[key] = _text(self._reader, STRING_BYTES_LIMIT, key)
        else:
            self._skip_value(kind, NESTING_LIMIT)

    def _read_alignment(self, kind: int) -> None:
        value = _unsigned(self._reader, 4) if kind == _UINT32 else 0
        if not 8 <= value <= ALIGNMENT_LIMIT or value & (value - 1):
            raise Unsound("general.alignment is not a power of two of a sane size")
        self.alignment = value

    def _skip_value(self, kind: int, depth: int) -> None:
        if kind == _STRING:
            self._skip_string()
        elif kind == _BOOL:
            _check_booleans(self._reader.take(1))
        elif kind in _WIDTH:
            self._reader.skip(_WIDTH[kind])
        elif kind == _ARRAY:
            self._skip_array(depth)
        else:
            raise Unsound(f"a value has the type {kind}, which does not exist")

    def _skip_array(self, depth: int) -> None:
        kind, count = _unsigned(self._reader, 4), _unsigned(self._reader, 8)
        if not depth:
            raise Unsound("its arrays are nested too deeply")
        if count > ITEMS_LIMIT:
            raise Unsound(f"an array says it has {count} items, which is absurd")
        if kind == _BOOL:
            _check_booleans(self._reader.take(count))
        elif kind in _WIDTH:
            self._reader.skip(count * _WIDTH[kind])
        else:
            for _ in range(count):
                self._skip_value(kind, depth - 1)

    def _skip_string(self) -> None:
        length = _unsigned(self._reader, 8)
        if length > STRING_BYTES_LIMIT:
            raise Unsound(f"a text says it is {length} bytes long, which is absurd")
        self._reader.skip(length)


def _check_booleans(values: bytes) -> None:
    if values.strip(b"\x00\x01"):
        raise Unsound("a truth value is neither 0 nor 1")


def _unsigned(reader: Reader, width: int) -> int:
    return int.from_bytes(reader.take(width), "little")


def _text(reader: Reader, limit: int, what: str) -> str:
    length = _unsigned(reader, 8)
    if length > limit:
        raise Unsound(f"{what} says it is {length} bytes long; at most {limit} may be")
    try:
        return reader.take(length).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unsound(f"{what} is not UTF-8") from error


def _tensor(reader: Reader) -> _Tensor:
    name = _text(reader, NAME_BYTES_LIMIT, "the name of a tensor")
    rank = _unsigned(reader, 4)
    if not 1 <= rank <= DIMENSIONS_LIMIT:
        raise Unsound(f"{printable(name)}: has {rank} dimensions")
    shape = struct.unpack(f"<{rank}Q", reader.take(8 * rank))
    kind, offset = _unsigned(reader, 4), _unsigned(reader, 8)
    if kind not in BLOCKS:
        raise Unsound(f"{printable(name)}: tensor type {kind} is not known")
    elements, width = BLOCKS[kind]
    if shape[0] % elements:
        raise Unsound(f"{printable(name)}: a row is no whole number of blocks")
    return _Tensor(name, offset, math.prod(shape) // elements * width)


def _check_tensors(tensors: list[_Tensor], reader: Reader, alignment: int) -> None:
    if len({tensor.name for tensor in tensors}) != len(tensors):
        raise Unsound("the name of a tensor is there twice")
    start = _aligned(reader.position, alignment)
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.length)):
        if tensor.offset != _aligned(end, alignment):
            kind = "an overlap" if tensor.offset < end else "a hole or no alignment"
            raise Unsound(f"its tensors have {kind} at {printable(tensor.name)}")
        end = tensor.offset + tensor.length
    if start + end > reader.size and tensors:
        raise Unsound(f"its tensors end at byte {start + end} of {reader.size}")
    if reader.size > start + _aligned(end, alignment):
        raise Unsound("there are bytes after its last tensor")


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
