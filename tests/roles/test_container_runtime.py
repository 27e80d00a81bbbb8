"""The role container_runtime on this host: docker, dockerd and systemctl are doubles."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aibox.box.ansible_events import Stats
from aibox.errors import Failed
from ansible_runs import Runs

# Doubles: docker answers from files, systemctl notes what it was asked.
DOCKER = """\
#!/bin/sh
case "$1" in
    info) cat '{state}/info' ;;
    ps) cat '{state}/ps' ;;
    compose) cat '{state}/compose' ;;
    rm) echo "$*" >> '{state}/calls' ;;
    *) exit 1 ;;
esac
"""
SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >> '{state}/calls'
[ "$1" = show ] && echo LoadState=loaded && echo ActiveState=active
exit 0
"""
PLAY = """\
    - name: {entry}
      ansible.builtin.import_role:
        name: container_runtime
        tasks_from: {entry}
"""
INFO: dict[str, Any] = {
    "ServerVersion": "26.1.5+dfsg1",
    "LiveRestoreEnabled": False,
    "LoggingDriver": "json-file",
    "DockerRootDir": "/var/lib/docker",
    "Swarm": {"LocalNodeState": "inactive"},
}
SHOP = "shop\trunning\t\n"


@dataclass(frozen=True)
class Host:
    """A host whose Docker is a double."""

    runs: Runs
    state: Path
    given: dict[str, object] = field(default_factory=dict)

    def docker(self, *, ps: str = "", compose: str = "v2.26.1", **info: object) -> None:
        (self.state / "info").write_text(json.dumps({**INFO, **info}))
        (self.state / "ps").write_text(ps)
        (self.state / "compose").write_text(compose)

    def play(self, entry: str, *, check: bool = False, **more: object) -> Stats:
        variables: Mapping[str, object] = {
            "container_runtime_state": self.runs.folder / "records",
            "container_runtime_file": self.settings,
            "container_runtime_report": self.runs.folder / "report.json",
            **more,
        }
        return self.runs.play(self.runs.tasks(PLAY.format(entry=entry)), variables, check=check)

    def finding(self, check: str) -> dict[str, str]:
        report = json.loads((self.runs.folder / "report.json").read_text())
        return {one["check"]: one for one in report}[check]

    def calls(self) -> str:
        path = self.state / "calls"
        return path.read_text() if path.exists() else ""

    @property
    def settings(self) -> Path:
        return self.runs.folder / "docker" / "daemon.json"


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Host:
    state = runs.folder / "docker_double"
    state.mkdir()
    for name, text in {"docker": DOCKER, "systemctl": SYSTEMCTL}.items():
        (state / name).write_text(text.format(state=state))
        (state / name).chmod(0o755)
    (state / "dockerd").write_text("#!/bin/sh\nexit 0\n")
    (state / "dockerd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    made = Host(runs, state)
    made.docker()
    return made


def test_a_docker_of_somebody_else_is_left_alone_and_reported(host: Host) -> None:
    host.docker(ps=SHOP)
    assert host.play("create").changed == 0
    assert host.finding("docker settings")["found"] == "left alone"
    assert host.finding("other containers")["found"] == "shop"
    assert not host.settings.exists()
    assert host.calls() == ""


@pytest.mark.parametrize("live_restore", [False, True])
def test_settings_end_no_containers(host: Host, live_restore: bool) -> None:
    host.docker(ps=SHOP, LiveRestoreEnabled=live_restore)
    wanted = {"container_runtime_settings": {"features": {"cdi": True}}}
    assert host.play("settings", **wanted).changed == (2 if live_restore else 0)
    assert host.settings.exists() is live_restore
    assert ("restart docker" in host.calls()) is live_restore


def test_settings_that_must_be_fail_before_anything_changes(host: Host) -> None:
    host.docker(ps=SHOP)
    wanted = {"container_runtime_settings": {"features": {"cdi": True}}}
    with pytest.raises(Failed, match=r"features.cdi.*shop.*docker stop shop"):
        host.play("settings", container_runtime_required=True, **wanted)
    assert not host.settings.exists()
    host.docker()
    host.settings.parent.mkdir()
    host.settings.write_text('{"features": {"cdi": false}}')
    with pytest.raises(Failed, match=r"other values for features.cdi.*sudoedit"):
        host.play("settings", container_runtime_required=True, **wanted)


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_settings_are_merged_once_and_taken_out(host: Host) -> None:
    wanted = {"container_runtime_settings": {"features": {"cdi": True}}}
    assert host.play("settings", check=True, **wanted).changed == 1
    assert not host.settings.exists()
    host.play("settings", **wanted)
    assert host.play("settings", **wanted).changed == 0
    assert host.calls().count("restart docker") == 1
    assert host.play("unset").changed == 1
    assert not host.settings.exists()


@pytest.mark.parametrize(
    ("info", "compose", "said"),
    [
        ({"ServerVersion": "20.10.24"}, "v2.26.1", r"docker engine: 20.10.24, expected >= 23.0"),
        ({}, "v2.17.0", r"docker compose: 2.17.0, expected >= 2.20.*docker compose version"),
        (
            {"ServerVersion": "", "ServerErrors": ["Cannot connect to the Docker daemon"]},
            "v2.26.1",
            r"docker engine: no answer: Cannot connect.*systemctl status docker",
        ),
    ],
)
def test_a_docker_that_cannot_run_the_box_is_refused(
    host: Host, info: dict[str, object], compose: str, said: str
) -> None:
    host.docker(compose=compose, **info)
    with pytest.raises(Failed, match=said):
        host.play("create")


def test_a_docker_of_ours_stays_while_others_use_it(host: Host) -> None:
    records = host.runs.folder / "records"
    records.mkdir()
    record = {"version": 1, "packages": {"docker.io": "1"}, "held": [], "unfinished": []}
    (records / "container_runtime.packages.json").write_text(json.dumps(record))
    host.docker(ps=SHOP + "aibox-web-1\texited\taibox\n")
    host.play("remove", container_runtime_remove_data=True)
    assert host.finding("docker")["status"] == "warn"
    assert host.finding("docker")["fix"].endswith("docker rm shop")
    assert host.calls() == "rm --force --volumes aibox-web-1\n"
    assert (records / "container_runtime.packages.json").exists()


@pytest.fixture(scope="module")
def module(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("container_runtime/docker_state")


def test_containers_are_told_apart_by_their_project(module: ModuleType) -> None:
    lines = ["aibox-web-1\trunning\taibox", "shop\tpaused\t", "old\texited\tother", "torn"]
    assert module.containers(lines, "aibox") == {
        "own": ["aibox-web-1"],
        "foreign": ["old", "shop"],
        "running": ["aibox-web-1", "shop"],
    }


@pytest.mark.parametrize("said", ["not json", "", "[]", "null"])
def test_an_answer_that_is_none_is_no_engine(module: ModuleType, said: str) -> None:
    assert module.engine(True, said)["answers"] is False


@pytest.mark.parametrize(
    ("answers", "said", "version"),
    [(True, "v2.26.1", "2.26.1"), (True, "2.26.1-4", "2.26.1-4"), (False, "unknown command", "")],
)
def test_the_version_of_compose(module: ModuleType, answers: bool, said: str, version: str) -> None:
    assert module.compose(answers, said) == version


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ('{"packages": {"docker.io": "1"}, "unfinished": []}', True),
        ('{"packages": {}, "unfinished": ["docker.io"]}', True),
        ('{"packages": {"docker-compose": "1"}, "unfinished": []}', False),
        ("{", False),
        ("[]", False),
    ],
)
def test_an_engine_is_ours_when_the_record_says_so(
    module: ModuleType, tmp_path: Path, text: str, ours: bool
) -> None:
    record = tmp_path / "record"
    record.write_text(text)
    assert module.is_ours(record, ["docker.io", "docker-cli"]) is ours
