"""`python write_only.py PATH... -- COMMAND...`: the command may write below these paths only.

As on the read-only file system of a container, by Linux Landlock, so that no root is needed.
`available()` says whether this kernel has it.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_NO_NEW_PRIVS = 38
# linux/landlock.h: write, remove and make anything, refer (2), truncate (14).
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_ON_FOLDERS = sum(1 << bit for bit in range(4, 14))
_TRUNCATE_VERSION = 3


def available() -> bool:
    """Whether writing, truncating included, can be taken away here."""
    if sys.platform != "linux":
        return False
    version = ctypes.CDLL(None).syscall(_CREATE_RULESET, None, 0, 1)
    return bool(version >= _TRUNCATE_VERSION)


def restrict(paths: list[str]) -> None:
    """Take away writing from this process and its children, but below `paths`."""
    libc = ctypes.CDLL(None, use_errno=True)
    on_files = _WRITE_FILE | _TRUNCATE
    attributes = struct.pack("=Q", on_files | _ON_FOLDERS)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    for path in paths:
        opened = os.open(path, os.O_PATH)
        rights = on_files | (_ON_FOLDERS if Path(path).is_dir() else 0)
        rule = struct.pack("=Qi", rights, opened)
        if libc.syscall(_ADD_RULE, ruleset, 1, rule, 0):
            raise OSError(ctypes.get_errno(), f"landlock takes no rule for {path}")
        os.close(opened)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.syscall(_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "landlock cannot be used")


if __name__ == "__main__":
    split = sys.argv.index("--")
    restrict(sys.argv[1:split])
    os.execvp(sys.argv[split + 1], sys.argv[split + 1 :])
