#!/usr/bin/python
"""Measures what a release asks of a server beyond any host. Reads only; root sees more."""

from __future__ import annotations

import http.client
import json
import os
import platform
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: server_info
short_description: Measure what a release asks of a server
description:
  - Reads the distribution, kernel settings, file systems, routes, and what already runs there.
    Changes nothing. Without root, Docker and the box of another user may stay unseen, and it says
    so.
options:
  root:
    description: Folder that will hold the box; it need not exist.
    type: str
    required: true
  disks:
    description: Folders that will grow, and by how much; those on one file system are added up.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: Folder; it need not exist., type: str, required: true}
      mib: {description: MiB it will take., type: int, required: true}
  probe:
    description: >-
      HOST:PORT that must not be reached from an air-gapped host; one TCP connection is tried.
      Empty for none.
    type: str
    default: ""
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Measure the server
  server_info:
    root: /var/lib/aibox
    disks:
      - {path: /var/lib/docker, mib: 60000}
  register: measured
"""

RETURN = r"""
server:
  description: Sizes are MiB; see the module's functions.
  returned: always
  type: dict
"""

MIB = 1 << 20
PROBE_SECONDS = 3.0
DOCKER_SECONDS = 10.0
DOCKER_SOCKET = Path("/run/docker.sock")
DOCKER_PID = Path("/run/docker.pid")
OUR_PROJECT = "aibox"
# What limits on containers need (memory, number of processes, processors).
CONTROLLERS = {"cpu", "cpuset", "memory", "pids"}
UNATTENDED = re.compile(r'^\s*APT::Periodic::Unattended-Upgrade\s+"?(\w+)"?\s*;', re.M)
UPGRADING_TIMER = re.compile(r"dnf5?-automatic(-install)?\.timer")  # others only tell, or fetch
UP, ROUTE_REJECTS = 0x1, 0x200  # RTF_UP, RTF_REJECT, linux/route.h


@dataclass
class FileSystem:
    """A file system: a folder on it, what is free, what will lie there and how much that takes."""

    nearest: str
    free_mib: int
    paths: list[str] = field(default_factory=list)
    mib: int = 0

    def told(self) -> dict[str, object]:
        """As plain values and in words."""
        return {
            "nearest": self.nearest,
            "enough": self.free_mib >= self.mib,
            "found": f"{self.free_mib} MiB free for {', '.join(self.paths)}",
            "expected": f">= {self.mib} MiB",
        }


def server(root: Path, disks: list[dict[str, object]], probe: str) -> dict[str, object]:
    """Everything the role judges, as plain values."""
    return {
        "distributions": distributions(Path("/etc/os-release")),
        "kernel": platform.release(),
        **umask(),
        "user": os.geteuid(),
        "disks": grouped(disks),
        "security": security(Path("/sys")),
        "groups": control_groups(Path("/sys/fs/cgroup")),
        "shared_memory_mib": shared_memory(Path("/dev/shm")),  # noqa: S108 - the host's, not a file
        "open_files": most_open_files(Path("/proc")),
        "upgrades": unattended_upgrades(Path("/")),
        "network": {**network(Path("/")), "probe": reached(probe)},
        "docker": docker(DOCKER_SOCKET, DOCKER_PID),
        "box": box(root),
        "restart_wanted": Path("/run/reboot-required").exists(),
    }


def distributions(release: Path) -> list[str]:
    """The distribution as exactly as it says, then less so: `rocky 9.4`, `rocky 9`, `rocky`."""
    text = release.read_text(encoding="utf-8", errors="replace") if release.exists() else ""
    said = {key: value.strip("\"'") for key, value in re.findall(r"^(\w+)=(.*)$", text, re.M)}
    name, version = said.get("ID", "unknown"), said.get("VERSION_ID", "")
    parts = version.split(".") if version else []
    lengths = range(len(parts), 0, -1)
    return [*(f"{name} {'.'.join(parts[:length])}" for length in lengths), name]


def umask() -> dict[str, object]:
    """The mask of this process, which is the one of whoever runs the installation."""
    mask = os.umask(0o077)
    os.umask(mask)
    return {"umask": f"{mask:04o}", "others_may_read": not mask & 0o005}


def grouped(disks: list[dict[str, object]]) -> list[dict[str, object]]:
    """The file systems below `disks`, each once, with the sum of what is asked of it."""
    found: dict[int, FileSystem] = {}
    for disk in disks:
        path = Path(str(disk["path"]))
        nearest = next(one for one in (path, *path.parents) if one.exists())
        space = os.statvfs(nearest)
        one = found.setdefault(
            nearest.stat().st_dev,
            FileSystem(str(nearest), space.f_bavail * space.f_frsize // MIB),
        )
        one.paths.append(str(path))
        one.mib += int(str(disk["mib"]))
    return [one.told() for one in found.values()]


def security(sys: Path) -> dict[str, str]:
    """SELinux (`enforcing`, `permissive`, `absent`) and AppArmor (`enabled`, `absent`)."""
    selinux, apparmor = "absent", "absent"
    with suppress(OSError):
        enforced = (sys / "fs/selinux/enforce").read_text(encoding="ascii").strip()
        selinux = "enforcing" if enforced == "1" else "permissive"
    with suppress(OSError):
        enabled = (sys / "module/apparmor/parameters/enabled").read_text(encoding="ascii")
        apparmor = "enabled" if enabled.startswith("Y") else "absent"
    return {"selinux": selinux, "apparmor": apparmor}


def control_groups(mounted: Path) -> dict[str, object]:
    """The version of control groups, and which of the controllers that limits need are missing."""
    try:
        given = (mounted / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return {"version": 1 if mounted.is_dir() else 0, "missing": []}
    return {"version": 2, "missing": sorted(CONTROLLERS - set(given))}


def shared_memory(folder: Path) -> int:
    """MiB of the memory file system for shared memory; 0 where there is none."""
    if not os.path.ismount(folder):
        return 0
    space = os.statvfs(folder)
    return space.f_blocks * space.f_frsize // MIB


def most_open_files(proc: Path) -> int:
    """The most files a service may have open: the kernel's limit, or the first process's."""
    allowed = int((proc / "sys/fs/nr_open").read_text(encoding="ascii"))
    with suppress(OSError):
        for line in (proc / "1/limits").read_text(encoding="ascii").splitlines():
            hard = re.match(r"Max open files\s+\S+\s+(\d+)", line)
            if hard:
                return min(allowed, int(hard[1]))
    return allowed


def unattended_upgrades(root: Path) -> list[str]:
    """What upgrades packages here without being asked; `root` is the root of the file system."""
    settings = [root / "etc/apt/apt.conf", *sorted((root / "etc/apt/apt.conf.d").glob("*"))]
    values = [value for path in settings for value in UNATTENDED.findall(text_of(path))]
    apt = bool(values) and values[-1] not in ("0", "false", "no")
    found = ["unattended-upgrades"] if apt and exists(root / "usr/bin/unattended-upgrade") else []
    timers = {path.name for path in (root / "etc/systemd/system").glob("*.wants/dnf*.timer")}
    return [*found, *sorted(name for name in timers if UPGRADING_TIMER.match(name))]


def network(root: Path) -> dict[str, list[str]]:
    """Interfaces with a default route, and the name servers of this host."""
    resolver = text_of(root / "etc/resolv.conf")
    return {
        "routes": sorted({*default_routes(root), *default_routes_6(root)}),
        "name_servers": re.findall(r"^\s*nameserver\s+(\S+)", resolver, re.M),
    }


def default_routes(root: Path) -> Iterator[str]:
    """Interfaces of IPv4 default routes (proc(5), net/route)."""
    for line in text_of(root / "proc/net/route").splitlines()[1:]:
        interface, target, _, flags, *_, mask = line.split()[:8]
        if target == mask == "00000000" and int(flags, 16) & UP:
            yield interface


def default_routes_6(root: Path) -> Iterator[str]:
    """Interfaces of IPv6 default routes; the kernel keeps one that rejects everything."""
    for line in text_of(root / "proc/net/ipv6_route").splitlines():
        words = line.split()
        target, length, flags, interface = words[0], words[1], int(words[8], 16), words[9]
        usable = flags & UP and not flags & ROUTE_REJECTS and interface != "lo"
        if usable and int(target, 16) == 0 and length == "00":
            yield interface


def reached(address: str) -> str:
    """`reached`, why not, or nothing when nothing was to be tried."""
    if not address:
        return ""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS):
            return "reached"
    except (OSError, ValueError, OverflowError) as error:
        return str(error) or type(error).__name__


class DockerConnection(http.client.HTTPConnection):
    """HTTP over the socket of Docker."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=DOCKER_SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DOCKER_SECONDS)
        self.sock.connect(str(self.path))


