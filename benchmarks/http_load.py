"""What programs here share that put load on a server: exchange, quantiles, processor time."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes
) -> tuple[float, float]:
    """Seconds to the first and to the last byte of the response's body; it must be a 200."""
    began = time.perf_counter()
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    length = length_of(head)
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"refused: {head[:80]!r} {await reader.readexactly(length)!r:.300}")
    if length:
        await reader.readexactly(length)
        last = time.perf_counter() - began
        return last, last
    first = 0.0
    while size := int(await reader.readline(), 16):
        await reader.readexactly(size + 2)
        first = first or time.perf_counter() - began
    await reader.readline()
    return first, time.perf_counter() - began


def length_of(head: bytes) -> int:
    """The stated length of a message's body; 0 where none is stated."""
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.split(b":", 1)[1])
    return 0


def processor_seconds(pid: int) -> float:
    """Processor time a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
