"""Where a command works: the checkout it came from and the box it acts on.

What only asks where the box is does not wait for what changes one to be imported.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aibox import content
from aibox.errors import BadUsage, Failed, Fault
from aibox.progress import Report

if TYPE_CHECKING:
    from aibox.prepare import Workplace


SERVER_ROOT = Path("/var/lib/aibox")
"""Where the box of a host lies; that of a user lies in his own data folder."""
_MARKS = ("record.jsonl", "journal/intent.json")
"""What a box has: any, and one whose first installation was cut off."""


def workplace(report: Report, profile: str | None = None) -> Workplace:
    """Where a command works; `profile` is the one it names, of a box that may not be there yet.

    Raises `BadUsage` (`box-root-unusable`) and `Failed` (`box-of-another-user`).
    """
    from aibox.prepare import Workplace

    found = content.find()
    server = profile is not None and _is_for_servers(found, profile)
    root = box_root(server=server)
    _refuse_no_folder(root)
    _refuse_another_users(root)
    return Workplace(root, found, report)


def _refuse_no_folder(root: Path) -> None:
    """Where there is something else than a folder, no box is and none can be."""
    try:
        why = "" if stat.S_ISDIR(root.stat().st_mode) else "it is no folder"
    except OSError as error:
        # What is not there yet is made; what this user may not see is told by who owns it.
        soft = error.errno in (errno.ENOENT, errno.EACCES)
        why = "" if soft and not root.is_symlink() else error.strerror or str(error)
    if any(ord(character) < ord(" ") for character in str(root)):
        why = "its name has control characters"
    if why:
        raise _unusable(str(root), why)


def _unusable(root: str, why: str) -> BadUsage:
    return BadUsage(
        "box-root-unusable",
        f"the box cannot lie there: {why}",
        context=root[:200],
        hint="name another folder, for example: AIBOX_HOME=/srv/aibox ./aibox status",
        fault=Fault.YOU,
    )


def _refuse_another_users(root: Path) -> None:
    """A box is open to its owner alone; for anybody else it would look damaged, or absent."""
    try:
        owner = root.stat().st_uid
    except OSError:
        return
    is_absent = os.access(root, os.X_OK) and not _is_begun(root)
    if is_absent or os.geteuid() in (0, owner):
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    as_owner = "sudo" if owner == 0 else f"sudo -u {shlex.quote(name)}"
    raise Failed(
        "box-of-another-user",
        f"the box belongs to the user {name} and is open to nobody else",
        context=str(root),
        hint=f"give the command as that user, for example: {as_owner} ./aibox status",
        fault=Fault.YOU,
    )


def _is_for_servers(found: content.Content, profile: str) -> bool:
    """Whether boxes of this profile belong to the host; False where there is no such profile."""
    from aibox import profile as profiles

    known = profile in profiles.names(found.profiles)
    return known and profiles.load(found.profiles, profile).runtime is profiles.Runtime.CONTAINER


def command() -> str:
    """How this command line is typed here: `./aibox` in a checkout, else its link in the box.

    The link comes with the first generation; until then it is typed as it was started.
    """
    tree = content.find()
    if tree.program is None:
        return "./aibox"
    with suppress(BadUsage, OSError):  # Errors are told in these words, also that of no box root.
        path = box_root() / "bin" / "aibox"
        if path.exists():
            return _typed(path)
    started_from = os.environ.get("AIBOX_BUNDLE") or tree.root
    return "sh " + shlex.quote(f"{started_from}/aibox")


def _typed(path: Path) -> str:
    with suppress(BadUsage):
        if path.is_relative_to(_home()):
            return "~/" + shlex.quote(str(path.relative_to(_home())))
    return shlex.quote(str(path))


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise _unusable("~", "this user has no home folder, and HOME is not set") from error


def box_root(*, server: bool = False) -> Path:
    """Absolute path of the box root; it need not exist.

    `AIBOX_HOME` decides. Without it a program that lies in a box means that box. Else it is the
    folder of the host for a `server` and where the user may write to the host's box and has none,
    and the folder in the user's data (XDG) otherwise. Raises `BadUsage` (`box-root-unusable`).
    """
    named = os.environ.get("AIBOX_HOME")
    if named:
        try:
            return Path(named).expanduser().absolute()
        except (RuntimeError, OSError) as error:  # No such user; the folder one is in is gone.
            why = getattr(error, "strerror", None) or str(error).rstrip(".")
            raise _unusable(named, why) from error
    around = content.find().root.parent
    if around.name == "programs" and _is_begun(around.parent):
        return around.parent
    if server:
        return SERVER_ROOT
    data = os.environ.get("XDG_DATA_HOME")
    base = Path(data) if data and Path(data).is_absolute() else _home() / ".local" / "share"
    own = base / "aibox"
    theirs = not _is_begun(own) and _is_begun(SERVER_ROOT, os.W_OK)
    return SERVER_ROOT if theirs else own


def _is_begun(root: Path, mode: int = os.F_OK) -> bool:
    """Whether there is a box, of which this user has the `mode` of access."""
    return any(os.access(root / mark, mode) for mark in _MARKS)
