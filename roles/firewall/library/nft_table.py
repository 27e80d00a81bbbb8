#!/usr/bin/python
"""Makes one table of nftables what a file of rules says, and leaves all others alone."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: nft_table
short_description: Make one table of nftables what a file of rules says
description:
  - Loads the rules in a network of their own first, where nobody is, and compares how nft lists
    them there with how it lists the table here. So rules that nft does not take change nothing,
    equal rules are not loaded again (their counters go on), and a table changed by hand is seen.
  - Does nothing, and says so, where there is no nft.
options:
  family:
    description: Family of the table.
    type: str
    required: true
  name:
    description: Name of the table.
    type: str
    required: true
  rules:
    description: Text for `nft --file` that makes this table anew; required to be present.
    type: str
  load:
    description: Whether to load the rules when they differ; otherwise it is only told.
    type: bool
    default: true
  state:
    description: Whether the table should be there.
    type: str
    choices: [present, absent]
    default: present
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Put rules in force
  nft_table:
    family: inet
    name: example
    rules: "{{ lookup('ansible.builtin.file', 'example.nft') }}"
"""

RETURN = r"""
differs:
  description: Whether the table was not what it should be.
  returned: always
  type: bool
lacks_nft:
  description: Whether there is no nft on this host.
  returned: always
  type: bool
missing:
  description: Number of lines that the table lacked, as nft lists it.
  returned: always
  type: int
strange:
  description: Number of lines that the table should not have had.
  returned: always
  type: int
program:
  description: Path of nft, or nothing.
  returned: always
  type: str
"""

# In a network of its own: rules come in, the list of the table goes out.
ALONE = '"$0" --file - && exec "$0" --stateless list table "$1" "$2"'


@dataclass(frozen=True)
class Table:
    """A table, and how nft is told to act on it."""

    nft: str
    family: str
    name: str

    def listing(self) -> list[str]:
        return [self.nft, "--stateless", "list", "table", self.family, self.name]

    def listing_of_rules(self) -> list[str]:
        return ["unshare", "--net", "sh", "-c", ALONE, self.nft, self.family, self.name]

    def deletion(self) -> list[str]:
        return [self.nft, "delete", "table", self.family, self.name]

    def load(self) -> list[str]:
        return [self.nft, "--file", "-"]


def difference(wanted: str, found: str) -> tuple[int, int]:
    """How many lines are missing, and how many are strange."""
    lines = list(difflib.ndiff(found.splitlines(), wanted.splitlines()))
    missing, strange = (sum(line.startswith(mark) for line in lines) for mark in ("+ ", "- "))
    return missing, strange


def wanted_listing(module: AnsibleModule, table: Table) -> str:
    """How nft lists the wanted rules; ends the module when it does not take them."""
    if module.params["state"] == "absent":
        return ""
    rules = module.params["rules"]
    status, listed, complaint = module.run_command(table.listing_of_rules(), data=rules)
    if status != 0:
        module.fail_json(
            msg="these rules cannot be loaded, not even where nobody is (root is needed for it): "
            + complaint.strip()
        )
    return str(listed)


def put_right(module: AnsibleModule, table: Table) -> None:
    """Load the rules, or delete the table."""
    if module.params["state"] == "absent":
        command, text = table.deletion(), None
    else:
        command, text = table.load(), module.params["rules"]
    status, _, complaint = module.run_command(command, data=text)
    if status != 0:
        module.fail_json(msg=f"{' '.join(command)}: {complaint.strip()}")


def main() -> None:
    """Answer Ansible."""
    options = {
        "family": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "rules": {"type": "str"},
        "load": {"type": "bool", "default": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(
        argument_spec=options,
        supports_check_mode=True,
        required_if=[("state", "present", ["rules"])],
    )
    nft = module.get_bin_path("nft")
    if nft is None:
        module.exit_json(
            changed=False, lacks_nft=True, differs=True, missing=0, strange=0, program=""
        )
    table = Table(nft, module.params["family"], module.params["name"])
    wanted = wanted_listing(module, table)
    status, found, _ = module.run_command(table.listing())
    missing, strange = difference(wanted, found if status == 0 else "")
    differs = bool(missing or strange)
    changes = differs and module.params["load"]
    if changes and not module.check_mode:
        put_right(module, table)
    module.exit_json(
        changed=changes,
        lacks_nft=False,
        differs=differs,
        missing=missing,
        strange=strange,
        program=nft,
        diff={"before": found if status == 0 else "", "after": wanted},
    )


if __name__ == "__main__":
    main()
