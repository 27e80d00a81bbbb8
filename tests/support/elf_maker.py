"""The smallest ELF files that name what they need."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def make_elf(
    *,
    needed: Sequence[str] = (),
    soname: str = "",
    loader: str = "",
    machine: int = 62,
) -> bytes:
    """A 64-bit file with a dynamic section and, with `loader`, an interpreter."""
    strings = b"\0"
    entries = []
    for tag, name in [(14, soname)] * bool(soname) + [(1, name) for name in needed]:
        entries.append((tag, len(strings)))
        strings += name.encode() + b"\0"
    count = 2 + bool(loader)
    start = 64 + 56 * count
    interpreter = loader.encode() + b"\0"
    names = start + len(interpreter)
    table = names + len(strings)
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in [*entries, (5, names), (0, 0)])
    size = table + len(dynamic)
    segments = [(1, 0, size), (2, table, len(dynamic))]
    if loader:
        segments.append((3, start, len(interpreter)))
    programs = b"".join(
        struct.pack("<IIQQQQQQ", kind, 4, place, place, place, length, length, 8)
        for kind, place, length in segments
    )
    magic = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", magic, 3, machine, 1, 0, 64, 0, 0, 64, 56, count, 0, 0, 0
    )
    return header + programs + interpreter + strings + dynamic
