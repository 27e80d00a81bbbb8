"""The role preflight, run for real: it finds everything at once and changes nothing."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from aibox.errors import Failed
from aibox.preflight import Finding, Status, read_report, variables
from aibox.profile import Requires
from ansible_runs import PLAYBOOKS, ROLES, Runs

PLAYBOOK = PLAYBOOKS / "preflight.yml"
CHECKS = [
    "operating system",
    "architecture",
    "python",
    "memory",
    "disk space",
    "inodes",
    "file system",
    "programs can run",
    "folder",
    "clock",
    "open files",
    "ports",
    "systemd",
]
MODEST = Requires(
    architectures=("x86_64", "aarch64"),
    python_min="3.11",
    memory_mib_min=1,
    memory_mib_recommended=2,
    disk_mib_min=1,
    inodes_min=1,
)
HUGE = 10**9
IMPOSSIBLE = Requires(
    architectures=("pdp11",),
    python_min="99.0",
    memory_mib_min=HUGE,
    memory_mib_recommended=HUGE,
    disk_mib_min=HUGE,
    inodes_min=10**15,
)
# A double of what the role measures, of a host with everything wrong that a test cannot arrange.
BAD_HOST = {
    "system": "Plan9",
    "distribution": "",
    "architecture": "x86_64",
    "python": "3.9.9",
    "year": 1970,
    "date": "1970-01-01",
    "systemd": False,
    "memory_mib": 1024,
    "open_files": 256,
    "nearest": "/mnt/{{ 1 + 1 }}",
    "is_folder": False,
    "writable": True,
    "owner": 7,
    "user": 1000,
    "filesystem": "nfs4",
    "runs_programs": False,
    "free_mib": 1024,
    "free_inodes": 0,
    "counts_inodes": False,
    "ports_taken": [],
}


def judge(
    runs: Runs, requires: Requires, *, root: Path, check: bool = False, **more: object
) -> dict[str, Finding]:
    """The findings by check, of a run that must have changed nothing."""
    report = runs.folder / "report.json"
    given = variables(requires, root=root, report=report)
    stats = runs.play(PLAYBOOK, {**given, **more}, check=check)
    assert stats.changed == 0
    return {finding.check: finding for finding in read_report(report)}


@pytest.mark.parametrize("check", [False, True])
def test_a_sound_host_passes_every_check_and_is_left_alone(runs: Runs, check: bool) -> None:
    root = runs.folder / "not there" / "상자"
    findings = judge(runs, MODEST, root=root, check=check)
    assert list(findings) == CHECKS
    bad = {name: finding for name, finding in findings.items() if finding.status is Status.VETO}
    assert bad == {}
    assert not root.parent.exists()
    assert str(runs.folder) in findings["disk space"].found


def test_a_host_that_lacks_everything_is_told_everything_at_once(runs: Runs) -> None:
    obstacle = runs.folder / "file"
    obstacle.touch()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        findings = judge(
            runs,
            IMPOSSIBLE,
            root=obstacle / "box",
            preflight_systems=["Plan9"],
            preflight_year_min=9999,
            preflight_open_files_min=HUGE,
            preflight_open_files_recommended=HUGE,
            preflight_ports=[port],
        )
    vetoed = [name for name, finding in findings.items() if finding.status is Status.VETO]
    allowed = {"file system", "programs can run", "systemd"}
    if findings["inodes"].found.startswith("unlimited"):
        allowed.add("inodes")
    assert vetoed == [name for name in CHECKS if name not in allowed]
    assert str(port) in findings["ports"].found
    assert "not a folder" in findings["folder"].found


def test_a_host_that_could_do_better_is_warned(runs: Runs) -> None:
    wishful = MODEST.model_copy(update={"memory_mib_recommended": HUGE})
    findings = judge(runs, wishful, root=runs.folder / "box", preflight_open_files_recommended=HUGE)
    assert findings["memory"].status is Status.WARN
    assert findings["open files"].status is Status.WARN


def test_what_a_test_cannot_arrange_is_judged_from_a_double(runs: Runs) -> None:
    findings = judge(runs, MODEST, root=runs.folder, __preflight_host=BAD_HOST)
    vetoed = {name for name, finding in findings.items() if finding.status is Status.VETO}
    assert vetoed == {
        "operating system",
        "python",
        "file system",
        "programs can run",
        "folder",
        "clock",
        "open files",
    }
    assert findings["file system"].found == "nfs4 at /mnt/{{ 1 + 1 }}"
    assert "belongs to user 7" in findings["folder"].found
    assert findings["inodes"].status is Status.OK


@pytest.mark.parametrize(
    ("kind", "refused", "volatile"),
    [
        ("ext4", False, False),
        ("xfs", False, False),
        ("btrfs", False, False),
        ("overlay", False, True),
        ("tmpfs", False, True),
        ("fuse.fuse-overlayfs", True, True),
        ("nfs", True, False),
        ("nfs4", True, False),
        ("cifs", True, False),
        ("smb3", True, False),
        ("fuse.sshfs", True, False),
        ("fuseblk", True, False),
        ("9p", True, False),
        ("vfat", True, False),
    ],
)
def test_which_file_systems_are_refused(kind: str, refused: bool, volatile: bool) -> None:
    constants = yaml.safe_load((ROLES / "preflight" / "vars" / "main.yml").read_text())
    patterns = ("__preflight_filesystems_refused", "__preflight_filesystems_volatile")
    matched = tuple(re.match(constants[name].strip(), kind) is not None for name in patterns)
    assert matched == (refused, volatile)


def test_a_missing_variable_is_named(runs: Runs) -> None:
    with pytest.raises(Failed, match="preflight_report"):
        runs.play(PLAYBOOK, {"preflight_root": "/x"})
