"""Preflight and provision: what Ansible does for a box, on this host.

Ansible judges the host and makes folders and the start-up unit. It does not activate and it
does not roll back: that is a local transaction (`activate`).
"""

from __future__ import annotations

import os
from pathlib import Path

from aibox import digest, playbooks
from aibox.box import host, user_units
from aibox.box.store import Store
from aibox.content import Content
from aibox.plan import Plan
from aibox.preflight import Finding, Status, read_report, variables
from aibox.progress import Progress, Report
from aibox.release import Release


def judge(
    store: Store, content: Content, release: Release, plan: Plan, report: Report, released: str = ""
) -> tuple[Finding, ...]:
    """Every finding of the role `preflight`; changes nothing but its own run folder.

    `released` is a date (YYYY-MM-DD) before which no clock can be right.
    """
    with playbooks.run_folder(store) as folder:
        findings = folder / "preflight.json"
        asked = variables(
            release.requires,
            root=store.layout.root,
            report=findings,
            ports=_ports_to_check(store, plan),
            released=released,
        )
        playbooks.run(content, "preflight", folder, asked, report)
        return read_report(findings)


def prepare(store: Store, content: Content, unit: bytes, report: Report, lock: int) -> None:
    """Make folders, and the unit that starts the box after a reboot where systemd can do it.

    `lock` is the descriptor of the box's lock: Ansible holds it should this process be killed.
    """
    with playbooks.run_folder(store) as folder:
        source = folder / "unit"
        source.write_bytes(unit)
        wanted = {
            "box_layout_root": str(store.layout.root),
            "box_layout_unit_source": str(source),
            "box_layout_unit_destination": str(unit_path(store.layout.root)),
            "box_layout_report": str(folder / "unit.json"),
        }
        playbooks.run(content, "provision", folder, wanted, report, lock)
        findings = read_report(folder / "unit.json")
    for finding in findings:
        advice = "" if finding.status is Status.OK else f"; {finding.fix}"
        report(Progress("provision", f"{finding.check}: {finding.found}{advice}"))


def remove(store: Store, content: Content, report: Report, lock: int) -> None:
    """Take the start-up unit away."""
    wanted = {"box_layout_unit_destination": str(unit_path(store.layout.root))}
    with playbooks.run_folder(store) as folder:
        playbooks.run(content, "remove", folder, wanted, report, lock)


def unit_path(root: Path) -> Path:
    """The start-up unit of the box at `root`; two boxes of one user never share one."""
    return user_units.folder() / f"aibox-{digest.of_bytes(os.fsencode(root))[:8]}.service"


def _ports_to_check(store: Store, plan: Plan) -> list[int]:
    """The port of the plan, unless it is this box that listens there."""
    server = plan.site.server
    free = host.port_is_free(server.host, server.port)
    ours = not free and host.is_answered_by(store.layout.root, server.port)
    return [] if ours else [server.port]
