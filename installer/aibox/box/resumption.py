"""What is left to do after a reboot: the generation that waits for one, and why it does.

Written when a driver asks for a reboot, removed when the installation has come to its end. The
generation is sealed by then, so nobody needs the medium again.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from aibox.box.filesystem import Filesystem
from aibox.digest import canonical_json
from aibox.record import Action

FILE = Path("journal") / "resume.json"


class Resumption(BaseModel):
    """An installation that waits; `boot` names the boot that has to end before it goes on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    generation: int
    action: Action
    boot: str
    reasons: tuple[str, ...] = ()


def read(root: Path) -> Resumption | None:
    """What waits, or None; a file that cannot be understood waits for nothing."""
    try:
        found = Resumption.model_validate_json((root / FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.version == 1 else None


def write(filesystem: Filesystem, root: Path, waiting: Resumption) -> None:
    """Replace it as a whole; durable on return."""
    filesystem.publish(root / FILE, canonical_json(waiting.model_dump(mode="json")))


def clear(filesystem: Filesystem, root: Path) -> None:
    """Nothing waits any more."""
    if (root / FILE).exists():
        filesystem.unlink(root / FILE)
        filesystem.sync_directory((root / FILE).parent)
