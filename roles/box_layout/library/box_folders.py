#!/usr/bin/python
"""Makes a tree of folders in one step and repairs their modes and owners."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: box_folders
short_description: Make a tree of folders
description:
  - Makes a folder and folders below it, and repairs their modes and owners. Never follows a link
    below the root, never removes anything.
  - When a folder changes hands, what the owner before had in it changes hands with it; that
    happens when users were made anew and have other numbers.
  - Exists because one call of ansible.builtin.file per folder takes ten times as long.
options:
  root:
    description: Absolute path of the tree; it may be a link to a folder.
    type: str
    required: true
  folders:
    description: Paths relative to the root, parents before children; they get `mode`.
    type: list
    elements: str
    required: true
  mode:
    description: Octal mode of the root and of `folders`.
    type: str
    required: true
  owned:
    description: >-
      Folders with a mode or an owner of their own, after `folders`; parents before children. The
      path "." is the root. A folder is given to the group of the owner's name. Without an owner it
      stays whose it is. Folders on the way to it that nobody names get mode 0711.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Path relative to the root., type: str, required: true}
      mode: {description: Octal mode., type: str, required: true}
      owner: {description: Name of a user., type: str}
  make:
    description: Whether to make what is missing; otherwise it stays missing.
    type: bool
    default: true
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Make a small tree
  box_folders:
    root: /var/lib/aibox
    mode: "0700"
    folders: [blobs, blobs/sha256]
    owned:
      - {path: data, mode: "0711"}
      - {path: data/rag, mode: "0700", owner: aibox}
"""

RETURN = r"""
made:
  description: Folders that were, or in check mode would be, made.
  returned: always
  type: list
  elements: str
repaired:
  description: Folders whose mode or owner was, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
"""

Owner = tuple[int, int]
WAY_THROUGH = 0o711
NOBODY_YET: Owner = (-2, -2)  # of nobody: what a user who does not exist yet will own


class Obstructed(Exception):
    """Something that is not a folder lies where a folder belongs, or a user is missing."""


@dataclass(frozen=True)
class Folder:
    """A folder as it should be; without an `owner` (user, group) it stays whose it is."""

    path: Path
    mode: int
    owner: Owner | None = None


@dataclass
class Changes:
    """What differs from the wanted tree, in the order in which it is put right."""

    made: list[Folder] = field(default_factory=list)
    repaired: list[Folder] = field(default_factory=list)


def differences(root: Path, folders: list[Folder]) -> Changes:
    """Compare `folders` (the root first) with the disk; raises `Obstructed`. Changes nothing."""
    changes = Changes()
    for folder in folders:
        path = folder.path
        if not path.exists() and not path.is_symlink():
            changes.made.append(folder)
        elif not path.is_dir() or (path.is_symlink() and path != root):
            raise Obstructed(f"{path} is not a folder")
        elif not as_wanted(folder, path.stat()):
            changes.repaired.append(folder)
    return changes


def as_wanted(folder: Folder, found: os.stat_result) -> bool:
    """Whether a folder that is there has the mode and the owner it should have."""
    owned = folder.owner is None or folder.owner == (found.st_uid, found.st_gid)
    return owned and stat.S_IMODE(found.st_mode) == folder.mode


def apply(root: Path, changes: Changes) -> None:
    """Make and repair. The umask takes nothing from a mode, and no link below `root` is followed:
    a folder may belong to a user who would like another one to change hands."""
    before = os.umask(0)
    try:
        for folder in changes.made:
            make(root, folder)
        for folder in (*changes.made, *changes.repaired):
            descriptor = opened(root, folder.path)
            try:
                put_right(descriptor, folder)
            finally:
                os.close(descriptor)
    finally:
        os.umask(before)


def make(root: Path, folder: Folder) -> None:
    """Make one folder; those above the root get the mode that folders usually have."""
    if folder.path == root:
        os.makedirs(root.parent, mode=0o755, exist_ok=True)  # noqa: PTH103 - pathlib ignores `mode`
        root.mkdir(mode=folder.mode)
        return
    parent = opened(root, folder.path.parent)
    try:
        os.mkdir(folder.path.name, mode=folder.mode, dir_fd=parent)
    finally:
        os.close(parent)


def opened(root: Path, path: Path) -> int:
    """A descriptor of the folder `path`; no link below `root` is followed."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    descriptor = os.open(root, flags)
    for part in path.relative_to(root).parts:
        outer = descriptor
        try:
            descriptor = os.open(part, flags | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return descriptor


def put_right(descriptor: int, folder: Folder) -> None:
    """Give an open folder its owner and its mode."""
    found = os.fstat(descriptor)
    if folder.owner is not None and folder.owner != (found.st_uid, found.st_gid):
        os.fchown(descriptor, *folder.owner)
        hand_over(descriptor, found.st_uid, folder.owner)
    os.fchmod(descriptor, folder.mode)


def hand_over(descriptor: int, before: int, owner: Owner) -> None:
    """Give `owner` everything below an open folder that belonged to the user `before`."""
    for _, folders, files, inner in os.fwalk(".", dir_fd=descriptor, follow_symlinks=False):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=inner, follow_symlinks=False).st_uid == before:
                os.chown(name, *owner, dir_fd=inner, follow_symlinks=False)


def owner_named(name: str | None, *, may_be_missing: bool) -> Owner | None:
    """The numbers of a user and of the group of the same name."""
    if name is None:
        return None
    try:
        return pwd.getpwnam(name).pw_uid, grp.getgrnam(name).gr_gid
    except KeyError as error:
        if may_be_missing:
            return NOBODY_YET
        raise Obstructed(f"there is no user and group named {name}") from error


def wanted(parameters: dict[str, object], *, may_be_missing: bool) -> list[Folder]:
    """The folders of the task, each once; what `owned` says of a folder counts."""
    root, mode = Path(str(parameters["root"])), int(str(parameters["mode"]), 8)
    folders = {root: Folder(root, mode)}
    for name in parameters["folders"]:  # type: ignore[attr-defined]
        folders[root / name] = Folder(root / name, mode)
    for one in parameters["owned"]:  # type: ignore[attr-defined]
        owner = owner_named(one["owner"], may_be_missing=may_be_missing)
        for way in reversed((root / one["path"]).relative_to(root).parents):
            folders.setdefault(root / way, Folder(root / way, WAY_THROUGH))
        folders[root / one["path"]] = Folder(root / one["path"], int(one["mode"], 8), owner)
    return list(folders.values())


def main() -> None:
    """Answer Ansible."""
    owned = {
        "path": {"type": "str", "required": True},
        "mode": {"type": "str", "required": True},
        "owner": {"type": "str"},
    }
    options = {
        "root": {"type": "str", "required": True},
        "folders": {"type": "list", "elements": "str", "required": True},
        "mode": {"type": "str", "required": True},
        "owned": {"type": "list", "elements": "dict", "options": owned, "default": []},
        "make": {"type": "bool", "default": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    root = Path(module.params["root"])
    try:
        folders = wanted(module.params, may_be_missing=module.check_mode)
        changes = differences(root, folders)
        if not module.params["make"]:
            changes.made.clear()
        if not module.check_mode:
            apply(root, changes)
    except (Obstructed, OSError) as error:
        module.fail_json(msg=str(error))
    made, repaired = (
        [str(one.path) for one in list_] for list_ in (changes.made, changes.repaired)
    )
    module.exit_json(changed=bool(made or repaired), made=made, repaired=repaired)


if __name__ == "__main__":
    main()
