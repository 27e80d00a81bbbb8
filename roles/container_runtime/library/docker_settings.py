#!/usr/bin/python
"""Merges settings into Docker's daemon.json, and takes out again what it put in."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: docker_settings
short_description: Merge settings into Docker's daemon.json
description:
  - Adds what is missing. A value that somebody else wrote is never changed; it is told as a
    conflict. Written down is what was added, so that state absent takes exactly that out.
  - A file that is no JSON object is refused and left as it is. Where dockerd is installed it
    judges the new file before it takes the place of the old one.
options:
  state:
    description: Whether the settings are to be there.
    type: str
    choices: [present, absent]
    default: present
  owner:
    description: For whom the settings are; a record is kept for each owner.
    type: str
    required: true
  records:
    description: Folder of the records.
    type: path
    required: true
  settings:
    description: What daemon.json is to contain; objects are merged, other values are whole.
    type: dict
    default: {}
  path:
    description: The file.
    type: path
    default: /etc/docker/daemon.json
  announce:
    description: Only say what would change.
    type: bool
    default: false
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Let containers outlive a restart of the engine
  docker_settings:
    owner: container_runtime
    records: /var/lib/aibox/provision
    settings:
      live-restore: true
"""

RETURN = r"""
added:
  description: Settings that were, or would be, added or renewed, as dotted paths.
  returned: always
  type: list
  elements: str
taken:
  description: Settings that were, or would be, taken out.
  returned: always
  type: list
  elements: str
conflicts:
  description: Settings for which somebody else chose another value, as dotted paths.
  returned: always
  type: list
  elements: str
"""

VERSION = 1
SUFFIX = ".settings.json"
FILE_MODE = 0o644
# Options of one log driver are unknown to others, and an unknown option keeps containers from
# starting: they go only with a driver that has them.
ROTATING_DRIVERS = ("json-file", "local")
JUDGE_SECONDS = 60

Keys = tuple  # where a value lies: keys of daemon.json may contain dots
Leaves = dict  # values by their keys
_NOTHING = object()


class Refused(Exception):
    """The file cannot be merged into."""


@dataclass(frozen=True)
class Merged:
    """The file as it should be, what differs from before, and what there is to remember."""

    content: dict[str, object]
    added: tuple[str, ...]
    taken: tuple[str, ...]
    conflicts: tuple[str, ...]
    leaves: Leaves


def leaves(tree: Mapping[str, object], above: Keys = ()) -> Leaves:
    """Every value that is not an object, by its path of keys."""
    found: Leaves = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            found.update(leaves(value, (*above, key)))
        else:
            found[(*above, key)] = value
    return found


def merge(found: dict[str, object], wanted: Mapping[str, object], ours: Leaves) -> Merged:
    """Pure: what somebody else wrote stays; what we wrote follows what we want now."""
    content = json.loads(json.dumps(found))
    have, want = leaves(found), leaves(wanted)
    kept = {path: value for path, value in ours.items() if have.get(path, _NOTHING) == value}
    taken = [path for path in kept if path not in want]
    for path in taken:
        _cut(content, path)
    added, conflicts = [], []
    for path, value in want.items():
        if have.get(path, _NOTHING) == value:
            continue
        if path in kept or _is_free(content, path):
            _put(content, path, value)
            added.append(path)
        else:
            conflicts.append(path)
    mine = {path: want[path] for path in want if path in kept or path in added}
    return Merged(content, _dotted(added), _dotted(taken), _dotted(conflicts), mine)


def _dotted(paths: list[Keys]) -> tuple[str, ...]:
    return tuple(".".join(path) for path in sorted(paths))


def _is_free(tree: object, path: Keys) -> bool:
    """Whether a value can be put there without displacing one."""
    for key in path:
        if not isinstance(tree, dict):
            return False
        if key not in tree:
            return True
        tree = tree[key]
    return False


def _put(tree: dict[str, object], path: Keys, value: object) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})  # type: ignore[assignment]
    tree[path[-1]] = value


def _cut(tree: dict[str, object], path: Keys) -> None:
    """Take a value out, and the objects around it that are empty then."""
    inner = tree.get(path[0])
    if len(path) > 1 and isinstance(inner, dict):
        _cut(inner, path[1:])
        if not inner:
            del tree[path[0]]
    elif len(path) == 1:
        tree.pop(path[0], None)


