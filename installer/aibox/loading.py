"""Give Docker the images of a generation, each checked on this box before Docker unpacks it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from threading import Lock

from aibox import objects
from aibox.box import container_images
from aibox.box.container_images import Wanted
from aibox.box.docker_engine import Engine
from aibox.box.filesystem import Filesystem
from aibox.box.image_archive import Archive
from aibox.bundle.images import problems
from aibox.bundle.images.check import check
from aibox.pins import ImagePin
from aibox.progress import Report

MOST_WORKERS = 4


def run(
    images: Iterable[ImagePin],
    tree: Path,
    architecture: str,
    *,
    engine: Engine,
    notes: Path,
    filesystem: Filesystem,
    report: Report,
) -> tuple[str, ...]:
    """Have every image of a release in Docker; the names of those that had to be loaded.

    `tree` is the generation's tree; `architecture` the kernel's name of this host's; `notes` the
    file of the box that remembers what was made durable. Safe to repeat.

    Raises `VerificationRefused` (`image-refused` and what `container_images.ensure` raises),
    `BadUsage` when an image has no build for this host, `Failed` when Docker fails.
    """
    wanted = [
        Wanted(image.name, objects.platform(image, architecture), tree / "images" / image.name)
        for image in images
    ]
    return container_images.ensure(
        engine, wanted, check=require_fit, notes=notes, filesystem=filesystem, report=report
    )


def require_fit(archive: Archive, on_bytes: Callable[[int], None]) -> None:
    """Refuse an image that is not what its pin says, or that would harm whoever unpacks it."""
    turn = Lock()

    def count(size: int) -> None:
        with turn:
            on_bytes(size)

    workers = min(MOST_WORKERS, os.cpu_count() or 1)
    found = check(archive.platform, archive.open, on_bytes=count, workers=workers)
    problems.refuse(archive.tag, found.problems)
