"""Makes what the containers of a generation stand on: folders, secrets, copies of the site's files.

Needs root, for it gives each to the user of its container. Whatever is there already stays as it
is; an interrupted call is finished by the next one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from aibox import prerequisites as wanted
from aibox.box import secrets
from aibox.box.filesystem import Filesystem
from aibox.errors import Failed, Fault, NeedsPerson
from aibox.prerequisites import Folder, Prerequisites

FILE = "config/footing.json"


def read(generation: Path) -> Prerequisites:
    """The prerequisites that were rendered into a generation; raises `NeedsPerson`."""
    try:
        return Prerequisites.model_validate(json.loads((generation / FILE).read_bytes()))
    except (OSError, ValueError, ValidationError) as error:
        raise NeedsPerson(
            "generation-damaged",
            "a generation does not say what its containers need",
            context=f"{generation / FILE}: {' '.join(str(error).split())[:300]}",
            hint="repair the box with: ./aibox recover",
            fault=Fault.HOST,
        ) from error


def unnamed_caches(root: Path, generations: Iterable[Path]) -> tuple[Path, ...]:
    """The folders of what engines compiled that none of these generations names."""
    named = {
        folder.path
        for generation in generations
        if (generation / FILE).exists()
        for folder in read(generation).folders
    }
    try:
        found = sorted((root / wanted.CACHES).iterdir())
    except FileNotFoundError:
        return ()
    return tuple(path for path in found if f"{wanted.CACHES}/{path.name}" not in named)


def provide(filesystem: Filesystem, root: Path, needed: Prerequisites) -> tuple[str, ...]:
    """Have all of it; the paths of what was missing or otherwise, relative to the root.

    Raises `NeedsPerson` (`secret-damaged`), `Failed` (`site-file-unreadable`, `site-secret-open`,
    `folder-in-the-way`), `DiskTrouble`.
    """
    made = [folder.path for folder in needed.folders if _folder(filesystem, root, folder, needed)]
    made += [
        f"{wanted.SECRETS}/{secret.name}"
        for secret in needed.secrets
        if secrets.provide(filesystem, root, secret, needed.users)
    ]
    made += [
        copy.path for copy in needed.copies if secrets.copy(filesystem, root, copy, needed.users)
    ]
    if "gateway" in needed.users and _authority(filesystem, root):
        made.append(wanted.AUTHORITY)
    return tuple(made)


def _folder(filesystem: Filesystem, root: Path, folder: Folder, needed: Prerequisites) -> bool:
    path, user = root / folder.path, needed.users[folder.user]
    above = list(path.relative_to(root).parents)[-2::-1]
    for part in (*(root / parent for parent in above), path):
        if part.is_symlink() or (part.exists() and not part.is_dir()):
            raise _in_the_way(part)
        filesystem.make_directory(part)
    if path.stat().st_uid == user:
        return False
    filesystem.give_tree(path, user)
    return True


def _authority(filesystem: Filesystem, root: Path) -> bool:
    """`tls/ca.pem` names the gateway's own authority, which makes it when it starts first."""
    path = root / wanted.AUTHORITY
    if path.is_symlink() and str(path.readlink()) == wanted.AUTHORITY_OF_GATEWAY:
        return False
    filesystem.make_directory(path.parent)
    filesystem.unlink(path)
    filesystem.symlink(wanted.AUTHORITY_OF_GATEWAY, path)
    filesystem.sync_directory(path.parent)
    return True


def _in_the_way(path: Path) -> Failed:
    return Failed(
        "folder-in-the-way",
        f"{path} is not a folder, but one is needed there",
        hint=f"move it away, then: aibox start (see: ls -ld {path})",
        fault=Fault.HOST,
    )
