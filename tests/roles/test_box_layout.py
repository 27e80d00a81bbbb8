"""The role box_layout, run for real in a temporary folder; systemd is a double."""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import yaml  # type: ignore[import-untyped]

from aibox.box.layout import Layout
from aibox.errors import Failed
from aibox.preflight import Status, read_report
from ansible_runs import PLAYBOOKS, ROLES, Runs

PROVISION = PLAYBOOKS / "provision.yml"
REMOVE = PLAYBOOKS / "remove.yml"


@dataclass(frozen=True)
class Unit:
    """A rendered unit, where it belongs, and where the role reports about it."""

    source: Path
    destination: Path
    report: Path


def unit_of(runs: Runs) -> Unit:
    source = runs.folder / "rendered"
    source.write_text("[Service]\nExecStart=/bin/true {{ 1 + 1 }}\n")
    destination = runs.folder / "home" / ".config" / "systemd" / "user" / "aibox.service"
    return Unit(source, destination, runs.folder / "unit.json")


def variables(root: Path, unit: Unit | None = None) -> dict[str, object]:
    folders: dict[str, object] = {"box_layout_root": root}
    if unit is None:
        return folders
    return {
        **folders,
        "box_layout_unit_source": unit.source,
        "box_layout_unit_destination": unit.destination,
        "box_layout_report": unit.report,
    }


def removal_variables(unit: Unit) -> dict[str, object]:
    return {"box_layout_unit_destination": unit.destination}


def units_left(unit: Unit) -> list[Path]:
    """The unit and the links to it, also those that lead nowhere."""
    return [path for path in unit.destination.parent.rglob("*") if not path.is_dir()]


def modes(root: Path) -> dict[str, int]:
    """The mode of every folder below `root`, itself included."""
    return {
        str(Path(folder).relative_to(root)): Path(folder).stat().st_mode & 0o7777
        for folder, _, _ in os.walk(root)
    }


def test_check_mode_on_a_virgin_host_announces_and_makes_nothing(runs: Runs) -> None:
    root = runs.folder / "new" / "box"
    assert runs.play(PROVISION, variables(root), check=True).changed == 1
    assert not root.parent.exists()


def test_every_folder_is_made_once_and_private(runs: Runs) -> None:
    root = runs.folder / "새 상자 100% {{ 1 + 1 }}"
    assert runs.play(PROVISION, variables(root)).changed == 1
    assert set(modes(root).values()) == {0o700}
    assert {path for path in Layout(root).directories() if not path.is_dir()} == set()
    assert {"data/rag", "environments", "logs", "runs", "trust"} <= modes(root).keys()
    assert runs.play(PROVISION, variables(root)).changed == 0


def test_a_mode_that_was_changed_is_repaired_and_content_is_kept(runs: Runs) -> None:
    root = runs.folder / "box"
    runs.play(PROVISION, variables(root))
    document = root / "data" / "rag" / "document.txt"
    document.write_text("kept")
    (root / "data").chmod(0o755)
    assert runs.play(PROVISION, variables(root)).changed == 1
    assert modes(root)["data"] == 0o700
    assert document.read_text() == "kept"


def test_a_file_where_a_folder_belongs_is_named(runs: Runs) -> None:
    root = runs.folder / "box"
    root.mkdir()
    (root / "gens").touch()
    with pytest.raises(Failed, match="gens is not a folder"):
        runs.play(PROVISION, variables(root))
    assert [path.name for path in root.iterdir()] == ["gens"]


