"""Where a command works: the checkout it came from and the box it acts on.

What only asks where the box is does not wait for what changes one to be imported.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from aibox import content
from aibox.progress import Report

if TYPE_CHECKING:
    from aibox.prepare import Workplace


def workplace(report: Report) -> Workplace:
    """The box named by `AIBOX_HOME`, or the one in the user's data folder (XDG)."""
    from aibox.prepare import Workplace

    return Workplace(root=box_root(), content=content.find(), report=report)


def command() -> str:
    """How this command line is typed here: `./aibox` in a checkout, else its link in the box.

    The link comes with the first generation; until then it is typed as it was started.
    """
    tree = content.find()
    if tree.program is None:
        return "./aibox"
    path = box_root() / "bin" / "aibox"
    if not path.exists():
        started_from = os.environ.get("AIBOX_BUNDLE") or tree.root
        return "sh " + shlex.quote(f"{started_from}/aibox")
    if path.is_relative_to(Path.home()):
        return "~/" + shlex.quote(str(path.relative_to(Path.home())))
    return shlex.quote(str(path))


def box_root() -> Path:
    """Absolute path of the box root; it need not exist."""
    named = os.environ.get("AIBOX_HOME")
    if named:
        return Path(named).expanduser().absolute()
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data and Path(data).is_absolute() else Path.home() / ".local" / "share"
    return base / "aibox"
