"""What provisioning is told: the variables of the role `box_layout`. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

UNIT_NAME = "aibox.service"


@dataclass(frozen=True, slots=True)
class Unit:
    """A rendered systemd user unit, where it belongs, and where the role reports about it."""

    source: Path
    destination: Path
    report: Path


def unit_destination(configuration_home: Path) -> Path:
    """Where a user's unit belongs below `$XDG_CONFIG_HOME` (by default `~/.config`)."""
    return configuration_home / "systemd" / "user" / UNIT_NAME


def variables(root: Path, unit: Unit | None = None) -> dict[str, object]:
    """For playbooks/provision.yml: the folders of the box root, and the unit when there is one.

    The unit's report holds findings: `aibox.preflight.read_report` reads it.
    """
    folders: dict[str, object] = {"box_layout_root": str(root)}
    if unit is None:
        return folders
    return {
        **folders,
        "box_layout_unit_source": str(unit.source),
        "box_layout_unit_destination": str(unit.destination),
        "box_layout_report": str(unit.report),
    }


def removal_variables(destination: Path) -> dict[str, object]:
    """For playbooks/remove.yml: the unit to take away, wherever it is or is not."""
    return {"box_layout_unit_destination": str(destination)}
