"""What a jail process does to itself before it reads a stranger's file.

Several measures, each of which holds alone, because not every kernel allows all of them. What
took effect is reported, so that an operator can see how strong the jail is on this machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import sysconfig

from rag_app.parsing import landlock, seccomp
from rag_app.parsing.limits import Limits

_CLONE_NEWUSER, _CLONE_NEWNET, _CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000
_PR_SET_PDEATHSIG = 1
_OPEN_FILES = 32
_REFUSED_EVENTS = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def confine(limits: Limits, readable: frozenset[str]) -> tuple[str, ...]:
    """Give up what a parser does not need, for good; the names of the measures that hold.

    Always: `limits` (memory, CPU, files, no core) and `audit-hook` (Python code opens no socket,
    starts no process, writes no file). Where the system allows: `network-namespace`; `landlock`
    (no file system but reading the folders `readable`); `seccomp` (no sockets, processes or
    written files for native code either).
    """
    _set_limits(limits)
    measures = ["limits"]
    if _leave_network():
        measures.append("network-namespace")
    _die_with_parent()
    if landlock.restrict(readable):
        measures.append("landlock")
    if seccomp.restrict():
        measures.append("seccomp")
    sys.addaudithook(_refuse)
    return (*measures, "audit-hook")


def code_folders() -> frozenset[str]:
    """Where the loaded packages and the standard library lie, for modules that load late.

    Not `sys.path`: the box root, with everything the box knows, may stand there.
    """
    packages = [module for name, module in sys.modules.items() if "." not in name]
    folders = {folder for module in packages for folder in getattr(module, "__path__", ())}
    return frozenset({*folders, sysconfig.get_path("stdlib")})


def _set_limits(limits: Limits) -> None:
    for kind, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        # The soft limit sends SIGXCPU, by which being out of time is told from a crash.
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 2),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    ):
        allowed = resource.getrlimit(kind)[1]
        if allowed != resource.RLIM_INFINITY:
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.setrlimit(kind, (soft, hard))


def _leave_network() -> bool:
    """Move into an empty network; the new user namespace also drops every privilege outside."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET | _CLONE_NEWIPC) == 0)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    """The audit hook: it cannot be removed, but binds Python code only."""
    if event.startswith(_REFUSED_EVENTS):
        raise PermissionError(f"the jail refuses {event}")
    if event == "open":
        path, _, flags = arguments
        # A number is a descriptor that is open already, such as the pipe for the answer.
        if not isinstance(path, int) and isinstance(flags, int) and flags & _WRITING:
            raise PermissionError("the jail writes no files")
