"""Uncompressed bytes of a layer, in chunks of bounded size whatever the input claims.

gzip is the standard library's. zstd is Python's own from 3.14 on, or the package backports.zstd;
without either such a layer is reported as one that cannot be checked here, and so refused.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from aibox.bundle.images.problems import ProblemKind, Unfit

CHUNK_BYTES = 1 << 20
_INPUT_BYTES = 64 << 10  # Every end of a gzip member copies what follows it in the input.
_GZIP_ONLY = 31  # zlib: window of 32 KiB, gzip header and trailer
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)  # RFC 8878, 3.1.2
_ZSTD_MODULES = ("compression.zstd", "backports.zstd")


def compression_of(start: bytes) -> str:
    """What the first bytes of a layer are: "gzip", "zstd" or "" for everything else."""
    if int.from_bytes(start[:4], "little") in _SKIPPABLE:
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if start.startswith(magic)), "")


def expand(chunks: Iterator[bytes], compression: str, where: str) -> Iterator[bytes]:
    """The content of `chunks`; raises `Unfit` for damaged input or an unknown compression."""
    if compression == "gzip":
        return _gunzip(_sliced(chunks), where)
    if compression == "zstd":
        return _unzstd(_sliced(chunks), where, _zstd(where))
    return chunks


def _sliced(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _INPUT_BYTES):
            yield chunk[start : start + _INPUT_BYTES]


def _gunzip(chunks: Iterator[bytes], where: str) -> Iterator[bytes]:
    """Members that follow one another are one content (RFC 1952, 2.2)."""
    state = zlib.decompressobj(_GZIP_ONLY)
    try:
        for data in chunks:
            while data:
                if state.eof:
                    state = zlib.decompressobj(_GZIP_ONLY)
                yield state.decompress(data, CHUNK_BYTES)
                data = state.unused_data or state.unconsumed_tail
    except zlib.error as error:
        raise Unfit(ProblemKind.COMPRESSION, where, f"gzip: {error}") from error
    if not state.eof:
        raise Unfit(ProblemKind.COMPRESSION, where, "gzip: ends too early")


def _unzstd(chunks: Iterator[bytes], where: str, library: Any) -> Iterator[bytes]:
    """Frames that follow one another are one content (RFC 8878, 3)."""
    state = library.ZstdDecompressor()
    try:
        for data in chunks:
            while data or not (state.eof or state.needs_input):
                if state.eof:
                    state = library.ZstdDecompressor()
                yield state.decompress(data, CHUNK_BYTES)
                data = state.unused_data if state.eof else b""
    except library.ZstdError as error:
        raise Unfit(ProblemKind.COMPRESSION, where, f"zstd: {error}") from error
    if not state.eof:
        raise Unfit(ProblemKind.COMPRESSION, where, "zstd: ends too early")


def _zstd(where: str, load: Callable[[str], Any] = importlib.import_module) -> Any:
    for name in _ZSTD_MODULES:
        try:
            return load(name)
        except ImportError:
            continue
    raise Unfit(
        ProblemKind.COMPRESSION,
        where,
        "zstd layers cannot be checked by this Python: use 3.14 or newer, or backports.zstd",
    )
