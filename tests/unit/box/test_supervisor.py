from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aibox import digest
from aibox.box import environment, guard, host
from aibox.box.filesystem import Filesystem
from aibox.box.supervisor import read_settings
from aibox.box.supervisor_client import restarts
from aibox.errors import Failed, NeedsPerson
from aibox.plan import environment_id
from small_box import SERVICES, SmallBox, wait_until
from wheel_maker import wheel_of_installed

# Deep, with spaces and Korean: its socket addresses would not fit into 107 bytes.
DEEP = Path("아주 깊은 폴더 " * 3) / ("d" * 60) / "상자 % ; #1"


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one environment: the real supervisor, installed from a wheel."""
    folder = tmp_path_factory.mktemp("built")
    wheel = wheel_of_installed(folder, "supervisor")
    name = environment_id([digest.of_bytes(wheel.read_bytes())], host.python_tag())
    built = environment.ensure(folder, name, [wheel], filesystem=Filesystem(), on_event=print)
    return built.parent


@pytest.fixture
def box(tmp_path: Path, environments: Path) -> Iterator[SmallBox]:
    (name,) = (path.name for path in environments.iterdir())
    small = SmallBox(tmp_path / DEEP, environments, name)
    small.generation(1)
    yield small
    small.supervisor.stop()


@pytest.fixture
def running(box: SmallBox) -> SmallBox:
    box.supervisor.apply()
    assert box.has_started(1, 1, 1)
    return box


def test_every_service_runs_and_listens_in_a_deep_folder(running: SmallBox) -> None:
    states = running.states()
    assert [states[name].state for name in SERVICES] == ["running"] * 3
    assert [states[name].pid for name in SERVICES] == [running.starts(n)[-1] for n in SERVICES]
    assert all(states[name].restarts == 0 and states[name].uptime_s >= 1 for name in SERVICES)


def test_a_killed_service_comes_back_and_is_counted(running: SmallBox) -> None:
    os.kill(running.starts("web")[-1], signal.SIGKILL)
    assert running.has_started(1, 1, 2)
    states = running.states()
    assert (states["web"].restarts, states["ingest"].restarts) == (1, 0)


def test_applying_what_runs_already_restarts_nothing(running: SmallBox) -> None:
    daemon = running.daemon()
    running.supervisor.apply()
    assert running.has_started(1, 1, 1)
    assert running.daemon() == daemon


def test_an_upgrade_restarts_exactly_what_changed(running: SmallBox) -> None:
    daemon = running.daemon()
    running.generation(2, web="changed")
    running.supervisor.apply()
    assert running.has_started(1, 1, 2)
    assert running.states()["web"].restarts == 0
    assert running.daemon() == daemon


def test_another_environment_replaces_supervisord_itself(
    running: SmallBox, environments: Path
) -> None:
    daemon, other = running.daemon(), "e" * 64
    (environments / other).symlink_to(running.environment)
    running.generation(2, environment=other)
    running.supervisor.apply()
    (environments / other).unlink()
    assert running.daemon() != daemon
    assert running.has_started(2, 2, 2)


def test_a_stopped_service_is_started_again(running: SmallBox) -> None:
    running.supervisor.stop()
    running.supervisor.apply()
    assert running.states()["ingest"].state == "running"


def test_stop_leaves_neither_process_nor_socket_and_may_be_repeated(running: SmallBox) -> None:
    running.supervisor.stop()
    running.supervisor.stop()
    assert host.box_processes(running.root) == ()
    assert list((running.root / "run").iterdir()) == []
    assert {status.state for status in running.supervisor.services()} == {"stopped"}
    assert host.port_is_free("127.0.0.1", running.port)


def test_services_that_outlived_their_supervisor_are_replaced(running: SmallBox) -> None:
    os.kill(running.daemon(), signal.SIGKILL)
    assert wait_until(lambda: running.states()["web"].state == "unsupervised")
    orphans = host.box_processes(running.root)
    assert len(orphans) == 3
    running.supervisor.apply()
    assert not any(host.still_is(orphan) for orphan in orphans)
    assert running.has_started(2, 2, 2)


def test_a_supervisor_that_hangs_is_replaced(
    running: SmallBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aibox.box.supervisor_client.ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr("aibox.box.supervisor.TERM_TIMEOUT_S", 1.0)
    daemon = running.daemon()
    os.kill(daemon, signal.SIGSTOP)
    running.supervisor.apply()
    assert running.daemon() != daemon
    assert running.has_started(2, 2, 2)


def test_processes_of_others_are_left_alone(running: SmallBox) -> None:
    stranger = subprocess.Popen(["sleep", "60"], cwd=running.root, start_new_session=True)
    os.kill(running.daemon(), signal.SIGKILL)
    running.supervisor.stop()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_port_held_by_a_stranger_is_told_with_its_holder(box: SmallBox) -> None:
    script = f"import socket; socket.create_server(('127.0.0.1', {box.port})); print(1, flush=True)"
    stranger = subprocess.Popen(
        [sys.executable, "-c", script.replace("socket.create", "server = socket.create")
         + "; input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert stranger.stdout is not None
    stranger.stdout.readline()
    with pytest.raises(Failed) as caught:
        box.supervisor.apply()
    stranger.communicate(b"\n")
    assert caught.value.reference == "port-taken"
    assert f"process {stranger.pid}" in caught.value.context
    assert box.starts("vectors") == []


def test_a_service_that_does_not_stay_up_is_named_and_tried_again_when_asked(
    box: SmallBox,
) -> None:
    (box.root / "data/ingest.dies").touch()
    with pytest.raises(Failed, match="ingest") as caught:
        box.supervisor.apply()
    assert caught.value.reference == "service-not-starting"
    assert "no document can be read" in caught.value.context
    (box.root / "data/ingest.dies").unlink()
    box.supervisor.apply()
    assert box.states()["ingest"].state == "running"


def test_logs_are_rotated_and_for_their_owner_alone(box: SmallBox) -> None:
    path = box.root / "current/config/supervisord.conf"
    text = path.read_text().replace("logfile_maxbytes = 10MB", "logfile_maxbytes = 4KB")
    path.write_text(text.replace('PYTHONUNBUFFERED="1"', 'LINES="20000"'))
    box.supervisor.apply()
    assert box.has_started(1, 1, 1)
    logs = sorted(log.name for log in (box.root / "logs").glob("web.log*"))
    assert logs == ["web.log", "web.log.1", "web.log.2", "web.log.3"]
    assert (box.root / "logs").stat().st_mode & 0o077 == 0


def test_neither_secrets_nor_proxies_nor_locks_reach_a_service(
    box: SmallBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_TOKEN", "HTTP_PROXY", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "leaked")
    with guard.hold(box.root):
        box.supervisor.apply()
    assert box.has_started(1, 1, 1)
    with guard.hold(box.root):
        found = json.loads((box.root / "data/web.environment").read_text())
    assert "leaked" not in found.values()
    assert {name for name in found if not name.startswith(("SUPERVISOR_", "PYTHON"))} <= {
        *("PATH", "HOME", "LANG", "TZ", "LC_CTYPE", host.MARK),
    }


def test_a_generation_that_does_not_say_what_to_run_needs_a_person(box: SmallBox) -> None:
    (box.root / "current/config/supervisord.conf").write_text("[supervisord]\n")
    with pytest.raises(NeedsPerson):
        read_settings(box.root)
    assert box.supervisor.services() == ()


def test_a_damaged_environment_is_built_again_before_the_start(
    box: SmallBox, environments: Path
) -> None:
    (box.root / "environments").unlink()
    damaged = box.root / "environments" / box.environment / environment.PACKAGES / "supervisor"
    shutil.copytree(environments, box.root / "environments", symlinks=True)
    (damaged / "supervisord.py").write_text("raise SystemExit")
    wheels = box.root / "current/tree/wheels"
    wheels.mkdir()
    shutil.copy(next(environments.parent.glob("*.whl")), wheels)
    box.supervisor.apply()
    assert box.has_started(1, 1, 1)


def test_restarts_count_from_the_last_start_on_purpose() -> None:
    def line(said: str) -> str:
        return f"2026-10-10 10:10:10,123 INFO {said}"

    log = [
        line("spawned: 'web' with pid 7"),
        line("supervisord started with pid 9"),
        line("spawned: 'vectors' with pid 10"),
        line("spawned: 'web' with pid 11"),
        line("exited: vectors (terminated by SIGKILL; not expected)"),
        line("spawned: 'vectors' with pid 12"),
        line("stopped: web (terminated by SIGTERM)"),
        line("spawned: 'web' with pid 13"),
    ]
    assert restarts(log) == {"vectors": 1, "web": 0}
