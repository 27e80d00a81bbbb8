"""Runs a playbook on this host as a process of its own and relays what it does, live.

Ansible's Python interface is not made for others, so `ansible-playbook` is started with the
interpreter that runs the CLI, from a run folder that keeps what it was given and what it said::

    ansible.cfg  inventory.json  vars.json    its inputs (see `ansible_inputs`)
    events.jsonl                              what the `aibox_events` callback said
    ansible.log                               what Ansible printed

A playbook outlives a CLI that is killed. It goes on writing events.jsonl, and holds the
descriptors in `pass_fds` (the lock of the box) until it has ended.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from aibox.box import ansible_inputs
from aibox.box.ansible_events import Event, Stats, TaskResult, parse
from aibox.box.ansible_interrupter import Interrupter
from aibox.errors import Failed, Fault

EVENT_DESCRIPTORS = "AIBOX_EVENT_FDS"


def run(
    playbook: Path,
    variables: Mapping[str, object],
    *,
    run_folder: Path,
    roles_path: Path,
    on_event: Callable[[Event], None],
    pass_fds: tuple[int, ...] = (),
    check: bool = False,
) -> Stats:
    """Run `playbook` on this host, hand each event to `on_event` as it happens, return the counts.

    `variables` are JSON values (or paths) and arrive as they are: a Jinja expression in a string
    stays text. `run_folder` is made if need be. With `check`, nothing is changed. Relative paths
    are taken from the working folder.

    Raises `Failed`: `ansible-task-failed`, `ansible-task-rescued`, `ansible-host-lost`,
    `ansible-incomplete` (it never came to its end), `ansible-cancelled` (SIGINT or SIGTERM
    reached the CLI: Ansible is asked to stop and waited for, never killed, because a killed
    Ansible leaves its module running), `ansible-variable-unusable`. An exception of `on_event`
    stops Ansible in the same way and is raised again.
    """
    run_folder = run_folder.absolute()
    ansible_inputs.write(run_folder, variables)
    command = _Command(
        arguments=_arguments(playbook.absolute(), run_folder, check=check),
        environment=ansible_inputs.environment(run_folder, roles_path.absolute()),
        run_folder=run_folder,
        pass_fds=pass_fds,
    )
    ending = _Ending()

    def relay(event: Event) -> None:
        ending.note(event)
        on_event(event)

    with Interrupter() as interrupter:
        _play(command, relay, interrupter)
    return ending.judge(run_folder / "ansible.log", cancelled=interrupter.asked)


def _arguments(playbook: Path, run_folder: Path, *, check: bool) -> list[str]:
    """The command line: paths only, no values. `-P` keeps the working folder out of imports."""
    command = [sys.executable, "-P", "-m", "ansible", "playbook", str(playbook)]
    inventory, variables = run_folder / "inventory.json", run_folder / "vars.json"
    inputs = ["--inventory", str(inventory), "--extra-vars", f"@{variables}"]
    return [*command, *inputs, *(["--check"] if check else [])]


class _Ending:
    """Remembers the events that tell how a run ended."""

    def __init__(self) -> None:
        self._stats: Stats | None = None
        self._failure: TaskResult | None = None

    def note(self, event: Event) -> None:
        if isinstance(event, Stats):
            self._stats = event
        elif isinstance(event, TaskResult) and event.status in ("failed", "unreachable"):
            self._failure = event

    def judge(self, log: Path, *, cancelled: bool) -> Stats:
        """The counts of a run that succeeded; raises `Failed` for every other ending."""
        if cancelled:
            raise _cancelled()
        if self._stats is None:
            raise _failed("ansible-incomplete", "Ansible stopped before its end", log)
        if self._stats.succeeded:
            return self._stats
        if self._failure is None:
            raise _failed("ansible-incomplete", "Ansible found no host to work on", log)
        raise self._task_failure(self._failure, self._stats, log)

    @staticmethod
    def _task_failure(failure: TaskResult, stats: Stats, log: Path) -> Failed:
        said = f"the task {failure.task!r} failed on {failure.host}: {failure.message}"
        if failure.status == "unreachable":
            said = f"{failure.host} was lost in the task {failure.task!r}: {failure.message}"
            return _failed("ansible-host-lost", said, log, Fault.HOST)
        if all(host.failures == 0 for host in stats.hosts.values()):
            return _failed("ansible-task-rescued", f"{said} (and was passed over)", log, Fault.US)
        return _failed("ansible-task-failed", said, log, Fault.HOST)


def _failed(reference: str, message: str, log: Path, fault: Fault = Fault.UPSTREAM) -> Failed:
    hint = f"read what Ansible printed, then run the command again: less {shlex.quote(str(log))}"
    return Failed(reference, message, hint=hint, fault=fault, context=str(log))


def _cancelled() -> Failed:
    return Failed(
        "ansible-cancelled",
        "the preparation of this host was stopped on request",
        hint="every step can be repeated; run the command again, or look first: ./aibox status",
        fault=Fault.YOU,
    )


@dataclass(frozen=True, slots=True)
class _Command:
    """One invocation of Ansible, as data."""

    arguments: list[str]
    environment: dict[str, str]
    run_folder: Path
    pass_fds: tuple[int, ...]


def _play(command: _Command, relay: Callable[[Event], None], interrupter: Interrupter) -> None:
    """Start Ansible and relay its events until it has ended; it has ended on every way out.

    When `relay` raises, the stream closes before the wait: an Ansible nobody listens to must not
    wait for a reader.
    """
    process, lines = _start(command)
    with interrupter.watching(process, lines), lines:
        for line in lines:
            event = parse(line)
            if event is not None:
                relay(event)
    shutil.rmtree(command.run_folder / "work", ignore_errors=True)


def _start(command: _Command) -> tuple[subprocess.Popen[bytes], BinaryIO]:
    """Ansible running, and the stream of its event lines.

    Its own session keeps the terminal's signals away: they reach it through the CLI alone.
    """
    receive, send = os.pipe()
    lines = os.fdopen(receive, "rb")
    with (
        os.fdopen(send, "wb") as sender,
        _open_private(command.run_folder / "events.jsonl") as record,
        _open_private(command.run_folder / "ansible.log") as log,
    ):
        events = (sender.fileno(), record.fileno())
        process = subprocess.Popen(
            command.arguments,
            cwd=command.run_folder,
            env={**command.environment, EVENT_DESCRIPTORS: ",".join(map(str, events))},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(*events, *command.pass_fds),
            start_new_session=True,
        )
    return process, lines


def _open_private(path: Path) -> BinaryIO:
    """A file to write anew, readable by its owner alone."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")
