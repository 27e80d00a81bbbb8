"""Blobs of every kind there is for an import, and what to look for after one.

With the steps of `small_steps` (tests/unit/box/conftest.py) a few kilobytes are a large blob.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from pathlib import Path

from aibox.box.filesystem import Filesystem
from aibox.box.store import Store
from boxes import Before, nothing, sha256

CHUNK, SEGMENT, LARGE, DIRECT = 16 << 10, 64 << 10, 32 << 10, 8 << 10
BYTES = random.Random(2).randbytes(256 << 10)
SIZES = (0, 1, 5000, DIRECT + 1, CHUNK, LARGE - 1, LARGE, SEGMENT + 1, 3 * SEGMENT)
BLOBS = [BYTES[number : number + size] for number, size in enumerate(SIZES)]


def a_store(place: Path, before: Before = nothing, boot: str = "boot-1") -> Store:
    (place / "box").mkdir(exist_ok=True)
    Store(place / "box", boot=boot).initialise()
    return Store(place / "box", Filesystem(before), boot=boot)


def lacking(place: Path, wanted: Sequence[bytes]) -> list[str]:
    """Digests that are not in the store, or not whole; hashes everything."""
    store = Store(place / "box", boot="a boot in which nothing was verified")
    return [sha256(data) for data in wanted if store.verify(sha256(data))]


def damaged_names(place: Path) -> list[str]:
    """Names in the store that do not hold what they say."""
    store = Store(place / "box", boot="a boot in which nothing was verified")
    return [name for name in store.names() if store.verify(name)]


def threads_at_work() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name.startswith("worker-")]