def docker(path: Path, pid: Path) -> dict[str, object]:
    """Whether Docker is there, and the names of containers that are not the box's.

    The state is `absent`, `answers`, `closed` (this user may not ask), `silent` or `stopped`:
    whoever then asked at its socket would start it, because systemd listens there.
    """
    if not exists(path):
        return {"state": "absent", "others": []}
    if not exists(Path("/proc") / (text_of(pid).strip() or "none")):
        return {"state": "stopped", "others": []}
    try:
        listed = containers(path)
    except PermissionError:
        return {"state": "closed", "others": []}
    except (OSError, ValueError, http.client.HTTPException):
        return {"state": "silent", "others": []}
    others = [one for one in listed if project(one) != OUR_PROJECT]
    return {"state": "answers", "others": sorted(one["Names"][0].lstrip("/") for one in others)}


def containers(path: Path) -> list[dict[str, list[str]]]:
    """Every container of Docker, also those that are stopped."""
    connection = DockerConnection(path)
    try:
        connection.request("GET", "/containers/json?all=1")
        answer = connection.getresponse()
        listed = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != http.client.OK or not isinstance(listed, list):
        raise ValueError("Docker does not list its containers")
    return listed


def project(container: dict[str, list[str]]) -> object:
    """The Compose project of a container, or None."""
    return dict(container.get("Labels") or {}).get("com.docker.compose.project")


