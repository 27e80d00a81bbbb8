"""What the tables in a role's vars say of values, without a play."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]
from ansible.template import Templar  # type: ignore[import-untyped]

from ansible_runs import ROLES


def value(role: str, name: str, given: Mapping[str, object]) -> object:
    """A variable of the role; `given` takes the place of inputs and of what modules measured."""
    loader = DataLoader()
    known: dict[str, object] = {}
    for folder in ("defaults", "vars"):
        path = ROLES / role / folder / "main.yml"
        known |= loader.load_from_file(str(path), trusted_as_template=True) or {}
    variables = {**known, "inventory_hostname": "box", **given}
    return Templar(loader, variables=variables).template(variables[name])
