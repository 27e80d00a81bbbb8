"""Dividing a finished bundle anew, or joining its volumes; no key is needed, nothing is signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from aibox.bundle import index as indexes
from aibox.bundle.layout import BLOBS, MANIFEST_LIMIT
from aibox.bundle.manifest import Index
from aibox.bundle.media import Media
from aibox.bundle.storing import ignore
from aibox.bundle.volumes import order_of
from aibox.bundle.writer import BundleWriter
from aibox.pins import Blob


def resplit(
    media: Media,
    named: Mapping[str, Blob],
    index: Index,
    output: Path,
    volume_bytes: int | None,
    *,
    first: Iterable[str] = (),
    modified: int = 0,
    on_bytes: Callable[[int], None] = ignore,
) -> tuple[Path, ...]:
    """Copy a bundle to `output` as volumes of `volume_bytes`, or as one bundle if None.

    Every byte is hashed while it is copied; the head is copied as it is.

    Args:
        media: the whole bundle, on any number of volumes.
        named: path in the bundle -> blob, of the files that the signed manifest names.
        first: digests of the blobs for the first volume.
        modified: the time of every file, seconds since the epoch, as the build set it.
        on_bytes: gets byte counts that sum up to the size of all blobs.

    Returns:
        The folders that stand alone.

    Raises:
        VerificationRefused: a file is missing or holds other bytes.
        BadUsage: `bundle-exists`, `volume-too-small`, `volumes-too-many`.
        Failed: `source-unreadable`, `bundle-not-written`.
    """
    blobs = {path: blob for path, blob in named.items() if path.startswith(f"{BLOBS}/")}
    shared = {blob.sha256 for blob in blobs.values()}
    with BundleWriter(output, modified=modified, on_bytes=on_bytes) as writer:
        for path in sorted(named.keys() - blobs.keys()):
            data = media.read_open_file(path, named[path], MANIFEST_LIMIT)
            # FAT keeps no modes, but what can be started says so itself.
            writer.add_open_file(path, data, executable=data.startswith(b"#!"))
        order = order_of(first, index.carried)
        chunks = indexes.chunks(index)
        if volume_bytes is not None:  # Before all is copied for nothing.
            apart = [chunk for name, chunk in chunks.items() if name not in shared]
            writer.plan(media.head, list(blobs.values()), apart, volume_bytes, order)
        writer.add_blobs([*blobs.values(), *chunks.values()], media.open_blob)
        return writer.finish(media.head, shared=shared, volume_bytes=volume_bytes, order=order)
