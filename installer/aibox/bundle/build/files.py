"""Single files: from an address to a pin, by bringing the file into the cache once."""

from __future__ import annotations

from aibox.bundle import licences
from aibox.bundle.build import download
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.manifest import Kind
from aibox.pins import FilePin, State
from aibox.profile import FileWish
from aibox.progress import Report

LIMIT = 32 << 30
"""Bytes of a single file at the most; weights and images come in other ways."""

_UNKNOWN = "unknown"


def resolve(wish: FileWish, previous: FilePin | None, cache: BlobCache, report: Report) -> FilePin:
    """Pin what lies at the wish's address now, by size and digest.

    What people wrote into `previous` (licence, class, owner, source) stays; nothing tells it of a
    new file. Raises what downloads raise, and `download-refused` above `LIMIT`.
    """
    what = f"file {wish.name}"
    sha256, size = download.fetch_unknown(
        wish.address, cache, report, step="lock", what=what, limit=LIMIT
    )
    pin = previous or FilePin(
        name=wish.name,
        filename=wish.filename,
        state=State.UNRESOLVED,
        licence=_UNKNOWN,
        redistribution=licences.classify(_UNKNOWN, Kind.FILE),
        owner=_UNKNOWN,
        source="hashed where it lies at its address",
    )
    found = {"address": wish.address, "filename": wish.filename, "size": size, "sha256": sha256}
    return pin.model_copy(update={**found, "state": State.RESOLVED})
