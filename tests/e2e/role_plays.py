"""Plays roles on a server in a container, as the pipeline does on the host it runs on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aibox.box import ansible, ansible_inputs
from aibox.box.ansible_events import Event, Stats, TaskResult, TaskRetried, parse
from ansible_runs import PLAY, ROLES

from .systemd_host import Server

CONNECTIONS = Path(__file__).parent / "connections"
TASK = """\
    - name: {role} {entry}
      ansible.builtin.import_role:
        name: {role}
        tasks_from: {entry}
"""


@dataclass(frozen=True)
class Played:
    """What became of a play."""

    events: tuple[Event, ...]
    seconds: float

    @property
    def stats(self) -> Stats:
        found = [event for event in self.events if isinstance(event, Stats)]
        assert len(found) == 1, "the play did not come to its end"
        return found[0]

    @property
    def changed(self) -> list[str]:
        """The names of the tasks that changed something, or would."""
        assert self.stats.succeeded, self.complaint
        return [event.task for event in self._results() if event.status == "changed"]

    @property
    def complaint(self) -> str:
        """What the tasks that failed said."""
        failed = ("failed", "unreachable")
        return "; ".join(event.message for event in self._results() if event.status in failed)

    @property
    def retries(self) -> int:
        """How often a task looked again."""
        return sum(isinstance(event, TaskRetried) for event in self.events)

    def _results(self) -> list[TaskResult]:
        return [event for event in self.events if isinstance(event, TaskResult)]


@dataclass(frozen=True)
class Stage:
    """A server, the folder for what Ansible says, and how the server's shell is set."""

    server: Server
    folder: Path
    umask: str = "077"
    locale: str = "ko_KR.UTF-8"

    def plays(self, *entries: str, given: Mapping[str, object], check: bool = False) -> Played:
        """Play entry points of roles (`role.entry`), one after the other, with the same values."""
        parts = [entry.split(".") for entry in entries]
        text = "".join(TASK.format(role=role, entry=entry) for role, entry in parts)
        playbook = self.folder / "playbook.yml"
        playbook.write_text(PLAY + text)
        self._write_inputs(given)
        return self._run(playbook, ["--check"] if check else [])

    def _write_inputs(self, given: Mapping[str, object]) -> None:
        ansible_inputs.write(self.folder, given)
        host = {
            "ansible_connection": "docker_exec",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_docker_exec_umask": self.umask,
            "ansible_docker_exec_locale": self.locale,
        }
        inventory = {"all": {"hosts": {self.server.id: host}}}
        (self.folder / "inventory.json").write_text(json.dumps(inventory))

    def _run(self, playbook: Path, options: list[str]) -> Played:
        surroundings = {
            **ansible_inputs.environment(self.folder, ROLES),
            "ANSIBLE_CONNECTION_PLUGINS": str(CONNECTIONS),
            "ANSIBLE_REMOTE_TEMP": "/tmp/ansible",
        }
        inputs = ["--inventory", self.folder / "inventory.json"]
        values = ["--extra-vars", f"@{self.folder / 'vars.json'}"]
        command = [sys.executable, "-P", "-m", "ansible", "playbook", playbook, *inputs, *values]
        said, log = self.folder / "events.jsonl", self.folder / "ansible.log"
        with said.open("wb") as events, log.open("wb") as printed:
            given = {ansible.EVENT_DESCRIPTORS: str(events.fileno())}
            subprocess.run(
                [*command, *options],
                env={**surroundings, **given, "PATH": os.environ["PATH"]},
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=(events.fileno(),),
                check=False,
            )
        lines = said.read_bytes().splitlines()
        found = tuple(event for event in map(parse, lines) if event is not None)
        return Played(found, found[-1].time - found[0].time if found else 0.0)
