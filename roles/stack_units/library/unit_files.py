#!/usr/bin/python
"""Makes files of a folder what they should be, all in one step."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: unit_files
short_description: Make files of a folder what they should be
description:
  - Writes texts to files of mode 0644 where they differ; each file is the old one or the new one
    at any time. Other files of the folder stay.
  - Exists because one call of ansible.builtin.copy for each runs two modules for every file.
options:
  folder:
    description: Absolute path of a folder that is there.
    type: str
    required: true
  files:
    description: Texts by the name of the file.
    type: dict
    required: true
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Write two files
  unit_files:
    folder: /etc/systemd/system
    files:
      example.service: "[Service]\nExecStart=/bin/true\n"
"""

RETURN = r"""
written:
  description: Names of the files that were, or in check mode would be, written.
  returned: always
  type: list
  elements: str
"""

MODE = 0o644


def is_as_wanted(path: Path, text: str) -> bool:
    """Whether the file is there with this text and the mode; a link to a file is not."""
    try:
        found = path.lstat()
        return (
            stat.S_ISREG(found.st_mode)
            and stat.S_IMODE(found.st_mode) == MODE
            and path.read_bytes() == text.encode()
        )
    except FileNotFoundError:
        return False


def write(path: Path, text: str) -> None:
    """Put a new file in the place of what was there; the umask takes nothing from its mode."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".aibox-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fchmod(descriptor, MODE)
            os.fsync(descriptor)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def main() -> None:
    """Answer Ansible."""
    options = {
        "folder": {"type": "str", "required": True},
        "files": {"type": "dict", "required": True},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    folder, files = Path(module.params["folder"]), module.params["files"]
    try:
        written = [name for name in files if not is_as_wanted(folder / name, files[name])]
        if not module.check_mode:
            for name in written:
                write(folder / name, files[name])
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
