"""What the role preflight measures, from files of the kernel and from this host."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

MOUNTS = """\
21 1 254:0 / / rw,relatime - ext4 /dev/vda rw
22 21 0:5 / /mnt rw - tmpfs tmpfs rw
23 21 0:6 / /mnt/a\\040b rw shared:1 - nfs4 server:/a\\040b rw
24 21 0:7 / /mnt/over rw - ext4 /dev/vdb rw
25 21 0:8 / /mnt/over rw - fuse.sshfs x rw
"""


@pytest.fixture(scope="module")
def host_info(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("preflight/host_info")


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann", "ext4"),
        ("/mnt", "tmpfs"),
        ("/mnts", "ext4"),
        ("/mnt/a b/box", "nfs4"),
        ("/mnt/over", "fuse.sshfs"),
    ],
)
def test_the_innermost_mount_holds_a_path(host_info: ModuleType, path: str, kind: str) -> None:
    assert host_info.filesystem(Path(path), MOUNTS) == kind


def test_no_mount_table_is_no_answer(host_info: ModuleType) -> None:
    assert host_info.filesystem(Path("/"), "") == "unknown"


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no /dev/shm")
def test_this_host_knows_its_memory_file_system(host_info: ModuleType) -> None:
    assert host_info.folder(Path("/dev/shm/no/such/box"))["filesystem"] == "tmpfs"


def test_a_folder_that_is_not_there_is_judged_by_its_parent(
    host_info: ModuleType, tmp_path: Path
) -> None:
    seen = host_info.folder(tmp_path / "a" / "b")
    assert (seen["nearest"], seen["is_folder"], seen["writable"]) == (str(tmp_path), True, True)
    assert seen["owner"] == os.geteuid()
    assert seen["free_mib"] > 0


@pytest.mark.parametrize(
    ("groups", "file", "limit"),
    [
        ("0::/a/b\n", "a/memory.max", 7),
        ("0::/a/b\n", "memory.max", 7),
        ("4:cpu,memory:/a\n0::/\n", "memory/a/memory.limit_in_bytes", 7),
        ("4:memory:/docker/x\n", "memory/memory.limit_in_bytes", 7),
        ("4:cpu:/a\n", "memory/a/memory.limit_in_bytes", None),
    ],
)
def test_the_limit_of_a_control_group_or_one_above_it_counts(
    host_info: ModuleType, tmp_path: Path, groups: str, file: str, limit: int | None
) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("7\n")
    assert list(host_info.group_limits(groups, tmp_path)) == ([] if limit is None else [limit])


def test_a_control_group_without_a_limit_does_not_count(
    host_info: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    assert list(host_info.group_limits("0::/\n", tmp_path)) == []


def test_a_port_somebody_listens_on_is_taken(host_info: ModuleType) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert host_info.taken([port]) == [port]
    assert host_info.taken([port]) == []


def test_a_distribution_names_itself(host_info: ModuleType, tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('NAME=x\nPRETTY_NAME="Debian GNU/Linux 13"\n')
    assert host_info.distribution(release) == "Debian GNU/Linux 13"
    assert host_info.distribution(tmp_path / "none") == ""
