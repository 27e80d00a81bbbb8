#!/usr/bin/python
"""Installs packages from one offline repository, and writes down what came, to take it away."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]
from ansible.module_utils.offline_apt import (  # type: ignore[import-not-found]
    Apt,
    configuration,
)
from ansible.module_utils.offline_dnf import Dnf  # type: ignore[import-not-found]
from ansible.module_utils.offline_dnf import configuration as dnf_configuration
from ansible.module_utils.offline_manager import (  # type: ignore[import-not-found]
    Manager,
    Steps,
    name_of,
)
from ansible.module_utils.offline_record import (  # type: ignore[import-not-found]
    Record,
    alone,
    drop,
    leaving,
    load,
    path_of,
    save,
)
from ansible.module_utils.offline_refusal import Refused  # type: ignore[import-not-found]

DOCUMENTATION = r"""
module: offline_packages
short_description: Install packages from one offline repository, or take them away again
description:
  - Installs from the repository that offline_repository made known, and from nothing else. Removes
    nothing for it, renews nothing that the host had before, and asks nobody anything.
  - Writes down what it brought before it brings it. State absent removes exactly that.
options:
  state:
    description:
      - V(planned) says what V(present) would do and who works with the host's packages now,
        V(leaving) the same of V(absent).
    type: str
    choices: [planned, present, leaving, absent]
    default: present
  owner:
    description: For whom the packages come; a record is kept for each owner.
    type: str
    required: true
  records:
    description: Folder of the records.
    type: path
    required: true
  work:
    description: Work folder of the repository; not needed to remove.
    type: path
  format:
    description: What kind of packages the host has.
    type: str
    choices: [deb, rpm]
    default: deb
  packages:
    description: Names, or name=version.
    type: list
    elements: str
    default: []
  held:
    description: Which of the packages that came stay at their version.
    type: list
    elements: str
    default: []
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Install
  offline_packages:
    owner: container_runtime
    records: /var/lib/aibox/provision
    work: /var/lib/aibox/provision/repository/runtime
    packages: [docker.io, docker-cli, docker-compose]
    held: [docker.io]
"""

RETURN = r"""
pending:
  description: Whether something is left to do (states planned and leaving).
  returned: always
  type: bool
holder:
  description: Which program works with the host's packages now, or nothing.
  returned: always
  type: str
brought:
  description: Packages that came, or would come, for this owner.
  returned: always
  type: list
  elements: str
renewed:
  description: Packages of the host that came, or would come, in a newer version.
  returned: always
  type: list
  elements: str
taken:
  description: Packages that were, or would be, removed.
  returned: always
  type: list
  elements: str
kept:
  description: Packages that this owner brought and something else needs.
  returned: always
  type: list
  elements: str
