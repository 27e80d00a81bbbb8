"""Real FAT32 file systems in image files, filled and emptied with mtools: no mount, no root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

TOOLS = ("mkfs.vfat", "mcopy")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

needs_fat_tools = pytest.mark.skipif(
    not all(shutil.which(tool, path=PATH) for tool in TOOLS),
    reason="mkfs.vfat and mcopy are not installed (packages dosfstools and mtools)",
)

needs_fat_kernel = pytest.mark.skipif(
    "vfat" not in Path("/proc/filesystems").read_text(),
    reason="the kernel knows no vfat (load the module vfat)",
)


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": PATH})


def make_fat32(folder: Path, image: Path, size: int) -> Path:
    """A FAT32 medium of `size` bytes with a copy of the folder as `box`; fails if too small."""
    image.touch()
    os.truncate(image, size)
    _run("mkfs.vfat", "-F", "32", image)
    _run("mcopy", "-s", "-Q", "-i", image, folder, "::/box")
    return image


def through_fat32(folder: Path, image: Path, size: int) -> Path:
    """What comes back of a folder after it lay on a FAT32 medium: a new folder."""
    make_fat32(folder, image, size)
    back = image.with_suffix(".back")
    back.mkdir()
    _run("mcopy", "-s", "-n", "-i", image, "::/box", back)
    image.unlink()
    return back / "box"


@contextmanager
def mounted(image: Path, point: Path) -> Iterator[Path]:
    """The kernel's own view of an image, read-only; wants root."""
    point.mkdir()
    _run("mount", "-o", "ro,loop", image, point)
    try:
        yield point
    finally:
        _run("umount", point)
