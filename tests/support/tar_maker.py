"""Tar archives made byte by byte, so that they can be as wrong as an attacker likes."""

from __future__ import annotations

from collections.abc import Mapping

BLOCK = 512
END = bytes(2 * BLOCK)
POSIX, GNU, OLD = b"ustar\x0000", b"ustar  \x00", b""


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    mode: int = 0o644,
    link: bytes = b"",
    device: tuple[int, int] = (0, 0),
    prefix: bytes = b"",
    magic: bytes = POSIX,
    trailer: bytes = b"",
    checksum: bytes | None = None,
) -> bytes:
    """One header block; sizes given as bytes stand there as they are."""
    block = bytearray(BLOCK)
    fields = {
        0: name[:100],
        100: b"%07o" % mode,
        124: size if isinstance(size, bytes) else b"%011o" % size,
        136: b"%011o" % 0,
        156: kind,
        157: link[:100],
        257: magic,
        329: b"%07o" % device[0],
        337: b"%07o" % device[1],
        345: prefix,
        508: trailer,
    }
    for offset, data in fields.items():
        block[offset : offset + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block) if checksum is None else checksum
    return bytes(block)


def content(data: bytes) -> bytes:
    """Data in whole blocks."""
    return data + bytes(-len(data) % BLOCK)


def file(name: bytes, data: bytes = b"", **fields: object) -> bytes:
    return header(name, size=len(data), **fields) + content(data)  # type: ignore[arg-type]


def pax(records: Mapping[bytes, bytes], kind: bytes = b"x") -> bytes:
    """A pax header for the member after it."""
    body = b"".join(record(key, value) for key, value in records.items())
    return raw_pax(body, kind)


def raw_pax(body: bytes, kind: bytes = b"x") -> bytes:
    return header(b"PaxHeaders/x", kind, size=len(body)) + content(body)


def record(key: bytes, value: bytes) -> bytes:
    """`length key=value\\n`; the length counts itself."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length += 1
    return b"%d" % length + rest


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's header for a name (`L`) or a link's target (`K`) that is too long for its field."""
    return header(b"././@LongLink", kind, size=len(name) + 1, magic=GNU) + content(name + b"\x00")
