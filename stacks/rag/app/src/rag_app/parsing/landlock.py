"""Takes the file system away from a process (Linux Landlock, since 5.13; needs no privilege).

Call numbers and structures: Linux `Documentation/userspace-api/landlock.rst`.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_DIRECTORY = 1 << 2, 1 << 3
_PR_SET_NO_NEW_PRIVS = 38
# How many rights each version of the interface knows; asking for more is an error.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS = 16
_NETWORK_RIGHTS = 0b11
_NETWORK_VERSION = 4
_SCOPES = 0b11
_SCOPE_VERSION = 6


def restrict(readable: Iterable[str]) -> bool:
    """Leave this process nothing but reading below the folders `readable`, for good.

    Files that are already open stay usable. Where the kernel knows how, TCP and signals to
    processes outside are refused as well. False where the kernel has no Landlock.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    if version < 1:
        return False
    attributes = _attributes(version)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    for folder in readable:
        _allow_reading(libc, ruleset, folder)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restricted = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(restricted)


def _attributes(version: int) -> bytes:
    """struct landlock_ruleset_attr: the rights that are refused unless a rule allows them."""
    files = (1 << _FILE_RIGHTS.get(version, _NEWEST_FILE_RIGHTS)) - 1
    attributes = struct.pack("=Q", files)
    if version >= _NETWORK_VERSION:
        attributes += struct.pack("=Q", _NETWORK_RIGHTS)
    if version >= _SCOPE_VERSION:
        attributes += struct.pack("=Q", _SCOPES)
    return attributes


def _allow_reading(libc: ctypes.CDLL, ruleset: int, folder: str) -> None:
    try:
        opened = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rule = struct.pack("=Qi", _READ_FILE | _READ_DIRECTORY, opened)
    libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
    os.close(opened)
