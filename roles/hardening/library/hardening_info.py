#!/usr/bin/python
"""Measures how well a server is closed. Reads only; root sees everything."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: hardening_info
short_description: Measure how well a server is closed
description:
  - Reads kernel settings, what sshd lets in, files that anybody may write below a folder, and
    whether an audit daemon and a time service run. Changes nothing.
options:
  root:
    description: Folder whose files nobody else should write.
    type: str
    required: true
  settings:
    description: Names of kernel settings to read.
    type: list
    elements: str
    default: []
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Measure
  hardening_info:
    root: /var/lib/aibox
    settings: [kernel.kptr_restrict]
  register: measured
"""

RETURN = r"""
hardening:
  description: Plain values; see the module's functions.
  returned: always
  type: dict
"""

AT_MOST = 50
TIME_SERVICES = ("chronyd", "chrony", "systemd-timesyncd", "ntpd", "ntpsec", "ntp")
PASSWORDS = re.compile(r"^(passwordauthentication|kbdinteractiveauthentication) yes$", re.M)
KEY_FILES = ("root/.ssh/authorized_keys", "home/*/.ssh/authorized_keys")


def settings(names: list[str], kernel: Path) -> dict[str, str]:
    """Kernel settings by name; those that this kernel does not have are left out."""
    found = {}
    for name in names:
        path = kernel / name.replace(".", "/")
        if path.exists():
            found[name] = path.read_text(encoding="utf-8").strip()
    return found


def world_writable(root: Path) -> Iterator[str]:
    """Files and folders below `root`, on its file system, that anybody may write."""
    device = root.stat().st_dev
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder) / name
            found = path.lstat()
            if found.st_dev == device and writable_by_all(found.st_mode):
                yield str(path)


def writable_by_all(mode: int) -> bool:
    """Whether the mode lets anybody write; folders that keep owners apart (sticky) do not count."""
    if stat.S_ISLNK(mode) or stat.S_ISSOCK(mode):
        return False
    return bool(mode & stat.S_IWOTH) and not (stat.S_ISDIR(mode) and mode & stat.S_ISVTX)


def has_keys(root: Path) -> bool:
    """Whether anybody could log in with a key."""
    found = (path for pattern in KEY_FILES for path in root.glob(pattern))
    return any(path.stat().st_size > 0 for path in found)


def sshd(module: AnsibleModule) -> str:
    """`keys`: nobody gets in with a password; `passwords`; `absent`, or `unknown`."""
    program = module.get_bin_path("sshd")
    if program is None:
        return "absent"
    status, said, _ = module.run_command([program, "-T"])
    if status != 0:
        return "unknown"
    return "passwords" if PASSWORDS.search(said) else "keys"


def active(module: AnsibleModule, *units: str) -> str:
    """The first of these units that runs, or nothing."""
    for unit in units:
        status, _, _ = module.run_command(["systemctl", "is-active", "--quiet", unit])
        if status == 0:
            return unit
    return ""


def main() -> None:
    """Answer Ansible."""
    options = {
        "root": {"type": "str", "required": True},
        "settings": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    root = Path(module.params["root"])
    systemd = module.get_bin_path("systemctl") is not None
    module.exit_json(
        hardening={
            "settings": settings(module.params["settings"], Path("/proc/sys")),
            "world_writable": sorted(world_writable(root))[:AT_MOST] if root.is_dir() else [],
            "ssh": sshd(module),
            "ssh_keys": has_keys(Path("/")),
            "audit": active(module, "auditd") if systemd else "",
            "time": active(module, *TIME_SERVICES) if systemd else "",
        }
    )


if __name__ == "__main__":
    main()
