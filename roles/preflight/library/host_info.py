#!/usr/bin/python
"""Measures what a release asks of a host. Reads only; needs no root."""

from __future__ import annotations

import os
import platform
import re
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: host_info
short_description: Measure what a release asks of a host
description:
  - Reads the platform, memory, limits and the file system under a folder. Changes nothing.
options:
  root:
    description: Folder that will hold the box; it need not exist.
    type: str
    required: true
  ports:
    description: TCP ports to look at.
    type: list
    elements: int
    default: []
  interfaces:
    description: >-
      Where the ports count as taken: on the loopback interface, where each is tried, or on any,
      where nothing is tried and nobody needs the right to use low ports.
    type: str
    choices: [loopback, any]
    default: loopback
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Measure the host
  host_info:
    root: /var/lib/aibox
  register: measured
"""

RETURN = r"""
host:
  description: Sizes are MiB, limits are counts; a limit of 0 is none.
  returned: always
  type: dict
"""

MIB = 1 << 20


LISTENING = "0A"  # TCP_LISTEN, include/net/tcp_states.h


def host(root: Path, ports: list[int], *, loopback: bool) -> dict[str, object]:
    """Everything the role judges, as plain values."""
    busy = taken(ports) if loopback else sorted(set(ports) & listening(Path("/proc/net")))
    return {**machine(), **limits(), **folder(root), "ports_taken": busy}


def machine() -> dict[str, object]:
    """Operating system, processor and interpreter; the clock's year and date in UTC."""
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "distribution": distribution(Path("/etc/os-release")),
        "python": platform.python_version(),
        "year": time.gmtime().tm_year,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "systemd": Path("/run/systemd/system").is_dir(),
    }


def distribution(release: Path) -> str:
    """The distribution's own name for itself, or nothing."""
    with suppress(OSError):
        for line in release.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition("=")
            if key == "PRETTY_NAME":
                return value.strip("\"'")
    return ""


def limits() -> dict[str, object]:
    """Memory this process may use (the smallest of host and control groups) and open files."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    own = Path("/proc/self/cgroup")
    groups = own.read_text(encoding="utf-8") if own.exists() else ""
    memory = min([total, *group_limits(groups, Path("/sys/fs/cgroup"))])
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return {
        "memory_mib": memory // MIB,
        "open_files": 0 if files == resource.RLIM_INFINITY else files,
    }


def group_limits(groups: str, mounted: Path) -> Iterator[int]:
    """Memory limits in bytes of a process's control group and of every group above it.

    `groups` is /proc/self/cgroup: `0::/path` (version 2) or `N:memory:/path` (version 1).
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = base / path.lstrip("/")
        for group in (own, *own.parents):
            with suppress(OSError, ValueError):
                yield int((group / name).read_text(encoding="ascii"))
            if group == base:
                break


def folder(root: Path) -> dict[str, object]:
    """The file system that holds, or will hold, `root`, seen from its nearest existing parent."""
    nearest = next(path for path in (root, *root.parents) if path.exists()).resolve()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    space = os.statvfs(nearest)
    return {
        "nearest": str(nearest),
        "is_folder": nearest.is_dir(),
        "writable": os.access(nearest, os.W_OK | os.X_OK),
        "owner": root.stat().st_uid if root.exists() else os.geteuid(),
        "user": os.geteuid(),
        "filesystem": filesystem(nearest, mounts),
        "runs_programs": not space.f_flag & os.ST_NOEXEC,
        "free_mib": space.f_bavail * space.f_frsize // MIB,
        "free_inodes": space.f_favail,
        "counts_inodes": space.f_files > 0,
    }


def filesystem(path: Path, mounts: str) -> str:
    """The type of the file system `path` lies on; `mounts` is /proc/self/mountinfo.

    The longest mount point above `path` holds it, and of equal ones the last, which hides the
    others. Spaces in mount points are written `\\040` (proc(5)).
    """
    best, kind = -1, "unknown"
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        point = Path(_octal(before.split(" ")[4]))
        if path.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split(" ")[0]
    return kind


def _octal(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def taken(ports: list[int]) -> list[int]:
    """Those of `ports` that something on the loopback interface already listens on."""
    return [port for port in ports if not free(port)]


def free(port: int) -> bool:
    """Whether `port` can be bound on the loopback interface."""
    with socket.socket() as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def listening(folder: Path) -> set[int]:
    """Ports on which something listens on any interface; `folder` is /proc/net (proc(5))."""
    found = set()
    for name in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (folder / name).read_text(encoding="ascii").splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if state == LISTENING:
                    found.add(int(local.rpartition(":")[2], 16))
    return found


def main() -> None:
    """Answer Ansible."""
    options = {
        "root": {"type": "str", "required": True},
        "ports": {"type": "list", "elements": "int", "default": []},
        "interfaces": {"type": "str", "choices": ["loopback", "any"], "default": "loopback"},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    given = module.params
    loopback = given["interfaces"] == "loopback"
    module.exit_json(host=host(Path(given["root"]), given["ports"], loopback=loopback))


if __name__ == "__main__":
    main()
