"""One file to download, and what a test says about where it went."""

from __future__ import annotations

import hashlib

from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch
from aibox.progress import Progress
from flaky_server import FlakyServer

DATA = hashlib.shake_256(b"a file").digest(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.shake_256(b"another file").digest(200_000)


def silent(_progress: Progress) -> None:
    """Report nothing."""


def a_request(server: FlakyServer, data: bytes = DATA, path: str = "/a") -> Request:
    """What asks `server` for `data`, which it has from now on."""
    return Request(server.put(path, data), hashlib.sha256(data).hexdigest(), len(data), path)


def get(server: FlakyServer, cache: BlobCache, **options: int) -> None:
    """Fetch the file into the cache."""
    fetch([a_request(server)], cache, silent, step="fetch", **options)


def parts(cache: BlobCache) -> list[str]:
    """Names of what has come in part."""
    return sorted(path.name for path in (cache.folder / "parts").iterdir())


def content(cache: BlobCache, data: bytes = DATA) -> bytes:
    """What the cache gives out for the digest of `data`; nothing if it has none."""
    found = BlobCache(cache.folder).find(hashlib.sha256(data).hexdigest(), len(data))
    return found.read_bytes() if found else b""
