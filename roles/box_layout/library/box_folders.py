#!/usr/bin/python
"""Makes a tree of private folders in one step and repairs their modes."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: box_folders
short_description: Make a tree of private folders
description:
  - Makes a folder and folders below it, and gives all of them one mode. Never follows a link
    below the root, never removes anything.
  - Exists because one call of ansible.builtin.file per folder takes ten times as long.
options:
  root:
    description: Absolute path of the tree; it may be a link to a folder.
    type: str
    required: true
  folders:
    description: Paths relative to the root, parents before children.
    type: list
    elements: str
    required: true
  mode:
    description: Octal mode of every folder.
    type: str
    required: true
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Make a small tree
  box_folders:
    root: /var/lib/aibox
    folders: [blobs, blobs/sha256]
    mode: "0700"
"""

RETURN = r"""
made:
  description: Folders that were, or in check mode would be, made.
  returned: always
  type: list
  elements: str
repaired:
  description: Folders whose mode was, or in check mode would be, changed.
  returned: always
  type: list
  elements: str
"""


class Obstructed(Exception):
    """Something that is not a folder lies where a folder belongs."""


@dataclass
class Changes:
    """What differs from the wanted tree, in the order in which it is put right."""

    made: list[str] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)


def differences(paths: list[Path], mode: int) -> Changes:
    """Compare `paths` (the root first) with the disk; raises `Obstructed`. Changes nothing."""
    changes = Changes()
    root = paths[0]
    for path in paths:
        if not path.exists() and not path.is_symlink():
            changes.made.append(str(path))
        elif not path.is_dir() or (path.is_symlink() and path != root):
            raise Obstructed(f"{path} is not a folder")
        elif stat.S_IMODE(path.stat().st_mode) != mode:
            changes.repaired.append(str(path))
    return changes


def apply(changes: Changes, mode: int) -> None:
    """Make and repair; the mode is set apart because the umask takes bits from `mkdir`."""
    for name in changes.made:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).mkdir(mode=mode)
    for name in (*changes.made, *changes.repaired):
        Path(name).chmod(mode)


def main() -> None:
    """Answer Ansible."""
    options = {
        "root": {"type": "str", "required": True},
        "folders": {"type": "list", "elements": "str", "required": True},
        "mode": {"type": "str", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    root, mode = Path(module.params["root"]), int(module.params["mode"], 8)
    try:
        changes = differences([root, *(root / name for name in module.params["folders"])], mode)
        if not module.check_mode:
            apply(changes, mode)
    except (Obstructed, OSError) as error:
        module.fail_json(msg=str(error))
    changed = bool(changes.made or changes.repaired)
    module.exit_json(changed=changed, made=changes.made, repaired=changes.repaired)


if __name__ == "__main__":
    main()