def box(root: Path) -> str:
    """What lies where the box will be.

    `none`, `installed`, `unfinished` (a change was cut off), `waiting` (for a reboot), `begun`
    (never came to a first generation) or `unseen` (this user may not look).
    """
    try:
        if not root.is_dir() or not os.access(root, os.R_OK):
            return "unseen" if root.is_dir() else "none"
        if (root / "journal/resume.json").exists():
            return "waiting"
        if (root / "journal/intent.json").exists():
            return "unfinished"
        if (root / "current").exists():
            return "installed"
        begun = any(any((root / name).glob("*/*")) for name in ("gens", "blobs", "staging"))
        return "begun" if begun else "none"
    except PermissionError:
        return "unseen"


def exists(path: Path) -> bool:
    """Whether something lies there; what may not be looked at does not."""
    try:
        return path.exists()
    except PermissionError:
        return False


def text_of(path: Path) -> str:
    """What a file says; nothing if there is none or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def main() -> None:
    """Answer Ansible."""
    disk = {
        "path": {"type": "str", "required": True},
        "mib": {"type": "int", "required": True},
    }
    options = {
        "root": {"type": "str", "required": True},
        "disks": {"type": "list", "elements": "dict", "options": disk, "default": []},
        "probe": {"type": "str", "default": ""},
    }
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    given = module.params
    measured = server(Path(given["root"]), given["disks"], given["probe"])
    administrator = "root" if os.geteuid() == 0 else without_password(module)
    module.exit_json(server={**measured, "administrator": administrator})


def without_password(module: AnsibleModule) -> str:
    """`sudo` when this user may become root without a password, or nothing."""
    if module.get_bin_path("sudo") is None:
        return ""
    status, _, _ = module.run_command(["sudo", "--non-interactive", "true"])
    return "sudo" if status == 0 else ""


if __name__ == "__main__":
    main()
