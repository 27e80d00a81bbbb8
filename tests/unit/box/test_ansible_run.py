"""Real runs of Ansible on this host: what arrives, what is told, and how it ends."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.box.ansible_events import Event, TaskStarted
from aibox.errors import Failed, Fault
from ansible_runs import ROLES, Runs

DEADLINE_S = 60
WAIT = """\
    - name: Wait
      ansible.builtin.wait_for: {path: "{{ wanted }}", timeout: 60, sleep: 1}
    - name: Go on
      ansible.builtin.copy: {content: x, dest: "{{ reached }}", mode: "0600"}
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return Runs(tmp_path)


def when_task(name: str, act: Callable[[], object]) -> Callable[[Event], None]:
    """An `on_event` that acts once the task `name` has begun."""

    def on_event(event: Event) -> None:
        if isinstance(event, TaskStarted) and event.name == name:
            act()

    return on_event


def wait_variables(runs: Runs) -> dict[str, object]:
    return {"wanted": str(runs.folder / "wanted"), "reached": str(runs.folder / "reached")}


def test_values_arrive_as_they_are_and_nothing_is_left_in_the_home(runs: Runs) -> None:
    value = {"text": "{{ lookup('pipe', 'touch owned') }}", "{{ key }}": ["{% raw %}", "한 글"]}
    playbook = runs.tasks("""\
    - name: Write the value down
      ansible.builtin.copy: {content: "{{ value | to_json }}", dest: "{{ out }}", mode: "0600"}
""")
    out = runs.folder / "out 한글.json"
    stats = runs.play(playbook, {"value": value, "out": out})
    assert stats.changed == 1
    assert json.loads(out.read_text()) == value
    assert list((runs.folder / "home").iterdir()) == []
    assert not list(runs.folder.rglob("owned"))


def test_the_run_folder_keeps_private_files_only(runs: Runs) -> None:
    runs.play(runs.tasks("    - ansible.builtin.ping:\n"), {})
    modes = {path.name: path.stat().st_mode & 0o777 for path in runs.run_folder.iterdir()}
    names = ["ansible.cfg", "ansible.log", "events.jsonl", "inventory.json", "vars.json"]
    assert modes == dict.fromkeys(names, 0o600)


def test_events_arrive_while_the_play_still_runs(runs: Runs) -> None:
    variables = wait_variables(runs)
    touch = when_task("Wait", (runs.folder / "wanted").touch)
    runs.play(runs.tasks(WAIT), variables, on_event=touch)
    assert runs.results("ok") == ["Wait"]
    assert runs.results("changed") == ["Go on"]


def test_check_changes_nothing(runs: Runs) -> None:
    variables = wait_variables(runs)
    (runs.folder / "wanted").touch()
    assert runs.play(runs.tasks(WAIT), variables, check=True).changed == 1
    assert not (runs.folder / "reached").exists()


@pytest.mark.parametrize(
    ("tasks", "reference", "fault"),
    [
        ("    - ansible.builtin.fail: {msg: broken pipe}\n", "ansible-task-failed", Fault.HOST),
        (
            "    - block: [{ansible.builtin.fail: {msg: broken pipe}}]\n"
            "      rescue: [{ansible.builtin.ping: }]\n",
            "ansible-task-rescued",
            Fault.US,
        ),
        ("    - ansible.builtin.no_such: {}\n", "ansible-incomplete", Fault.UPSTREAM),
    ],
)
def test_every_bad_ending_is_told(runs: Runs, tasks: str, reference: str, fault: Fault) -> None:
    with pytest.raises(Failed) as caught:
        runs.play(runs.tasks(tasks), {})
    assert (caught.value.reference, caught.value.fault) == (reference, fault)
    assert str(runs.run_folder / "ansible.log") in caught.value.hint
    assert ("broken pipe" in caught.value.message) == (reference != "ansible-incomplete")


def test_a_failure_that_was_hidden_stays_hidden(runs: Runs) -> None:
    tasks = '    - ansible.builtin.fail: {msg: "{{ value }}"}\n      no_log: true\n'
    with pytest.raises(Failed) as caught:
        runs.play(runs.tasks(tasks), {"value": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in (runs.run_folder / "events.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_cli_stops_ansible_and_is_told(runs: Runs, number: signal.Signals) -> None:
    handler = signal.getsignal(number)
    stop = when_task("Wait", lambda: os.kill(os.getpid(), number))
    with pytest.raises(Failed) as caught:
        runs.play(runs.tasks(WAIT), wait_variables(runs), on_event=stop)
    assert caught.value.reference == "ansible-cancelled"
    assert signal.getsignal(number) is handler
    assert processes_naming(runs.folder) == []
    assert not (runs.folder / "reached").exists()


def test_a_display_that_fails_stops_ansible_and_is_raised(runs: Runs) -> None:
    def fail() -> None:
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(BrokenPipeError, match="terminal"):
        runs.play(runs.tasks(WAIT), wait_variables(runs), on_event=when_task("Wait", fail))
    assert processes_naming(runs.folder) == []


def test_modules_do_not_inherit_the_lock(runs: Runs) -> None:
    playbook = runs.tasks("""\
    - name: List what a module holds open
      ansible.builtin.shell: ls -l /proc/self/fd > "{{ out }}"
""")
    out, lock = runs.folder / "out", runs.folder / "box.lock"
    with lock.open("w") as held:
        runs.play(playbook, {"out": out}, pass_fds=(held.fileno(),))
    assert "box.lock" not in out.read_text()


def test_a_killed_cli_leaves_the_lock_with_ansible_until_it_ends(runs: Runs) -> None:
    lock = runs.folder / "box.lock"
    cli = start_cli_holding(lock, runs)
    assert cli.stdout is not None
    while "name='Wait'" not in cli.stdout.readline():
        assert cli.poll() is None
    cli.kill()
    cli.wait()
    with lock.open() as other:
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        (runs.folder / "wanted").touch()
        assert until(lambda: locked(other.fileno()))
    last = (runs.run_folder / "events.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["hosts"]["localhost"]["changed"] == 1
    cli.stdout.close()


def start_cli_holding(lock: Path, runs: Runs) -> subprocess.Popen[str]:
    """A double of the CLI: takes the lock, runs the waiting playbook, prints every event."""
    code = """
import fcntl, json, sys
from pathlib import Path
from aibox.box import ansible
lock, playbook, variables, run_folder, roles = sys.argv[1:]
with open(lock, "w") as held:
    fcntl.flock(held, fcntl.LOCK_EX)
    ansible.run(Path(playbook), json.loads(variables), run_folder=Path(run_folder),
                roles_path=Path(roles), on_event=lambda event: print(event, flush=True),
                pass_fds=(held.fileno(),))
"""
    variables = json.dumps(wait_variables(runs))
    arguments = [lock, runs.tasks(WAIT), variables, runs.run_folder, ROLES]
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )


def locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def until(condition: Callable[[], bool]) -> bool:
    """Poll `condition` until it holds, or a deadline passes."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def processes_naming(folder: Path) -> list[str]:
    """Command lines of running processes that name `folder`."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found += [line] if str(folder) in line else []
    return found
