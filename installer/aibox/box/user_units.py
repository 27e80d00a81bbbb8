"""The systemd manager of this user: how to reach it, and where it looks for units."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

from aibox import process
from aibox.errors import AiboxError

RUNTIME_FOLDERS = Path("/run/user")
ANSWER_TIMEOUT_S = 10.0
_ASK = ("systemctl", "--user", "show", "--property=UnitPath", "--value")
_OF_THE_USER = Path("systemd", "user")


def access() -> dict[str, str]:
    """The variables with which `systemctl --user` finds the manager; empty when there is none.

    A shell without a session of its own (su, sudo, cron) lacks XDG_RUNTIME_DIR, or has the one of
    the user before; the manager may run all the same.
    """
    named = os.environ.get("XDG_RUNTIME_DIR")
    usual = RUNTIME_FOLDERS / str(os.geteuid())
    for folder in (*([Path(named)] if named else []), usual):
        if _is_own_folder(folder):
            return {"XDG_RUNTIME_DIR": str(folder)}
    return {}


def folder() -> Path:
    """Where units of this user belong; it need not exist.

    The manager is asked, because its XDG_CONFIG_HOME is often not that of a shell. Without an
    answer it is the folder that a manager has unless told otherwise.
    """
    if shutil.which(_ASK[0]) is not None:
        try:
            ended = process.run(
                _ASK, environment=process.environment(access()), timeout_s=ANSWER_TIMEOUT_S
            )
        except AiboxError:
            return _usual_folder()
        if ended.status == 0:
            return first_of_the_user(ended.text) or _usual_folder()
    return _usual_folder()


def first_of_the_user(unit_path: str) -> Path | None:
    """The folder for lasting units of the user in a manager's `UnitPath` (systemd.unit(5)). Pure.

    The folders before it belong to `systemctl set-property`, to programs and to generators.
    """
    try:
        folders = [Path(text) for text in shlex.split(unit_path)]
    except ValueError:
        return None
    mine = (path for path in folders if path.parts[-2:] == _OF_THE_USER.parts)
    return next(mine, None)


def _usual_folder() -> Path:
    return Path.home() / ".config" / _OF_THE_USER


def _is_own_folder(path: Path) -> bool:
    try:
        return path.is_dir() and path.stat().st_uid == os.geteuid()
    except OSError:
        return False
