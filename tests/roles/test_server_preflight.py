"""The entry point judge_server of the role preflight: what it says of what was seen."""

from __future__ import annotations

import os

from aibox.preflight import Finding, ServerNeeds, Status, read_report, server_variables
from aibox.profile import Requires
from ansible_runs import Runs

PLAYBOOK = """\
    - name: Judge
      ansible.builtin.import_role:
        name: preflight
        tasks_from: judge_server
"""
CHECKS = [
    "distribution",
    "kernel",
    "administrator",
    "umask",
    "disk space per file system",
    "secure boot",
    "nouveau",
    "driver packages",
    "driver without packages",
    "mandatory access control",
    "control groups",
    "shared memory",
    "open files of services",
    "unattended upgrades",
    "restart",
    "air gap",
    "docker",
    "earlier installation",
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
# Doubles of what the role measures: a host with everything wrong, and one where all is well.
BAD_SERVER = {
    "distributions": ["plan9 4", "plan9"],
    "kernel": "5.4.0-1-ancient",
    "umask": "0077",
    "others_may_read": False,
    "user": 1000,
    "administrator": "",
    "disks": [
        {"nearest": "/", "enough": False, "found": "5 MiB free for /srv", "expected": ">= 9 MiB"},
        {"nearest": "/x y", "enough": True, "found": "7 MiB free for /b", "expected": ">= 7 MiB"},
    ],
    "security": {"selinux": "enforcing", "apparmor": "absent"},
    "groups": {"version": 0, "missing": ["memory"]},
    "shared_memory_mib": 0,
    "open_files": 1024,
    "upgrades": ["unattended-upgrades"],
    "network": {"routes": ["eth0"], "name_servers": ["192.0.2.1"], "probe": "reached"},
    "docker": {"state": "silent", "others": []},
    "box": "unfinished",
    "restart_wanted": True,
}
GOOD_SERVER = {
    **BAD_SERVER,
    "distributions": ["rocky 9.4", "rocky 9", "rocky"],
    "kernel": "6.12.1",
    "umask": "0022",
    "others_may_read": True,
    "administrator": "sudo",
    "disks": [],
    "security": {"selinux": "absent", "apparmor": "enabled"},
    "groups": {"version": 2, "missing": []},
    "shared_memory_mib": 64,
    "open_files": 1048576,
    "upgrades": [],
    "network": {"routes": [], "name_servers": [], "probe": "timed out"},
    "docker": {"state": "absent", "others": []},
    "box": "none",
    "restart_wanted": False,
}
BAD_DRIVER = {
    "secure_boot": "enabled",
    "nouveau": "bound",
    "run_installation": "present",
    "packages": ["nvidia-dkms-535", "nvidia-open"],
    "branches": ["535", "580"],
    "flavours": ["open", "proprietary"],
    "editions": [],
    "origins": ["nvidia.com"],
}
GOOD_DRIVER = {
    **BAD_DRIVER,
    "secure_boot": "absent",
    "nouveau": "absent",
    "run_installation": "absent",
    "packages": ["nvidia-open"],
    "branches": ["580"],
    "flavours": ["open"],
}
NEEDS = ServerNeeds(
    distributions=("debian 13", "rocky 9"),
    kernels=("6.12.1",),
    driver="built",
    driver_branch="580",
    air_gapped=True,
    egress_probe="192.0.2.9:443",
)


def judge(
    runs: Runs, needs: ServerNeeds, *, requires: Requires = MODEST, **more: object
) -> dict[str, Finding]:
    report = runs.folder / "report.json"
    given = server_variables(
        requires, needs, root=runs.folder / "box", report=report, released="2026-01-01"
    )
    stats = runs.play(runs.tasks(PLAYBOOK), {**given, **more}, check=True)
    assert stats.changed == 0
    return {finding.check: finding for finding in read_report(report)}


def judge_double(
    runs: Runs, needs: ServerNeeds, server: object, driver: object
) -> dict[str, Finding]:
    # Nothing is probed: the double says what came of it.
    return judge(runs, needs, __preflight_server=server, __preflight_driver=driver)


def with_status(findings: dict[str, Finding], status: Status) -> set[str]:
    return {name for name in CHECKS if findings[name].status is status}


def test_this_host_is_measured_and_everything_is_in_the_report(runs: Runs) -> None:
    needs = ServerNeeds(
        distributions=("none such",),
        kernels=(os.uname().release,),
        disks={runs.folder / "a": HUGE, runs.folder / "b": HUGE},
    )
    findings = judge(runs, needs, preflight_systems=["Plan9"], preflight_not_before="9999-01-01")
    assert list(findings)[-len(CHECKS) :] == CHECKS
    assert {"memory", "clock", "ports"} < findings.keys()
    assert findings["distribution"].status is Status.VETO
    assert findings["kernel"].status is Status.OK
    assert findings["clock"].status is Status.VETO
    assert findings["air gap"].status is Status.OK
    disks = findings["disk space per file system"]
    assert (disks.status, disks.expected) == (Status.VETO, f">= {2 * HUGE} MiB")
    assert str(runs.folder / "b") in disks.found
    assert all(finding.fix.strip() == finding.fix != "" for finding in findings.values())


def test_a_server_with_everything_wrong_is_told_everything_at_once(runs: Runs) -> None:
    findings = judge_double(runs, NEEDS, BAD_SERVER, BAD_DRIVER)
    assert with_status(findings, Status.VETO) == {
        "distribution",
        "kernel",
        "administrator",
        "disk space per file system",
        "driver packages",
        "driver without packages",
        "control groups",
        "air gap",
        "docker",
    }
    assert with_status(findings, Status.OK) == set()
    assert findings["disk space per file system"].found.startswith("5 MiB free for /srv; 7 MiB")
    assert findings["disk space per file system"].fix.endswith("df -h /")
    assert findings["driver packages"].fix.endswith("apt-get purge nvidia-dkms-535 nvidia-open")
    assert findings["earlier installation"].fix.endswith("./aibox recover")


def test_a_good_server_has_nothing_to_be_told(runs: Runs) -> None:
    findings = judge_double(runs, NEEDS, GOOD_SERVER, GOOD_DRIVER)
    assert with_status(findings, Status.OK) == set(CHECKS)
    assert findings["driver packages"].found == "580, open, nvidia.com"
