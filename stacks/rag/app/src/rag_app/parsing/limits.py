"""How much a document may cost; every limit with its unit."""

from __future__ import annotations

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one document's reading. Bytes are bytes, characters are code points."""

    file_bytes: int = 200 * _MIB
    # Text and HTML are read whole; four bytes are the most that UTF-8 needs for a character.
    text_file_bytes: int = 40 * _MIB
    characters: int = 10_000_000
    pages: int = 2_000
    archive_entries: int = 10_000
    archive_entry_bytes: int = 128 * _MIB
    archive_bytes: int = 512 * _MIB
    # Unpacked bytes for each packed byte. Entries below the floor are too small to harm.
    compression_ratio: int = 100
    compression_floor_bytes: int = _MIB
    memory_bytes: int = 1024 * _MIB
    cpu_seconds: int = 60
    wall_seconds: int = 90
    result_bytes: int = 64 * _MIB
