#!/usr/bin/python
"""Makes and removes the system users of services, all in one step; others are never touched."""

from __future__ import annotations

import grp
import pwd
from contextlib import suppress
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: box_users
short_description: Make or remove the system users of services
description:
  - Makes users without a shell, a home or a password, each with a group of its name, or removes
    them. What it makes it marks by a comment; a user or a group of such a name that lacks the mark
    is refused when users are made, and left alone when they are removed.
  - Exists because one call of ansible.builtin.user and of ansible.builtin.group for each takes as
    many times as long.
options:
  users:
    description: The users; without `uid` the system chooses the number.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name of the user and of the group., type: str, required: true}
      uid: {description: Number of both., type: int}
  comment:
    description: The mark.
    type: str
    required: true
  state:
    description: Whether the users should be there.
    type: str
    choices: [present, absent]
    default: present
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Make users
  box_users:
    comment: example service
    users:
      - {name: example-web, uid: 70001}
      - {name: example-jobs}
"""

RETURN = r"""
changed_users:
  description: Names of the users that were, or in check mode would be, made, changed or removed.
  returned: always
  type: list
  elements: str
users:
  description: Numbers by name of the users that are there now.
  returned: always
  type: dict
"""

SHELL, HOME = "/usr/sbin/nologin", "/nonexistent"
Command = list[str]


@dataclass(frozen=True)
class Found:
    """What the host has of one name."""

    user: pwd.struct_passwd | None
    group: grp.struct_group | None


def look_up(name: str) -> Found:
    """By name: a directory service need not list its users, but knows them."""
    user, group = None, None
    with suppress(KeyError):
        user = pwd.getpwnam(name)
    with suppress(KeyError):
        group = grp.getgrnam(name)
    return Found(user, group)


def is_foreign(found: Found, comment: str) -> bool:
    """Whether somebody else made a user of this name."""
    return found.user is not None and found.user.pw_gecos != comment


def to_make(name: str, uid: int | None, comment: str, found: Found) -> list[Command]:
    """What makes the user as wanted, in order; nothing when he is."""
    commands = []
    number = [] if uid is None else ["--gid", str(uid)]
    if found.group is None:
        commands.append(["groupadd", "--system", *number, name])
    elif uid is not None and found.group.gr_gid != uid:
        commands.append(["groupmod", *number, name])
    looks = ["--shell", SHELL, "--home-dir", HOME]
    number = [] if uid is None else ["--uid", str(uid)]
    if found.user is None:
        made = ["--system", "--no-create-home", "--comment", comment, "--gid", name]
        return [*commands, ["useradd", *made, *looks, *number, name]]
    # Of an existing user, usermod calls the folder otherwise.
    looks = ["--shell", SHELL, "--home", HOME]
    as_wanted = (found.user.pw_shell, found.user.pw_dir) == (SHELL, HOME)
    if not as_wanted or (uid is not None and found.user.pw_uid != uid):
        commands.append(["usermod", *looks, *number, name])
    return commands


def to_remove(name: str, found: Found, comment: str) -> list[Command]:
    """What removes a user of ours, and the group that userdel left."""
    if found.user is None or found.user.pw_gecos != comment:
        return []
    return [["userdel", name], ["groupdel", name]]


def planned(parameters: dict[str, object]) -> dict[str, list[Command]]:
    """The commands by user, of those for whom there is something to do."""
    comment, commands = str(parameters["comment"]), {}
    for one in parameters["users"]:  # type: ignore[attr-defined]
        found = look_up(one["name"])
        if parameters["state"] == "present":
            commands[one["name"]] = to_make(one["name"], one["uid"], comment, found)
        else:
            commands[one["name"]] = to_remove(one["name"], found, comment)
    return {name: steps for name, steps in commands.items() if steps}


def run(module: AnsibleModule, command: Command) -> None:
    """Run one; a group that userdel has removed already is as good as removed."""
    status, _, complaint = module.run_command(command)
    if status != 0 and not (command[0] == "groupdel" and look_up(command[-1]).group is None):
        module.fail_json(msg=f"{' '.join(command)}: {complaint.strip()}")


def refuse_foreign(module: AnsibleModule) -> None:
    names = [one["name"] for one in module.params["users"]]
    comment = module.params["comment"]
    foreign = [name for name in names if is_foreign(look_up(name), comment)]
    if foreign:
        module.fail_json(
            msg="this host already has a user of a name that the box needs for its services: "
            f"{', '.join(foreign)}; nothing was changed. Rename that user, as root: "
            f"usermod --login NEW-NAME {foreign[0]}"
        )


def main() -> None:
    """Answer Ansible."""
    user = {"name": {"type": "str", "required": True}, "uid": {"type": "int"}}
    options = {
        "users": {"type": "list", "elements": "dict", "options": user, "required": True},
        "comment": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    if module.params["state"] == "present":
        refuse_foreign(module)
    commands = planned(module.params)
    if not module.check_mode:
        for steps in commands.values():
            for command in steps:
                run(module, command)
    found = {one["name"]: look_up(one["name"]).user for one in module.params["users"]}
    module.exit_json(
        changed=bool(commands),
        changed_users=sorted(commands),
        users={name: one.pw_uid for name, one in found.items() if one is not None},
    )


if __name__ == "__main__":
    main()
