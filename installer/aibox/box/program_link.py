"""`<box root>/bin/aibox`: the name under which people and start-up units find the program.

The program of a box lies in a folder of its own id, so that an older one stays startable; the link
says which one is meant now.
"""

from __future__ import annotations

from pathlib import Path

from aibox.box.filesystem import Filesystem

PROGRAMS = "programs"


def link(root: Path) -> Path:
    """Where the link lies below the box root."""
    return root / "bin" / "aibox"


def linked(root: Path) -> str | None:
    """The id of the program that the link names; None without a link of ours."""
    try:
        parts = link(root).readlink().parts
    except OSError:
        return None
    return parts[2] if (*parts[:2], *parts[3:]) == ("..", PROGRAMS, "aibox") else None


def point_to(filesystem: Filesystem, root: Path, program: str) -> None:
    """Make the link name the program of this id (`Content.program`), replacing it as a whole.

    It is relative, so that a box root may be moved. Raises `DiskTrouble`.
    """
    if linked(root) == program:
        return
    place = link(root)
    temporary = place.with_name("aibox.new")
    filesystem.make_directory(place.parent)
    filesystem.unlink(temporary)
    filesystem.symlink(f"../{PROGRAMS}/{program}/aibox", temporary)
    filesystem.rename(temporary, place)
    filesystem.sync_directory(place.parent)
