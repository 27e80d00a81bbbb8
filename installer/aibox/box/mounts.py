"""Which generations containers still see, read from the kernel and not from Docker.

A bind mount goes through `current` once, when the container starts; from then on it is the
generation itself, whatever `current` says later and whether Docker answers or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PROC = Path("/proc")
_ESCAPED = re.compile(r"\\([0-7]{3})")
_NUMBER = re.compile(r"[1-9][0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Mount:
    """A line of mountinfo (proc(5)): `inside` is the mounted folder within its file system."""

    device: str
    inside: PurePosixPath
    at: PurePosixPath


def mounted_generations(root: Path, proc: Path = PROC) -> frozenset[int]:
    """Numbers of the generations of the box at `root` that any process of this host has mounted,
    in part or whole, as far as this user may see them."""
    return generations(root.resolve(), _table(proc / "self"), _tables(proc))


def generations(root: Path, own: str, tables: Iterable[str]) -> frozenset[int]:
    """The same from the text of mountinfo files; `own` is that of whom `root` is a path for. Pure.

    Paths differ from one namespace to the next; device and folder within it do not.
    """
    place = place_of(root, own)
    if place is None:
        return frozenset()
    folder = place.inside / "gens"
    found = (mount for table in tables for mount in mounts(table))
    names = {
        mount.inside.relative_to(folder).parts[:1]
        for mount in found
        if mount.device == place.device and mount.inside.is_relative_to(folder)
    }
    return frozenset(int(name) for parts in names for name in parts if _NUMBER.fullmatch(name))


def place_of(root: Path, table: str) -> Mount | None:
    """Where a folder lies in its file system, whatever the path by which it is known. Pure."""
    above = [mount for mount in mounts(table) if root.is_relative_to(mount.at)]
    # The deepest; and of those at one place the last, which hides the others.
    deepest = max(enumerate(above), key=lambda one: (len(one[1].at.parts), one[0]), default=None)
    if deepest is None:
        return None
    mount = deepest[1]
    return Mount(mount.device, mount.inside / root.relative_to(mount.at), PurePosixPath(root))


def mounts(table: str) -> Iterator[Mount]:
    """Every line of a mountinfo file."""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            yield Mount(fields[2], _path(fields[3]), _path(fields[4]))


def _path(text: str) -> PurePosixPath:
    """Spaces and the like are written in octal; what is removed has a mark behind its name."""
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 8)), text)
    return PurePosixPath(plain.removesuffix("//deleted"))


def _tables(proc: Path) -> Iterator[str]:
    """One table for every mount namespace that this user may see."""
    seen = set()
    for folder in proc.glob("[0-9]*"):
        try:
            space = (folder / "ns/mnt").readlink()
            if space not in seen:
                yield _table(folder)
                seen.add(space)
        except OSError:
            continue


def _table(folder: Path) -> str:
    return (folder / "mountinfo").read_text("utf-8", "surrogateescape")