@pytest.fixture(scope="module")
def box_folders(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("box_layout/box_folders")


def test_a_link_below_the_root_is_refused_and_at_the_root_followed(
    box_folders: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    root, inner = tmp_path / "box", tmp_path / "box" / "data"
    root.symlink_to(tmp_path / "disk")
    wanted = [box_folders.Folder(root, 0o700), box_folders.Folder(inner, 0o700)]
    assert box_folders.differences(root, wanted).made == wanted[1:]
    inner.symlink_to(tmp_path)
    with pytest.raises(box_folders.Obstructed, match="data"):
        box_folders.differences(root, wanted)


def test_a_folder_that_became_a_link_since_it_was_looked_at_is_not_followed(
    box_folders: ModuleType, tmp_path: Path
) -> None:
    victim, root = tmp_path / "victim", tmp_path / "box"
    victim.mkdir(mode=0o755)
    root.mkdir(mode=0o700)
    (root / "data").symlink_to(victim)
    changes = box_folders.Changes(repaired=[box_folders.Folder(root / "data", 0o700)])
    with pytest.raises(OSError, match="data"):
        box_folders.apply(root, changes)
    assert victim.stat().st_mode & 0o777 == 0o755


def test_a_narrow_umask_takes_nothing_from_the_mode(
    box_folders: ModuleType, tmp_path: Path
) -> None:
    root = tmp_path / "above" / "box"
    folders = [box_folders.Folder(root, 0o711), box_folders.Folder(root / "a", 0o755)]
    before = os.umask(0o777)
    try:
        box_folders.apply(root, box_folders.Changes(made=folders))
    finally:
        assert os.umask(before) == 0o777
    assert {path: mode & 0o777 for path, mode in modes(root).items()} == {".": 0o711, "a": 0o755}


def test_the_server_has_open_ways_and_private_rooms(
    box_folders: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = (os.geteuid(), tmp_path.stat().st_gid)
    monkeypatch.setattr(box_folders, "owner_named", lambda name, may_be_missing: name and mine)
    constants = yaml.safe_load((ROLES / "box_layout" / "vars" / "main.yml").read_text())
    services = [
        {"path": path, "mode": "0700", "owner": "somebody"} for path in ("data/rag", "cache/a/chat")
    ]
    opened = [{**one, "owner": None} for one in constants["__box_layout_system_open"]]
    given = {
        "root": str(tmp_path / "box"),
        "mode": constants["__box_layout_folder_mode"],
        "folders": constants["__box_layout_system_folders"],
        "owned": [*opened, *services],
    }
    root = tmp_path / "box"
    folders = box_folders.wanted(given, may_be_missing=False)
    box_folders.apply(root, box_folders.differences(root, folders))
    found = {path: mode & 0o777 for path, mode in modes(root).items()}
    assert {path for path in Layout(root).directories() if not path.is_dir()} == set()
    open_ways = {".", "data", "gens", "run", "cache", "cache/a"}
    assert {path for path, mode in found.items() if mode == 0o711} == open_ways
    assert {path for path, mode in found.items() if mode == 0o755} == {"bin"}
    assert {"secrets", "tls", "data/rag"} <= {p for p, mode in found.items() if mode == 0o700}
    assert box_folders.differences(root, folders) == box_folders.Changes()


def test_a_user_who_is_missing_is_named_and_only_awaited_in_check_mode(
    box_folders: ModuleType,
) -> None:
    assert box_folders.owner_named("no-such-user", may_be_missing=True) == box_folders.NOBODY_YET
    with pytest.raises(box_folders.Obstructed, match="no-such-user"):
        box_folders.owner_named("no-such-user", may_be_missing=False)


@pytest.fixture(scope="module")
def box_users(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("box_layout/box_users")


MARK = "aibox service"


def passwd(uid: int, comment: str = MARK, shell: str = "/usr/sbin/nologin") -> pwd.struct_passwd:
    return pwd.struct_passwd(("web", "x", uid, uid, comment, "/nonexistent", shell))


def group(gid: int) -> grp.struct_group:
    return grp.struct_group(("web", "x", gid, []))


@pytest.mark.parametrize(
    ("user", "own", "uid", "programs"),
    [
        (None, None, None, ["groupadd --system web", "useradd --system"]),
        (None, None, 70001, ["groupadd --system --gid 70001 web", "useradd --system"]),
        (None, group(5), None, ["useradd --system"]),
        (passwd(998), group(998), None, []),
        (passwd(70001), group(70001), 70001, []),
        (passwd(998), group(998), 70001, ["groupmod --gid 70001 web", "usermod --shell"]),
        (passwd(998, shell="/bin/sh"), group(998), None, ["usermod --shell /usr/sbin/nologin"]),
    ],
)
def test_a_user_is_made_or_changed_only_as_far_as_he_differs(
    box_users: ModuleType,
    user: pwd.struct_passwd | None,
    own: grp.struct_group | None,
    uid: int | None,
    programs: list[str],
) -> None:
    found = box_users.Found(user, own)
    commands = [" ".join(step) for step in box_users.to_make("web", uid, MARK, found)]
    assert len(commands) == len(programs)
    assert all(map(str.startswith, commands, programs))


def test_only_users_with_the_mark_are_removed(box_users: ModuleType) -> None:
    ours = box_users.Found(passwd(70001), group(70001))
    theirs = box_users.Found(passwd(1000, comment="Ann"), group(1000))
    assert box_users.to_remove("web", ours, MARK) == [["userdel", "web"], ["groupdel", "web"]]
    assert box_users.to_remove("web", theirs, MARK) == []
    assert box_users.to_remove("web", box_users.Found(None, group(1)), MARK) == []
    assert (box_users.is_foreign(ours, MARK), box_users.is_foreign(theirs, MARK)) == (False, True)


CREATE_SYSTEM = """\
    - name: Layout
      ansible.builtin.import_role:
        name: box_layout
        tasks_from: create_system
"""


def test_a_server_in_check_mode_is_announced_and_not_made(runs: Runs) -> None:
    root = runs.folder / "var" / "box"
    given = {
        "box_layout_root": root,
        "box_layout_users": [{"name": "aibox-no-such", "uid": 70099}],
        "box_layout_service_folders": [{"path": "data/rag", "owner": "aibox-no-such"}],
    }
    stats = runs.play(runs.tasks(CREATE_SYSTEM), given, check=True)
    assert stats.changed == 2
    assert not root.parent.exists()


def test_a_user_of_the_same_name_that_is_somebody_elses_is_refused(runs: Runs) -> None:
    given = {"box_layout_root": runs.folder / "box", "box_layout_users": [{"name": "root"}]}
    with pytest.raises(Failed, match=r"already has a user .*: root; .*usermod"):
        runs.play(runs.tasks(CREATE_SYSTEM), given, check=True)


# A double of `systemctl --user`: a unit is known when its file is there, enabled when noted so.
SYSTEMCTL = """\
#!/bin/sh
echo "systemctl $*" >> '{state}/calls'
[ "$1" = --user ] && shift
unit='{units}/aibox.service'
case "$1" in
    show-environment) echo HOME=/ ;;
    daemon-reload) ;;
    show)
        [ -e "$unit" ] || {{ echo LoadState=not-found; exit 0; }}
        echo LoadState=loaded; echo ActiveState=inactive ;;
    is-enabled) [ -e '{state}/enabled' ] && echo enabled || {{ echo disabled; exit 1; }} ;;
    enable)
        touch '{state}/enabled'
        mkdir -p '{units}/default.target.wants'
        ln -sf "$unit" '{units}/default.target.wants/' ;;
    stop) [ -e '{state}/active' ] || exit 5; rm -f '{state}/active' ;;
    *) exit 1 ;;
esac
"""
LOGINCTL = "#!/bin/sh\nexit {status}\n"


@dataclass(frozen=True)
class Systemd:
    """The double's folder of state, and the unit that is to be installed."""

    state: Path
    unit: Unit

    def enabled(self) -> bool:
        return (self.state / "enabled").exists()

    def active(self) -> bool:
        return (self.state / "active").exists()

    def calls(self) -> list[str]:
        return (self.state / "calls").read_text().splitlines()


@pytest.fixture
def systemd(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Systemd:
    state, unit = runs.folder / "systemd", unit_of(runs)
    state.mkdir()
    program(state / "systemctl", SYSTEMCTL.format(state=state, units=unit.destination.parent))
    program(state / "loginctl", LOGINCTL.format(status=1))
    monkeypatch.setenv("PATH", f"{state}:{os.environ['PATH']}")
    return Systemd(state, unit)


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.e2e  # Ansible plays it three times and more: too long for ./test
def test_the_unit_is_installed_enabled_left_alone_and_taken_away(
    runs: Runs, systemd: Systemd
) -> None:
    root, unit = runs.folder / "box", systemd.unit
    given = variables(root, unit)
    runs.play(PROVISION, given, check=True)
    assert not unit.destination.exists()
    runs.play(PROVISION, given)
    assert unit.destination.read_text() == unit.source.read_text()
    assert systemd.enabled()
    assert runs.play(PROVISION, given).changed == 0
    (systemd.state / "active").touch()
    runs.play(REMOVE, removal_variables(unit))
    assert units_left(unit) == []
    assert not systemd.active()
    assert systemd.calls()[-2:] == [
        "systemctl --user daemon-reload",
        "systemctl --user stop aibox.service",
    ]
    assert (root / "data" / "rag").is_dir()
    assert runs.play(REMOVE, removal_variables(unit)).changed == 0


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_a_unit_that_does_not_run_is_taken_away_too(runs: Runs, systemd: Systemd) -> None:
    runs.play(PROVISION, variables(runs.folder / "box", systemd.unit))
    assert runs.play(REMOVE, removal_variables(systemd.unit)).changed == 1
    assert units_left(systemd.unit) == []


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_without_a_manager_nothing_is_left_that_would_enable_the_unit(
    runs: Runs, systemd: Systemd
) -> None:
    runs.play(PROVISION, variables(runs.folder / "box", systemd.unit))
    program(systemd.state / "systemctl", "#!/bin/sh\nexit 1\n")
    runs.play(REMOVE, removal_variables(systemd.unit))
    assert units_left(systemd.unit) == []


def test_a_user_who_may_not_linger_is_told_what_to_type(runs: Runs, systemd: Systemd) -> None:
    runs.play(PROVISION, variables(runs.folder / "box", systemd.unit))
    (finding,) = read_report(systemd.unit.report)
    assert finding.status is Status.WARN
    assert "loginctl enable-linger" in finding.fix


@pytest.mark.parametrize(
    ("systemd_runs", "typed"), [(False, "./aibox start"), (True, "./aibox install")]
)
def test_without_a_manager_nothing_is_installed_and_the_report_says_what_to_type(
    runs: Runs, systemd_runs: bool, typed: str
) -> None:
    unit = unit_of(runs)
    host = {"__box_layout_systemd_runs": systemd_runs}
    runs.play(PROVISION, {**variables(runs.folder / "box", unit), **host})
    (finding,) = read_report(unit.report)
    assert finding.status is Status.WARN
    assert finding.fix.endswith(typed)
    assert ("loginctl enable-linger" in finding.fix) is systemd_runs
    assert not unit.destination.parent.exists()
