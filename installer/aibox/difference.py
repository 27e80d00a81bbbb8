"""What changes: name by name, the value now and after."""

from __future__ import annotations

from collections.abc import Mapping

from aibox.schema import Model


class Difference(Model):
    """One thing that changes, with its value now and after."""

    name: str
    current: str
    desired: str


def compare(
    before: Mapping[str, str], after: Mapping[str, str], absent: str = "(none)"
) -> tuple[Difference, ...]:
    """What differs between two flat descriptions, by name; `absent` stands for no value."""
    return tuple(
        Difference(name=name, current=before.get(name, absent), desired=after.get(name, absent))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )
