#!/usr/bin/python
"""Keeps the packages of the host's kernel at their version, and releases what it kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: kernel_holds
short_description: Keep the host's kernel packages at their version
description:
  - A driver's module is made for one kernel; another one that comes with the host's updates would
    leave it without. Holds packages that were on the host before, which the roles that install
    packages never hold, and writes down which, so that state absent releases these alone.
options:
  state:
    description: Whether to hold or to release.
    type: str
    choices: [present, absent]
    default: present
  record:
    description: File in which to write down what was held.
    type: path
    required: true
  names:
    description: Packages to hold; those already held, by whomever, are left as they are.
    type: list
    elements: str
    default: []
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Hold the kernel
  kernel_holds:
    record: /var/lib/aibox/provision/nvidia_driver.holds.json
    names: [linux-image-amd64]
"""

RETURN = r"""
held:
  description: Packages that were, or in check mode would be, held.
  returned: always
  type: list
  elements: str
released:
  description: Packages that were, or in check mode would be, released.
  returned: always
  type: list
  elements: str
"""

APT = {
    "list": ("apt-mark", "showhold"),
    "add": ("apt-mark", "hold"),
    "drop": ("apt-mark", "unhold"),
}
DNF = {
    "list": ("dnf", "--quiet", "versionlock", "list"),
    "add": ("dnf", "versionlock", "add"),
    "drop": ("dnf", "versionlock", "delete"),
}


class Refused(Exception):
    """The package manager did not do it; its own words."""


def to_hold(names: Collection[str], held: Collection[str]) -> list[str]:
    """Which packages are not held yet."""
    return sorted(set(names) - set(held))


def to_release(recorded: Collection[str], held: Collection[str]) -> list[str]:
    """Which of those that were held by this module still are."""
    return sorted(set(recorded) & set(held))


def load(record: Path) -> list[str]:
    """What was written down; nothing without a record."""
    try:
        names: list[str] = json.loads(record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return names


def save(record: Path, names: Sequence[str]) -> None:
    """Write the record in one step: whole, or as it was."""
    record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = record.with_name(f"{record.name}.new")
    draft.write_text(json.dumps(sorted(names)) + "\n", encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(record)


def commands() -> dict[str, tuple[str, ...]]:
    """How this host's package manager says it."""
    return APT if shutil.which("apt-mark") else DNF


def ask(*command: str) -> list[str]:
    """The lines a command says; raises `Refused` with its words."""
    done = subprocess.run(
        command,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise Refused(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout.split()


def held_names(names: Collection[str]) -> list[str]:
    """Which of `names` the host holds; dnf says them with their versions."""
    said = ask(*commands()["list"])
    if commands() is APT:
        return sorted(set(said) & set(names))
    bare = [line.partition(":")[0].rpartition("-")[0] or line for line in said]
    return sorted(set(bare) & set(names))


def hold(record: Path, names: Collection[str], *, check: bool) -> list[str]:
    """Hold what is not held. It is written down first, so that whatever is held can be released."""
    missing = to_hold(names, held_names(names))
    if missing and not check:
        save(record, sorted({*load(record), *missing}))
        ask(*commands()["add"], *missing)
    return missing


def release(record: Path, *, check: bool) -> list[str]:
    """Release what the record says; raises `Refused`."""
    recorded = load(record)
    names = to_release(recorded, held_names(recorded)) if recorded else []
    if names and not check:
        ask(*commands()["drop"], *names)
    if recorded and not check:
        record.unlink()
    return names


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "record": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    record, check = Path(module.params["record"]), module.check_mode
    held: list[str] = []
    released: list[str] = []
    try:
        if module.params["state"] == "present":
            held = hold(record, module.params["names"], check=check)
        else:
            released = release(record, check=check)
    except (Refused, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(held or released), held=held, released=released)


if __name__ == "__main__":
    main()
