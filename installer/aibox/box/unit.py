"""Which unit of the user's own systemd starts a box after a reboot, and where it lies.

The role `box_layout` installs it; two boxes of one user (a second `AIBOX_HOME`) never share one.
"""

from __future__ import annotations

import os
from pathlib import Path

from aibox import digest


def name(root: Path, default_root: Path) -> str:
    """The unit of the box at `root`: `aibox.service` for the default box. Pure."""
    if root == default_root:
        return "aibox.service"
    return f"aibox-{digest.of_bytes(os.fsencode(root))[:8]}.service"


def folder() -> Path:
    """Where systemd looks for the units of this user (systemd.unit(5))."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(configuration) / "systemd" / "user"
