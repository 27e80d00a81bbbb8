"""One run of a playbook on this host: its folder, and what it does told as progress."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from aibox.box import ansible
from aibox.box.ansible_events import Event, TaskResult, TaskStarted
from aibox.box.store import Store
from aibox.content import Content
from aibox.progress import Progress, Report

KEPT_RUNS = 50


@contextmanager
def run_folder(store: Store) -> Iterator[Path]:
    """A new folder for one Ansible run, named by time; it keeps what was said and done.

    A box keeps its newest `KEPT_RUNS`. Where there is no box yet, looking at the host must not make
    one: it is a temporary folder, which stays after a failure alone, for its log to be read.
    """
    if not store.layout.lock.exists():
        folder = Path(tempfile.mkdtemp(prefix="aibox-run-"))
        yield folder
        shutil.rmtree(folder)
        return
    runs = store.layout.root / "runs"
    for old in sorted(runs.iterdir() if runs.is_dir() else ())[: 1 - KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    named = time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))
    folder = runs / f"{named}-{nanoseconds:09}"
    folder.mkdir(parents=True, mode=0o700)
    yield folder


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