"""

LOOK = "wait for its end, or see what it does: ps -ef"
BUSY = "another program works with the packages of this host: {}; " + LOOK
EARLIER = "an earlier run of aibox, which goes on to its end"


def result(**said: object) -> dict[str, object]:
    """A whole answer, with what was not said empty."""
    empty: dict[str, object] = {"changed": False, "pending": False, "holder": ""}
    lists: dict[str, object] = {"brought": [], "renewed": [], "taken": [], "kept": []}
    return {**empty, **lists, **said}


def plan(manager: Manager, record: Record, packages: Sequence[str], held: Collection[str]) -> dict:  # type: ignore[type-arg]
    """What an installation would do now. Without the repository's settings (in check mode, where
    nothing has been written) only what is missing is known."""
    asked = manager.wanting(packages, record.names)
    if record.unfinished or not _knows_repository(manager):
        steps = Steps(new=tuple(map(name_of, asked)))
    else:
        steps = manager.plan(asked)
    holds = _to_hold(record, steps, held)
    there = bool(steps or holds or record.unfinished)
    return result(
        changed=there, pending=there, brought=list(steps.new), renewed=list(steps.changed)
    )


def _knows_repository(manager: Manager) -> bool:
    return any((manager.work / name).is_file() for name in ("apt.conf", "dnf.conf"))


def _to_hold(record: Record, steps: Steps, held: Collection[str]) -> set[str]:
    ours = record.names | set(steps.new)
    return (set(held) & ours) - set(record.held) if ours else set()


def install(manager: Manager, path: Path, packages: Sequence[str], held: Collection[str]) -> dict:  # type: ignore[type-arg]
    """Bring what is missing. The record knows of it before it comes, and of what came after."""
    record = load(path)
    if record.unfinished:
        manager.repair()
    asked = manager.wanting(packages, record.names)
    steps, before = manager.plan(asked), manager.installed()
    _refuse_harm(manager, record, steps)
    record.unfinished = sorted({*record.unfinished, *(set(steps.new) - record.packages.keys())})
    record.leaving = False
    save(path, record)
    if steps:
        manager.install(asked, change_held=bool(set(steps.changed) & set(record.held)))
    holds = _to_hold(record, steps, held)
    _settle(manager, path, record, holds)
    came = sorted(manager.installed().keys() - before.keys())
    changed = bool(steps or holds)
    return result(changed=changed, brought=came, renewed=list(steps.changed))


def _settle(manager: Manager, path: Path, record: Record, holds: Collection[str]) -> None:
    """The record of what is on the host now; a hold is written down before it is made, and made
    where an interruption left it out."""
    have = manager.installed()
    record.packages = {name: have[name] for name in sorted(record.names) if name in have}
    record.held = sorted(({*record.held} | {*holds}) & record.packages.keys())
    save(path, record)
    manager.hold(set(record.held) - manager.held())
    record.unfinished = []
    save(path, record)


def _refuse_harm(manager: Manager, record: Record, steps: Steps) -> None:
    if steps.removed:
        raise Refused(
            "the installation would remove packages of this host, and was not begun",
            cause=", ".join(steps.removed),
            fix=f"decide which of the two shall stay; look: dpkg --list {steps.removed[0]}",
        )
    theirs = (manager.held() - set(record.held)) & {*steps.new, *steps.changed}
    if theirs:
        raise Refused(
            "the installation would change packages that are held on this host",
            cause=", ".join(sorted(theirs)),
            fix=f"release them, then try again: apt-mark unhold {' '.join(sorted(theirs))}",
        )


def plan_leave(manager: Manager, path: Path, records: Path) -> dict:  # type: ignore[type-arg]
    """What a removal would do now."""
    if not path.exists():
        return result()
    going, kept = _going(manager, path, records)
    return result(changed=True, pending=True, taken=sorted(going), kept=sorted(kept))


def leave(manager: Manager, path: Path, records: Path) -> dict:  # type: ignore[type-arg]
    """Take away what this owner brought, and what removed owners had to leave behind."""
    if not path.exists():
        return result()
    record = load(path)
    if record.unfinished:
        manager.repair()
    going, kept = _going(manager, path, records)
    have = manager.installed()
    manager.release(set(record.held) & have.keys() & manager.held())
    if going:
        manager.remove(sorted(going))
    for other, left in {**leaving(records), path: record}.items():
        _forget(other, left, going, kept)
    return result(changed=True, taken=sorted(going), kept=sorted(kept))


def _going(manager: Manager, path: Path, records: Path) -> tuple[set[str], set[str]]:
    """Which packages go, and which stay because packages that are not ours need them."""
    known = {**leaving(records), path: load(path)}
    ours = {name for record in known.values() for name in record.names}
    there = sorted(ours & (manager.installed().keys() | set(manager.interrupted())))
    if not there or not _others(manager, there, there):
        return set(there), set()
    kept = {name for name in there if _others(manager, [name], there)}
    return set(there) - kept, kept


def _others(manager: Manager, names: Sequence[str], ours: Collection[str]) -> bool:
    """Whether something that is not ours would go with these packages."""
    return bool(set(manager.plan_removal(names).removed) - set(ours))


def _forget(path: Path, record: Record, going: Collection[str], kept: Collection[str]) -> None:
    record.packages = {k: v for k, v in record.packages.items() if k in kept and k not in going}
    record.unfinished, record.held, record.leaving = [], [], True
    if record.packages:
        save(path, record)
    else:
        drop(path)


def without_sources(folder: Path, form: str) -> Manager:
    """A package manager that knows no source at all, which is enough to remove."""
    for name in ("sources", "lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    text = dnf_configuration(folder) if form == "rpm" else configuration(folder)
    (folder / ("dnf.conf" if form == "rpm" else "apt.conf")).write_text(text)
    return Dnf(folder) if form == "rpm" else Apt(folder)


def answer(given: dict[str, object], folder: Path) -> dict:  # type: ignore[type-arg]
    """What the module was asked to do, done; `folder` is empty and temporary."""
    state, records = str(given["state"]), Path(str(given["records"]))
    if state == "present":
        records.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(records) as free:
        if not free and state in ("present", "absent"):
            raise Refused("this host's packages are being worked with", cause=EARLIER, fix=LOOK)
        manager = _manager(given, folder)
        holder = manager.holder() if free else EARLIER
        try:
            done = _does(given, manager, path_of(records, str(given["owner"])))
        except Refused:
            # Amid the work of another program nothing fits: it is asked again when that has ended.
            if not holder or state in ("present", "absent"):
                raise
            done = result(pending=True)
    return _with_holder(holder, done)


def _manager(given: dict[str, object], folder: Path) -> Manager:
    if given["state"] in ("leaving", "absent"):
        return without_sources(folder, str(given["format"]))
    work = Path(str(given["work"]))
    return Dnf(work) if given["format"] == "rpm" else Apt(work)


def _does(given: dict[str, object], manager: Manager, path: Path) -> dict:  # type: ignore[type-arg]
    if given["state"] == "leaving":
        return plan_leave(manager, path, path.parent)
    if given["state"] == "absent":
        return leave(manager, path, path.parent)
    packages, held = list(given["packages"]), list(given["held"])  # type: ignore[call-overload]
    if given["state"] == "planned":
        return plan(manager, load(path), packages, held)
    return install(manager, path, packages, held)


def _with_holder(holder: str, done: dict) -> dict:  # type: ignore[type-arg]
    """Who holds the lock matters only while there is something to do."""
    if not done["pending"] or not holder:
        return done
    return {**done, "holder": holder, "msg": BUSY.format(holder)}


def main() -> None:
    """Answer Ansible."""
    states = ["planned", "present", "leaving", "absent"]
    options = {
        "state": {"type": "str", "choices": states, "default": "present"},
        "owner": {"type": "str", "required": True},
        "records": {"type": "path", "required": True},
        "work": {"type": "path"},
        "format": {"type": "str", "choices": ["deb", "rpm"], "default": "deb"},
        "packages": {"type": "list", "elements": "str", "default": []},
        "held": {"type": "list", "elements": "str", "default": []},
    }
    needs = [("state", "present", ["work"]), ("state", "planned", ["work"])]
    module = AnsibleModule(argument_spec=options, required_if=needs, supports_check_mode=True)
    # Programs of the packages make files that every user of the host must be able to read.
    os.umask(0o022)
    given = dict(module.params)
    if module.check_mode:
        given["state"] = {"present": "planned", "absent": "leaving"}.get(
            given["state"], given["state"]
        )
    try:
        with tempfile.TemporaryDirectory(prefix="aibox-packages-") as folder:
            done = answer(given, Path(folder))
    except (Refused, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**done)


if __name__ == "__main__":
    main()
