"""Runs playbooks for tests the way the pipeline does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aibox.box import ansible
from aibox.box.ansible_events import Event, Stats, TaskResult

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "roles"
PLAYBOOKS = ROOT / "playbooks"

PLAY = """\
- name: Example
  hosts: all
  gather_facts: false
  tasks:
"""


@dataclass
class Runs:
    """Plays into one run folder and keeps the events."""

    folder: Path
    events: list[Event] = field(default_factory=list)
    roles: Path = ROLES

    @property
    def run_folder(self) -> Path:
        return self.folder / "run 폴더 100%"

    def play(
        self,
        playbook: Path,
        variables: Mapping[str, object],
        *,
        check: bool = False,
        on_event: Callable[[Event], None] | None = None,
        pass_fds: tuple[int, ...] = (),
    ) -> Stats:
        def note(event: Event) -> None:
            self.events.append(event)
            if on_event is not None:
                on_event(event)

        return ansible.run(
            playbook,
            variables,
            run_folder=self.run_folder,
            roles_path=self.roles,
            on_event=note,
            pass_fds=pass_fds,
            check=check,
        )

    def tasks(self, text: str) -> Path:
        """A playbook of one play with these tasks (YAML, indented by four)."""
        playbook = self.folder / "playbook.yml"
        playbook.write_text(PLAY + text, encoding="utf-8")
        return playbook

    def results(self, status: str) -> list[str]:
        """The names of the tasks that ended so."""
        return [e.task for e in self.events if isinstance(e, TaskResult) and e.status == status]
