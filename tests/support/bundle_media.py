"""Small bundles as files: written by the real writer, with a head that nobody judges."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aibox.bundle import index as indexes
from aibox.bundle.checking import ContentReport, check_content
from aibox.bundle.layout import BLOBS
from aibox.bundle.manifest import Carried, Index
from aibox.bundle.media import Media
from aibox.bundle.volumes import order_of
from aibox.bundle.writer import BundleWriter, Source
from aibox.pins import Blob
from aibox.progress import Progress

CHUNK = 64 << 10
SIZES = (0, 1, 1000, CHUNK, CHUNK + 1, 3 * CHUNK, 10 * CHUNK + 17, 5 * CHUNK)
VOLUME = 3_200_000
"""Of which about 600 kB are left beside the head and the reserve: `SIZES` need three volumes."""


@dataclass(frozen=True)
class SmallBundle:
    """What was written, and where: one folder, or one for each volume."""

    folders: tuple[Path, ...]
    objects: Mapping[str, bytes]
    named: Mapping[str, Blob]
    index: Index

    def check(self, folders: Sequence[Path] | None = None) -> ContentReport:
        """`check_content` of all folders, or of these."""
        with Media.open(self.folders if folders is None else folders) as media:
            return check_content(media, self.named, self.index, report=ignore, workers=2)

    def carried(self, data: bytes) -> Carried:
        """How the index says that these bytes are cut."""
        digest = sha256(data)
        return next(item for item in self.index.carried if item.sha256 == digest)


def ignore(_progress: Progress) -> None:
    """For checks whose progress nobody looks at."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content(sizes: Sequence[int], seed: int = 1) -> dict[str, bytes]:
    """Bytes that repeat nowhere, by digest."""
    dice = random.Random(seed)
    made = [_some_bytes(dice, size) for size in sizes]
    return {sha256(data): data for data in made}


def _some_bytes(dice: random.Random, size: int) -> bytes:
    step = 1 << 20
    return b"".join(dice.randbytes(min(step, size - start)) for start in range(0, size, step))


def sources(folder: Path, objects: Mapping[str, bytes]) -> list[Source]:
    """The objects as files below `folder`."""
    folder.mkdir(exist_ok=True)
    for digest, data in objects.items():
        (folder / digest).write_bytes(data)
    return [Source(folder / digest, digest, len(data)) for digest, data in objects.items()]


def fill(
    writer: BundleWriter, given: Sequence[Source], *, volume_bytes: int | None = None
) -> tuple[tuple[Path, ...], dict[str, Blob], Index]:
    """Put the sources into a bundle with all that belongs to one; what `finish` returns first."""
    index = indexes.make(writer.add_objects(given))
    blobs = [writer.add_bytes(indexes.dump(index)), writer.add_bytes(b'{"sbom": []}')]
    named = {f"{BLOBS}/{blob.sha256}": blob for blob in blobs}
    named["aibox"] = writer.add_open_file("aibox", b"#!/bin/sh\n", executable=True)
    named["launcher/start.py"] = writer.add_open_file("launcher/start.py", b"pass\n")
    manifest = json.dumps({name: blob.sha256 for name, blob in named.items()}).encode()
    head = {
        "bundle.json": manifest,
        "bundle.json.sig": b"not a signature\n",
        "root/1.root.json": b"{}",
        "root/2.root.json": b"{ }",
    }
    shared = {blob.sha256 for blob in blobs}
    order = order_of((), index.carried)
    folders = writer.finish(head, shared=shared, volume_bytes=volume_bytes, order=order)
    return folders, named, index


def write_bundle(
    folder: Path,
    sizes: Sequence[int] = SIZES,
    *,
    volume_bytes: int | None = None,
    chunk_bytes: int = CHUNK,
    seed: int = 1,
) -> SmallBundle:
    """A bundle at `folder`; its sources are gone when this returns."""
    objects = content(sizes, seed)
    beside = folder.with_name(folder.name + ".sources")
    with BundleWriter(folder, chunk_bytes=chunk_bytes) as writer:
        given = sources(beside, objects)
        folders, named, index = fill(writer, given, volume_bytes=volume_bytes)
    shutil.rmtree(beside)
    return SmallBundle(folders, objects, named, index)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Path -> mode, time, bytes of everything below a folder."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_mode,
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted([folder, *folder.rglob("*")])
    }
