"""Facts about this host. Reading only; nothing here changes anything.

Linux: processes and sockets are read from /proc, so no other tool has to be installed.
"""

from __future__ import annotations

import os
import socket
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging import tags

PROC = Path("/proc")
# Every process of a box carries this variable; its value says what the process depends on.
MARK = "AIBOX_INPUTS"
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this user. `born` (clock ticks since boot) tells a reused pid apart."""

    pid: int
    group: int
    born: int
    name: str
    command: str


def python_tag() -> str:
    """Interpreter and platform that installed wheels are bound to, such as `cp311-linux_x86_64`."""
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    return f"{tags.interpreter_name()}{tags.interpreter_version()}-{platform}"


def architecture() -> str:
    """The processor as the kernel names it, such as `x86_64`."""
    return os.uname().machine


def operating_system(release: Path = Path("/etc/os-release")) -> str:
    """The release of this system as package sets name it (`debian-13`, `rocky-9`), or nothing.

    Releases with a minor number of their own (Ubuntu's) keep it; packages of others fit them all.
    """
    try:
        text = release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    pairs = (line.partition("=") for line in text.splitlines())
    facts = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    number = facts.get("VERSION_ID", "")
    known = facts.get("ID", "")
    return f"{known}-{number if known == 'ubuntu' else number.partition('.')[0]}".strip("-")


def name() -> str:
    """What this host calls itself."""
    return socket.gethostname()


def wheel_tags() -> tuple[tags.Tag, ...]:
    """The builds of a package that run here, the best first."""
    return tuple(tags.sys_tags())


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now (connections that are closing do not count)."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def holders(port: int) -> tuple[Process, ...]:
    """The processes listening on a TCP port, as far as this user may see them."""
    inodes = listening_inodes(_socket_tables(), port)
    return tuple(found for found in own_processes() if inodes & _sockets_of(found.pid))


def is_answered_by(root: Path, port: int) -> bool:
    """Whether the port is held by a process of the box at `root`, and not by a stranger."""
    ours = {found.pid for found in box_processes(root)}
    return any(found.pid in ours for found in holders(port))


def listening_inodes(tables: Iterable[str], port: int) -> frozenset[int]:
    """Socket inodes that listen on `port`, from the text of /proc/net/tcp and tcp6. Pure."""
    rows = (line.split() for table in tables for line in table.splitlines()[1:])
    return frozenset(
        int(row[9])
        for row in rows
        if len(row) > 9 and row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port
    )


def box_processes(root: Path) -> tuple[Process, ...]:
    """Every living process of the box at `root`: those that carry the mark and were started in
    that folder, and whatever they started in their process groups. Never the caller's own group.
    """
    try:
        home = root.stat()
    except OSError:
        return ()
    everyone = tuple(own_processes())
    groups = {found.group for found in everyone if _belongs(found.pid, home)} - {os.getpgrp()}
    return tuple(found for found in everyone if found.group in groups)


def own_processes() -> Iterator[Process]:
    """All living processes of this user."""
    user = os.geteuid()
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            found = _read_process(folder, user)
            if found is not None:
                yield found


def still_is(known: Process) -> bool:
    """Whether the pid still names the same process."""
    found = _read_process(PROC / str(known.pid), os.geteuid())
    return found is not None and found.born == known.born


def _read_process(folder: Path, user: int) -> Process | None:
    try:
        if folder.stat().st_uid != user:
            return None
        # The name stands in brackets and may itself hold brackets and spaces.
        head, _, tail = (folder / "stat").read_text("utf-8", "replace").rpartition(")")
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").strip()
    except OSError:
        return None
    fields = tail.split()
    if fields[0] in ("Z", "X"):
        return None
    return Process(
        pid=int(folder.name),
        group=int(fields[2]),
        born=int(fields[19]),
        name=head.partition("(")[2],
        command=command.decode("utf-8", "replace"),
    )


def _belongs(pid: int, home: os.stat_result) -> bool:
    try:
        cwd = (PROC / str(pid) / "cwd").stat()
        if (cwd.st_dev, cwd.st_ino) != (home.st_dev, home.st_ino):
            return False
        variables = (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(item.startswith(f"{MARK}=".encode()) for item in variables)


def _socket_tables() -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        try:
            yield (PROC / "net" / name).read_text(encoding="ascii")
        except OSError:
            continue


def _sockets_of(pid: int) -> frozenset[int]:
    try:
        links = [_target(link) for link in (PROC / str(pid) / "fd").iterdir()]
    except OSError:
        return frozenset()
    return frozenset(int(text[8:-1]) for text in links if text.startswith("socket:["))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""
