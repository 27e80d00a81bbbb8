#!/usr/bin/python
"""Keeps kernel settings in a file of their own that remembers what they were before."""

from __future__ import annotations

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: kernel_settings
short_description: Keep kernel settings in a file of their own
description:
  - Writes sysctl settings to a file for every boot and to the kernel now. The file remembers the
    value that each had before, and absent gives it back. A setting that this kernel does not have
    is left out; one whose value is already as good is left alone.
options:
  path:
    description: The file, in a folder that is read at boot.
    type: str
    required: true
  settings:
    description: Values by the name of the setting; the first of a list is wanted, all are good.
    type: dict
    default: {}
  state:
    description: Whether the file should be there.
    type: str
    choices: [present, absent]
    default: present
  kernel:
    description: Folder of the kernel's settings.
    type: str
    default: /proc/sys
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Keep addresses of the kernel to itself
  kernel_settings:
    path: /etc/sysctl.d/60-example.conf
    settings:
      kernel.kptr_restrict: ["1", "2"]
"""

RETURN = r"""
set:
  description: Settings that were, or in check mode would be, given another value.
  returned: always
  type: dict
"""

BEFORE = re.compile(r"^# before: (\S+) = (.*)$", re.M)
NOW = re.compile(r"^(\w\S*) = (.*)$", re.M)
HEAD = "# Written by aibox. Removed with the box, which gives each setting its value before.\n"


def place(kernel: Path, name: str) -> Path:
    return kernel / name.replace(".", "/")


def value(kernel: Path, name: str) -> str | None:
    """What a setting is now, or None where the kernel has none of that name."""
    try:
        return place(kernel, name).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def kept(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """The values before and the values now that a file of this module remembers."""
    return dict(BEFORE.findall(text)), dict(NOW.findall(text))


def text_of(before: dict[str, str], now: dict[str, str]) -> str:
    """The file; nothing without settings."""
    lines = [f"# before: {name} = {before[name]}\n{name} = {now[name]}\n" for name in sorted(now)]
    return HEAD + "".join(lines) if lines else ""


def plan(
    settings: dict[str, list[str]], text: str, values: dict[str, str | None]
) -> tuple[str, dict[str, str]]:
    """The file as it should be, and what the kernel has yet to be told.

    A setting is in the file when it was not good before: by its own value, or by the file.
    """
    before, now = kept(text)
    for name, good in settings.items():
        found = values[name]
        if found is not None and found not in good:
            before.setdefault(name, found)
            now[name] = good[0]
    now = {name: wanted for name, wanted in now.items() if name in settings}
    told = {name: wanted for name, wanted in now.items() if values[name] not in settings[name]}
    return text_of(before, now), told


def main() -> None:
    """Answer Ansible."""
    options = {
        "path": {"type": "str", "required": True},
        "settings": {"type": "dict", "default": {}},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "kernel": {"type": "str", "default": "/proc/sys"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    path, kernel = Path(module.params["path"]), Path(module.params["kernel"])
    found = path.read_text(encoding="utf-8") if path.exists() else ""
    if module.params["state"] == "absent":
        text, told = "", kept(found)[0]
    else:
        settings = module.params["settings"]
        text, told = plan(settings, found, {name: value(kernel, name) for name in settings})
    try:
        if not module.check_mode:
            write(path, found, text)
            tell(kernel, told)
    except OSError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=text != found or bool(told), set=told)


def write(path: Path, found: str, text: str) -> None:
    """The file before the kernel: what it was is never forgotten."""
    if text and text != found:
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
    elif not text:
        path.unlink(missing_ok=True)


def tell(kernel: Path, told: dict[str, str]) -> None:
    for name, wanted in told.items():
        if place(kernel, name).exists():
            place(kernel, name).write_text(wanted + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