def fitting(found: Mapping[str, object], wanted: dict[str, object]) -> dict[str, object]:
    """What we want, without options for a log driver that somebody else replaced."""
    if found.get("log-driver", ROTATING_DRIVERS[0]) in ROTATING_DRIVERS:
        return wanted
    return {key: value for key, value in wanted.items() if key not in ("log-driver", "log-opts")}


def load(path: Path) -> dict[str, object]:
    """The object in the file; nothing if there is no file or it is empty."""
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Refused(
            f"{path} is not JSON ({error}) and was left as it is; {_LOOK.format(path)}"
        ) from error
    if not isinstance(found, dict):
        raise Refused(f"{path} is not a JSON object and was left as it is; {_LOOK.format(path)}")
    return found


_LOOK = "put it right, then try again; it says where it is wrong: python3 -m json.tool {}"


def load_record(path: Path) -> Leaves:
    """What this owner put in before; nothing if there is no record."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return {tuple(entry["path"]): entry["value"] for entry in told["settings"]}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(
            f"the list of settings {path} cannot be read ({error}); look: cat {path}"
        ) from error


def save_record(path: Path, ours: Leaves) -> None:
    """Replace or, if it says nothing, remove the record."""
    if not ours:
        path.unlink(missing_ok=True)
        return
    entries = [{"path": list(key), "value": value} for key, value in sorted(ours.items())]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {"version": VERSION, "settings": entries}
    replace(path, json.dumps(told, indent=1).encode(), 0o600)


def replace(path: Path, data: bytes, mode: int) -> None:
    """Other content in one step; a link leads to the file that is replaced, an owner stays."""
    target = Path(os.path.realpath(path))
    before = target.stat() if target.exists() else None
    descriptor, draft = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
        os.fchmod(stream.fileno(), mode if before is None else before.st_mode & 0o7777)
        if before is not None:
            os.fchown(stream.fileno(), before.st_uid, before.st_gid)
    Path(draft).replace(target)


def judge(content: dict[str, object]) -> None:
    """Let dockerd look at the new file where it can; raises `Refused` with what it says."""
    program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if program is None:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".json") as draft:
        draft.write(written(content).decode())
        draft.flush()
        done = subprocess.run(
            [program, "--validate", "--config-file", draft.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=JUDGE_SECONDS,
            check=False,
        )
    said = done.stderr.decode(errors="replace").strip()
    # Before version 23 dockerd did not know how to look at a file only.
    if done.returncode and "unknown flag" not in said:
        raise Refused(
            f"dockerd refuses the settings ({said[-400:]}), and nothing was changed; "
            "look at what there is: cat /etc/docker/daemon.json"
        )


def written(content: dict[str, object]) -> bytes:
    """The file's bytes; keys stay in their order."""
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def change(path: Path, merged: Merged, record_path: Path, ours: Leaves) -> None:
    """Write the file and the record. The record comes first, with what was there before: what it
    names and the file (after a power cut) does not have, nobody takes out."""
    save_record(record_path, {**ours, **merged.leaves})
    if merged.content:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace(path, written(merged.content), FILE_MODE)
    else:
        remove(path)
    save_record(record_path, merged.leaves)


def remove(path: Path) -> None:
    """Remove a file in which nothing is left, and its folder when that is empty too."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def answer(given: Mapping[str, object], *, check: bool) -> dict[str, object]:
    """Merge, or take out; with `check` only say what would change."""
    path = Path(str(given["path"]))
    record_path = Path(str(given["records"])) / f"{given['owner']}{SUFFIX}"
    found, ours = load(path), load_record(record_path)
    settings: dict[str, object] = given["settings"] if given["state"] == "present" else {}  # type: ignore[assignment]
    merged = merge(found, fitting(found, settings), ours)
    changed = bool(merged.added or merged.taken)
    if changed and not check:
        judge(merged.content)
        change(path, merged, record_path, ours)
    elif merged.leaves != ours and not check:
        save_record(record_path, merged.leaves)
    told = {"added": merged.added, "taken": merged.taken, "conflicts": merged.conflicts}
    return {"changed": changed, **{name: list(paths) for name, paths in told.items()}}


def main() -> None:
    """Answer Ansible."""
    options = {
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "owner": {"type": "str", "required": True},
        "records": {"type": "path", "required": True},
        "settings": {"type": "dict", "default": {}},
        "path": {"type": "path", "default": "/etc/docker/daemon.json"},
        "announce": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    os.umask(0o022)
    try:
        check = module.check_mode or module.params["announce"]
        result = answer(module.params, check=check)
    except (Refused, OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
