"""What a program or shared library (ELF) needs: the names of libraries, and of its loader."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC = b"\x7fELF"
MACHINES = {62: "amd64", 183: "arm64"}

_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS, _SONAME = 1, 5, 14
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_PROGRAM = struct.Struct("<IIQQQQQQ")
_ENTRY = struct.Struct("<qQ")


class NotElf(ValueError):
    """Not a whole 64-bit little-endian ELF file."""


@dataclass(frozen=True)
class Elf:
    """`architecture` as Debian calls it; `loader` is the path of the dynamic loader or empty."""

    architecture: str
    needed: tuple[str, ...]
    soname: str
    loader: str


def read(data: bytes) -> Elf:
    """What the file with these bytes needs; raises `NotElf` for damaged or foreign ones."""
    try:
        return _read(data)
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise NotElf(str(error)) from error


def _read(data: bytes) -> Elf:
    if data[:4] != MAGIC or data[4:6] != b"\x02\x01":
        raise NotElf("not 64-bit little-endian ELF")
    header = _HEADER.unpack_from(data)
    machine, offset, size, count = header[2], header[5], header[9], header[10]
    segments = [_PROGRAM.unpack_from(data, offset + size * number) for number in range(count)]
    entries = [
        entry for segment in segments if segment[0] == _DYNAMIC for entry in _dynamic(data, segment)
    ]
    names = {tag: value for tag, value in entries if tag in (_STRINGS, _SONAME)}
    strings = _place(segments, names[_STRINGS]) if _STRINGS in names else 0
    return Elf(
        MACHINES.get(machine, f"machine {machine}"),
        tuple(_text(data, strings + value) for tag, value in entries if tag == _NEEDED),
        _text(data, strings + names[_SONAME]) if _SONAME in names else "",
        next((_text(data, part[2]) for part in segments if part[0] == _INTERPRETER), ""),
    )


def _dynamic(data: bytes, segment: tuple[int, ...]) -> list[tuple[int, int]]:
    place, size = segment[2], segment[5]
    if place + size > len(data):
        raise NotElf("its dynamic section lies behind its end")
    entries = []
    for tag, value in _ENTRY.iter_unpack(data[place : place + size - size % _ENTRY.size]):
        if tag == 0:
            break
        entries.append((tag, value))
    return entries


def _place(segments: list[tuple[int, ...]], address: int) -> int:
    """Where in the file an address of memory lies."""
    for kind, _, place, start, _, size, _, _ in segments:
        if kind == _LOAD and start <= address < start + size:
            return place + address - start
    raise NotElf("its strings lie nowhere")


def _text(data: bytes, place: int) -> str:
    end = data.find(b"\0", place, place + 4096)
    if end < 0:
        raise NotElf("a name has no end")
    return data[place:end].decode("utf-8")
