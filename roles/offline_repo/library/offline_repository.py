#!/usr/bin/python
"""Lets the package manager of a host know one signed folder, apart from its other sources."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]
from ansible.module_utils.offline_apt import Apt  # type: ignore[import-not-found]
from ansible.module_utils.offline_apt import files as apt_files
from ansible.module_utils.offline_apt import index_of as apt_index
from ansible.module_utils.offline_dnf import INDEX as DNF_INDEX  # type: ignore[import-not-found]
from ansible.module_utils.offline_dnf import Dnf
from ansible.module_utils.offline_dnf import files as dnf_files
from ansible.module_utils.offline_refusal import Refused  # type: ignore[import-not-found]

DOCUMENTATION = r"""
module: offline_repository
short_description: Let apt or dnf know one signed folder
description:
  - Writes settings of apt or dnf into a folder of its own, and reads the repository's index with
    them. Settings, sources and lists of the host are neither used nor changed.
  - Fails when the index is not signed by the key, or when a digest differs.
options:
  state:
    description: Whether the repository is to be known.
    type: str
    choices: [present, absent]
    default: present
  work:
    description: Folder for the settings and lists; this module makes and removes it.
    type: path
    required: true
  source:
    description: Folder of the repository.
    type: path
  key:
    description: File of the key that signs it.
    type: path
  format:
    description: What kind of packages it holds.
    type: str
    choices: [deb, rpm]
    default: deb
  suite:
    description: Codename of the release, for deb.
    type: str
    default: ""
  components:
    description: Components of the suite, for deb.
    type: list
    elements: str
    default: [main]
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Know the packages of this generation
  offline_repository:
    work: /var/lib/aibox/provision/repository/runtime
    source: /var/lib/aibox/current/tree/packages/runtime
    key: /var/lib/aibox/current/tree/packages/runtime/aibox-packages.gpg
    suite: trixie
"""

RETURN = r"""
pending:
  description: In check mode, whether the repository is not there yet.
  returned: when state is present
  type: bool
"""

_PLAIN = re.compile(r"/[\w./+@:~-]+", re.ASCII)
_FOLDER_MODE = 0o700


def wanted_files(given: dict[str, object], key: bytes) -> dict[str, bytes]:
    """The work folder's files, by their path below it."""
    work, source = Path(str(given["work"])), Path(str(given["source"]))
    if given["format"] == "rpm":
        return dnf_files(work, source, key)
    return apt_files(work, source, str(given["suite"]), list(given["components"]), key)  # type: ignore[call-overload]


def index_path(given: dict[str, object]) -> Path:
    """The signed index of the repository."""
    source = Path(str(given["source"]))
    return (
        source / DNF_INDEX if given["format"] == "rpm" else apt_index(source, str(given["suite"]))
    )


def require_plain(work: Path) -> None:
    """apt's settings have no way to write a path with a space in it; raises `Refused`."""
    if not _PLAIN.fullmatch(str(work)):
        raise Refused(
            f"{str(work)!r} holds letters that apt's settings cannot hold",
            cause="allowed are letters and digits of ASCII and . / + @ : ~ - _",
            fix="choose another folder for the box, for example: AIBOX_HOME=/var/lib/aibox",
        )


def differing(work: Path, files: dict[str, bytes]) -> list[str]:
    """The paths below `work` whose bytes are not (yet) those of `files`."""
    return [path for path, data in files.items() if not _holds(work / path, data)]


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def write(work: Path, files: dict[str, bytes]) -> None:
    """Write the files; folders and files are private whatever the umask."""
    for path, data in files.items():
        target = work / path
        target.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        target.write_bytes(data)


def know(given: dict[str, object], *, check: bool) -> dict[str, object]:
    """Write what differs and read the index; in check mode a repository may be yet to come."""
    work, index = Path(str(given["work"])), index_path(given)
    require_plain(work)
    missing = [path for path in (index, Path(str(given["key"]))) if not path.is_file()]
    if missing and check:
        return {"changed": True, "pending": True}
    if missing:
        raise Refused(
            f"there is no package repository at {given['source']}",
            cause=f"{missing[0]} is missing",
            fix="install from the bundle again: aibox install --bundle BUNDLE",
        )
    files = wanted_files(given, Path(str(given["key"])).read_bytes())
    changed = differing(work, files)
    if not check:
        write(work, files)
        (Dnf if given["format"] == "rpm" else Apt)(work).refresh()
    return {"changed": bool(changed), "pending": False}


def forget(work: Path, *, check: bool) -> dict[str, object]:
    """Remove the work folder, and the one above it when it is then empty."""
    there = work.exists()
    if there and not check:
        shutil.rmtree(work)
        if not any(work.parent.iterdir()):
            work.parent.rmdir()
    return {"changed": there}


def main() -> None:
    """Answer Ansible."""
    options = {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "work": {"type": "path", "required": True},
        "source": {"type": "path"},
        "key": {"type": "path"},
        "format": {"type": "str", "choices": ["deb", "rpm"], "default": "deb"},
        "suite": {"type": "str", "default": ""},
        "components": {"type": "list", "elements": "str", "default": ["main"]},
    }
    needs = [("state", "present", ["source", "key"]), ("state", "absent", [])]
    module = AnsibleModule(argument_spec=options, required_if=needs, supports_check_mode=True)
    os.umask(0o077)
    try:
        if module.params["state"] == "absent":
            result = forget(Path(module.params["work"]), check=module.check_mode)
        else:
            result = know(module.params, check=module.check_mode)
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
