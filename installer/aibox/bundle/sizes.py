"""Sizes as people write them: decimal (25GB) as media are sold, binary (25GiB) as memory is."""

from __future__ import annotations

import re
from fractions import Fraction

from aibox.errors import BadUsage, Fault

_DECIMAL = ("kB", "MB", "GB", "TB")
_BINARY = ("KiB", "MiB", "GiB", "TiB")
_UNITS = {
    "b": 1,
    **{unit.lower(): 1000 ** (power + 1) for power, unit in enumerate(_DECIMAL)},
    **{unit.lower(): 1024 ** (power + 1) for power, unit in enumerate(_BINARY)},
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?([a-z]{1,3})", re.ASCII | re.IGNORECASE)


def parse_size(text: str, *, option: str = "--volume-size") -> int:
    """Bytes of `25GB` (25 * 10^9), `25GiB` (25 * 2^30), `4.7GB`, `650 MB`; rounded down.

    A number without a unit is refused: decimal and binary readings differ by 7 % and more.
    Raises `BadUsage` (`size-invalid`) that names the units.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _UNITS.get(match[2].lower()) if match else None
    size = int(Fraction(match[1]) * factor) if match and factor else 0
    if size < 1:
        raise BadUsage(
            "size-invalid",
            f"{text[:80]!r} is not a size",
            context=f"units: B; decimal {', '.join(_DECIMAL)}; binary {', '.join(_BINARY)}",
            hint="write a number and its unit, for example 25GB (25 * 10^9 bytes) or 25GiB"
            f" (25 * 2^30 bytes): ./aibox bundle build {option} 25GB",
            fault=Fault.YOU,
        )
    return size


def show_size(size: int) -> str:
    """`size` bytes in the greatest decimal unit that leaves a whole number: `3.1 GB`."""
    for power in range(len(_DECIMAL), 0, -1):
        if size >= 1000**power:
            return f"{size / 1000**power:.1f} {_DECIMAL[power - 1]}"
    return f"{size} bytes"
