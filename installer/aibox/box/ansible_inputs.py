"""What one run of Ansible is given: settings, inventory, variables and environment.

Variables travel only as data. Ansible trusts the strings of a variables file as templates; its
JSON decoder takes the trust away from `{"__ansible_unsafe": text}`, so every string is sent so.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from aibox.box import user_units
from aibox.errors import Failed, Fault

CALLBACK_FOLDER = Path(__file__).parent / "ansible_callback"
INHERITED = (
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CONFIG_HOME",
)
"""What Ansible inherits: enough to find programs and the user's systemd, and no secret."""

SETTINGS = """\
[defaults]
any_errors_fatal = true
callbacks_enabled = aibox_events
duplicate_dict_key = error
gathering = explicit
host_pattern_mismatch = error
inject_facts_as_vars = false
no_target_syslog = true
nocolor = true
nocows = true
retry_files_enabled = false
stdout_callback = ansible.builtin.default
vars_plugins_enabled =

[connection]
pipelining = true

[inventory]
enable_plugins = ansible.builtin.yaml
"""
_VARIABLE = re.compile(r"[a-z_][a-z0-9_]*")
_RESERVED = "__ansible"


def write(run_folder: Path, variables: Mapping[str, object]) -> None:
    """Make `run_folder` with ansible.cfg, inventory.json (this host) and vars.json, all 0600.

    Raises `Failed` for a variable that Ansible cannot be given as data.
    """
    for name in variables:
        if not _VARIABLE.fullmatch(name):
            raise _unusable(f"{name!r} is no name of a variable")
    host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"all": {"hosts": {"localhost": as_data(host)}}}
    contents = {
        "ansible.cfg": SETTINGS,
        "inventory.json": json.dumps(inventory),
        "vars.json": json.dumps(as_data(variables)),
    }
    run_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in contents.items():
        _write_private(run_folder / name, text)


def as_data(value: object) -> object:
    """`value` as JSON in which no string is a template; raises `Failed` if it has no JSON form."""
    match value:
        case None | bool() | int():
            return value
        case str() | Path():
            return {"__ansible_unsafe": str(value)}
        case float() if value == value and abs(value) != float("inf"):
            return value
        case Mapping():
            return {_key(key): as_data(item) for key, item in value.items()}
        case list() | tuple():
            return [as_data(item) for item in value]
    raise _unusable(f"{value!r} is no JSON value")


def environment(run_folder: Path, roles_path: Path) -> dict[str, str]:
    """The allow-listed environment, with every path Ansible needs.

    Paths go here and not in ansible.cfg, which would interpolate a percent sign in them. What
    Ansible writes on the way stays in `run_folder/work`, so nothing appears in the user's home.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    work = run_folder / "work"
    return {
        "PATH": os.defpath,
        **inherited,
        **user_units.access(),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_CONFIG": str(run_folder / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(CALLBACK_FOLDER),
        "ANSIBLE_ROLES_PATH": str(roles_path),
        "ANSIBLE_COLLECTIONS_PATH": str(work / "collections"),
        "ANSIBLE_HOME": str(work),
        "ANSIBLE_LOCAL_TEMP": str(work / "local"),
        "ANSIBLE_REMOTE_TEMP": str(work / "remote"),
    }


def _key(key: object) -> str:
    """A key that cannot be taken for one of Ansible's own encodings."""
    if not isinstance(key, str) or key.startswith(_RESERVED):
        raise _unusable(f"{key!r} cannot be a key")
    return key


def _unusable(reason: str) -> Failed:
    return Failed(
        "ansible-variable-unusable",
        f"a role variable cannot be handed to Ansible: {reason}",
        hint="this is a defect of aibox; report it with the output of: ./aibox --version",
        fault=Fault.US,
    )


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, also while it is being written."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
