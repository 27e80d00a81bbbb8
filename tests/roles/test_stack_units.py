"""The role stack_units, run for real into a temporary folder; systemd is a double there.

The rendered units themselves are read by the real `systemd-analyze verify`. What they do with a
real systemd is proven on a server: its scenario (README.md).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from aibox.render import render_system_units
from ansible_runs import ROOT, Runs

STACKS = ROOT / "stacks"
ROLE = """\
    - name: Units
      ansible.builtin.import_role:
        name: stack_units
        tasks_from: {entry}
"""
# A double of systemctl: it notes what it is told, and two services run until they are stopped.
SYSTEMCTL = """\
#!/bin/sh
echo "$*" >> '{state}/calls'
case "$1" in
    show) echo LoadState=loaded; echo ActiveState=inactive ;;
    is-enabled) [ -e "{units}/multi-user.target.wants/$2" ] || {{ echo disabled; exit 1; }}
        echo enabled ;;
    enable) mkdir -p '{units}/multi-user.target.wants'
        ln -sf "{units}/$2" '{units}/multi-user.target.wants/' ;;
    list-units) [ ! -e '{state}/running' ] || echo 'aibox@chat.service loaded active running' ;;
    stop) case "$2" in
        aibox@*) rm -f '{state}/running' ;;
        *) [ -e '{state}/active' ] || exit 5; rm -f '{state}/active' ;; esac ;;
esac
"""


def templates() -> dict[str, bytes]:
    return {
        str(path.relative_to(STACKS)): path.read_bytes()
        for path in (STACKS / "container").glob("*.j2")
    }


def rendered(root: Path, folder: Path) -> Path:
    """A folder with the units of the box at `root`."""
    folder.mkdir()
    for name, text in render_system_units(templates(), str(root)).items():
        (folder / name).write_bytes(text)
    return folder


@dataclass(frozen=True)
class Host:
    """Where the double keeps its state, and where the units belong."""

    state: Path
    units: Path

    def calls(self) -> list[str]:
        noted = self.state / "calls"
        return noted.read_text().splitlines() if noted.exists() else []

    def left(self) -> list[str]:
        return sorted(path.name for path in self.units.rglob("*") if not path.is_dir())


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(runs.folder / "systemd", runs.folder / "units")
    made.state.mkdir()
    made.units.mkdir()
    program = made.state / "systemctl"
    program.write_text(SYSTEMCTL.format(state=made.state, units=made.units))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.state}:{os.environ['PATH']}")
    return made


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_units_go_where_no_systemd_runs(runs: Runs, host: Host) -> None:
    source = rendered(runs.folder / "box", runs.folder / "rendered")
    runs.play(
        runs.tasks(ROLE.format(entry="create")),
        {"stack_units_source": source, "stack_units_destination": host.units},
    )
    (host.state / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    runs.play(runs.tasks(ROLE.format(entry="remove")), {"stack_units_destination": host.units})
    assert host.left() == []


ANALYZE = shutil.which("systemd-analyze")


@pytest.mark.skipif(ANALYZE is None, reason="no systemd-analyze")
@pytest.mark.parametrize("name", ["box", "내 box 100% $HOME"])
def test_systemd_understands_every_unit_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    root = tmp_path / name
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "aibox").write_text("#!/bin/sh\n")
    (root / "bin" / "aibox").chmod(0o755)
    units = rendered(root, tmp_path / "units")
    (units / "docker.service").write_text("[Service]\nExecStart=/bin/true\n")
    # This machine need not have Docker: its program is replaced by one that is there.
    service = units / "aibox@.service"
    service.write_text(service.read_text().replace("/usr/bin/docker", "/bin/true"))
    (units / "aibox@chat.service").symlink_to("aibox@.service")
    wanted = ["aibox.service", "aibox@chat.service", "aibox-resume.service"]
    done = subprocess.run(
        [str(ANALYZE), "verify", *(str(units / unit) for unit in wanted)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{units}:"},
    )
    complaints = [line for line in done.stderr.splitlines() if "aibox" in line]
    assert (done.returncode, complaints) == (0, [])


def test_a_unit_that_systemd_does_not_understand_would_be_found(tmp_path: Path) -> None:
    if ANALYZE is None:
        pytest.skip("no systemd-analyze")
    (tmp_path / "aibox.service").write_text("[Service]\nExecStart=no/such/path\n")
    done = subprocess.run([ANALYZE, "verify", str(tmp_path / "aibox.service")], check=False)
    assert done.returncode != 0


def test_a_service_unit_names_the_instance_and_the_file_that_current_leads_to() -> None:
    unit = render_system_units(templates(), "/var/lib/aibox")["aibox@.service"].decode()
    assert (
        'compose --project-name aibox --file "/var/lib/aibox/current/config/compose.yaml"' in unit
    )
    (start,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert start.endswith(" up --no-build --pull never --no-deps --no-log-prefix %i")
    assert "[Install]" not in unit


def test_a_unit_that_cannot_be_written_leaves_the_old_one(
    load_module: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load_module("stack_units/unit_files")
    unit = tmp_path / "x.service"
    module.write(unit, "old")
    assert module.is_as_wanted(unit, "old")
    assert unit.stat().st_mode & 0o777 == 0o644

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        module.write(unit, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.service"]
    assert module.is_as_wanted(unit, "old")


def test_a_link_or_another_mode_is_not_the_file_that_is_wanted(
    load_module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    module = load_module("stack_units/unit_files")
    module.write(tmp_path / "file", "text")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert not module.is_as_wanted(tmp_path / "link", "text")
    (tmp_path / "file").chmod(0o600)
    assert not module.is_as_wanted(tmp_path / "file", "text")
