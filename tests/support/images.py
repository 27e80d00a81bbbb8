"""ext4 in a file: a disk whose power can be cut by copying the file."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NEVER = "commit=1000"
"""Seconds until ext4 commits by itself: longer than any test, so that only fsync saves bytes."""


def why_not() -> str:
    """Why images cannot be mounted here and what would enable it; "" if they can."""
    if os.geteuid() != 0:
        return "mounting an image needs root: sudo ./test e2e"
    missing = [tool for tool in ("mkfs.ext4", "mount", "umount") if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found: apt-get install e2fsprogs mount"
    if not Path("/dev/loop-control").exists():
        return "no loop devices: modprobe loop (in a container: run on the host)"
    return ""


def make(image: Path, size: int = 24 << 20, inodes: int = 2000) -> Path:
    """A new ext4 of `size` bytes."""
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "1024", "-N", str(inodes), str(image))
    return image


@contextmanager
def mounted(image: Path, folder: Path, options: str = NEVER) -> Iterator[Path]:
    """The image's root folder for the length of the block."""
    folder.mkdir(exist_ok=True)
    _run("mount", "-t", "ext4", "-o", f"loop,{options}", str(image), str(folder))
    try:
        yield folder
    finally:
        _run("umount", str(folder))


def remount_read_only(folder: Path) -> None:
    """What the kernel does to a disk it no longer trusts."""
    _run("mount", "-o", "remount,ro", str(folder))


def snapshot(image: Path, copy: Path) -> Path:
    """What the disk would hold if the power went now: what was submitted to it, nothing else."""
    _run("cp", "--sparse=always", str(image), str(copy))
    return copy


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
