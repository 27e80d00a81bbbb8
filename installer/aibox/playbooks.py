"""One run of a playbook on this host: its folder, and what it does told as progress."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from aibox.box import ansible
from aibox.box.ansible_events import Event, TaskResult, TaskStarted
from aibox.box.store import Store
from aibox.content import Content
from aibox.progress import Progress, Report


def run_folder(store: Store) -> Path:
    """A new folder for one Ansible run, named by time; it keeps what was said and done.

    Where there is no box yet, looking at the host must not make one: it is a temporary folder.
    """
    if not store.layout.lock.exists():
        return Path(tempfile.mkdtemp(prefix="aibox-run-"))
    name = time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + f"-{time.monotonic_ns() % 1_000_000_000}"
    folder = store.layout.root / "runs" / name
    folder.mkdir(parents=True, mode=0o700)
    return folder


def run(
    content: Content,
    playbook: str,
    folder: Path,
    given: Mapping[str, object],
    report: Report,
    lock: int | None = None,
) -> None:
    """Run `playbooks/<playbook>.yml` with variables; `folder` keeps what was said and done.

    `lock` is the descriptor of the box's lock: Ansible holds it should this process be killed.
    Raises what `ansible.run` raises.
    """
    ansible.run(
        content.playbooks / f"{playbook}.yml",
        given,
        run_folder=folder,
        roles_path=content.roles,
        on_event=lambda event: _relay(playbook, event, report),
        pass_fds=() if lock is None else (lock,),
    )


def _relay(step: str, event: Event, report: Report) -> None:
    if isinstance(event, TaskStarted):
        report(Progress(step, event.name))
    elif isinstance(event, TaskResult) and event.status not in ("ok", "skipped"):
        report(Progress(step, f"{event.task}: {event.status} {event.message}".rstrip()))
