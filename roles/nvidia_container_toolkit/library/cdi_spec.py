#!/usr/bin/python
"""Writes the list of GPUs that containers may be given (CDI), and says whether it is still true."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: cdi_spec
short_description: Write and check the CDI specification of NVIDIA's GPUs
description:
  - State refreshed lets nvidia-ctk make the specification, and replaces the file in one step where
    it differs. State checked only reads. Both say which devices it offers and what of it is not
    true of this host (any more).
options:
  state:
    description: Whether to make it anew.
    type: str
    choices: [refreshed, checked]
    default: checked
  path:
    description: The file.
    type: path
    default: /var/run/cdi/nvidia.yaml
  driver:
    description: The version of the driver that is loaded; empty to leave versions alone.
    type: str
    default: ""
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Make the list of GPUs anew
  cdi_spec:
    state: refreshed
    driver: 580.178.04
"""

RETURN = r"""
devices:
  description: Names of the devices, such as 0, GPU-… and all; MIG slices as 0:1.
  returned: always
  type: list
  elements: str
problems:
  description: What the specification says and is not so.
  returned: always
  type: list
  elements: str
"""

SECONDS = 120
_LINE = re.compile(
    r'^(?P<indent>\s*)(?P<item>-\s*)?"?(?P<key>\w+)"?:\s*"?(?P<value>[^",]*)"?,?\s*$'
)
_LIBRARY = re.compile(r"/lib(?:cuda|nvidia-ml)\.so\.(?P<version>[0-9]+\.[0-9.]+)$")


class Refused(Exception):
    """nvidia-ctk made no specification; its own words."""


@dataclass
class Node:
    """A device file, and the numbers it had when the specification was made, where it says them."""

    path: str
    major: int | None = None
    minor: int | None = None


@dataclass
class Spec:
    """What a specification says of this host."""

    devices: list[str] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def versions(self) -> set[str]:
        """The driver's versions in the names of its libraries."""
        found = (_LIBRARY.search(path) for path in self.paths)
        return {match["version"] for match in found if match}


def parse(text: str) -> Spec:
    """Read a specification as nvidia-ctk writes it, YAML or indented JSON, line by line.

    A host without Ansible's own libraries has no YAML reader; nvidia-ctk's form is fixed.
    """
    spec = Spec()
    for match in filter(None, map(_LINE.match, text.splitlines())):
        key, value = match["key"], match["value"].strip().strip("'")
        if key == "name":
            spec.devices.append(value)
        elif key in ("major", "minor") and spec.nodes:
            setattr(spec.nodes[-1], key, int(value))
        elif key in ("path", "hostPath"):
            _add_path(spec, key, value)
    return spec


def _add_path(spec: Spec, key: str, value: str) -> None:
    """Of a device file `path` is its place in the container, and `hostPath`, if any, here."""
    if key == "path" and value.startswith("/dev/"):
        spec.nodes.append(Node(value))
    elif key == "hostPath" and value.startswith("/dev/") and spec.nodes:
        spec.nodes[-1].path = value
    else:
        spec.paths.append(value)


def problems(spec: Spec, driver: str) -> list[str]:
    """What a specification says and is not so on this host."""
    found = [*_missing(spec.paths), *(p for node in spec.nodes if (p := _wrong(node)))]
    if driver and spec.versions and spec.versions != {driver}:
        said = ", ".join(sorted(spec.versions))
        found.append(f"it is for the driver {said}, and {driver} is loaded")
    if not spec.devices:
        found.append("it names no device")
    return found


def _missing(paths: Iterable[str]) -> list[str]:
    return [f"there is no {path}" for path in dict.fromkeys(paths) if not Path(path).exists()]


def _wrong(node: Node) -> str:
    try:
        status = Path(node.path).stat()
    except OSError:
        return f"there is no {node.path}"
    if node.major is None or not stat.S_ISCHR(status.st_mode):
        return ""
    now = (os.major(status.st_rdev), os.minor(status.st_rdev))
    then = (node.major, node.minor or 0)
    return (
        "" if now == then else f"{node.path} is device {now[0]}:{now[1]}, not {then[0]}:{then[1]}"
    )


def generate() -> str:
    """What nvidia-ctk makes of the GPUs there are; raises `Refused`."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "nvidia.yaml"
        try:
            done = subprocess.run(
                ["nvidia-ctk", "cdi", "generate", f"--output={made}"],
                env={**os.environ, "LC_ALL": "C"},
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Refused(str(error)) from error
        if done.returncode or not made.exists():
            raise Refused(f"nvidia-ctk cdi generate: {_last(done.stderr.splitlines())}")
        return made.read_text(encoding="utf-8")


def _last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else "it said nothing"


def replace(path: Path, text: str) -> None:
    """Write the file in one step. A draft that ends otherwise is none that runtimes would read."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)
    draft.replace(path)


def content(path: Path) -> str:
    """The file's text, or nothing."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["refreshed", "checked"], "default": "checked"},
            "path": {"type": "path", "default": "/var/run/cdi/nvidia.yaml"},
            "driver": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    text = content(path)
    changed = False
    try:
        if module.params["state"] == "refreshed":
            wanted = generate()
            changed, text = wanted != text, wanted
            if changed and not module.check_mode:
                replace(path, wanted)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    spec = parse(text)
    found = problems(spec, module.params["driver"])
    module.exit_json(changed=changed, devices=spec.devices, problems=found)


if __name__ == "__main__":
    main()
