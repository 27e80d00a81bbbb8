"""Secrets that are handed over as files: a setting holds the path, never the key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rag_app.errors import ConfigError


def read_key(path: Path, setting: str) -> str:
    """The key in `path`; raises `ConfigError`, naming `setting`, if others could read it as well.

    A file of one's own has mode 0600 or less. A secret that somebody else owns, as those that
    are mounted into containers, may be readable by its group too: that is how this process was
    given it. Nobody but the owner may change it, and everybody else may do nothing.
    """
    try:
        with path.open(encoding="ascii") as file:
            about = os.fstat(file.fileno())
            key = file.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{setting}: {path}: cannot be read as a key") from error
    mode = stat.S_IMODE(about.st_mode)
    if mode & _too_much(about.st_uid):
        raise ConfigError(
            f"{setting}: {path} has mode {mode:04o}, so others may read the key;"
            f" type: chmod 600 '{path}'"
        )
    if not key or not key.isprintable():
        raise ConfigError(f"{setting}: {path} must hold the key on one line")
    return key


def _too_much(owner: int) -> int:
    """The rights that nobody but the owner may have."""
    of_group = 0o070 if owner == os.geteuid() else 0o030
    return of_group | 0o007
