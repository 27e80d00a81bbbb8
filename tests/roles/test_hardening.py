"""The role hardening: it tells everything, and changes what it is allowed to and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from aibox.preflight import Finding, Status, read_report
from ansible_runs import Runs

ROLE = """\
    - name: Hardening
      ansible.builtin.import_role:
        name: hardening
        tasks_from: create
"""
CHECKS = {
    "kernel settings",
    "core dumps",
    "log-in with passwords",
    "files anybody may write",
    "audit daemon",
    "time service",
}
# A double of what the role measures, of a host that is wide open.
OPEN = {
    "settings": {"kernel.kptr_restrict": "0", "kernel.core_pattern": "core"},
    "world_writable": [],
    "ssh": "passwords",
    "ssh_keys": False,
    "audit": "",
    "time": "",
}


def tell(runs: Runs, *, check: bool = False, **given: object) -> dict[str, Finding]:
    report = runs.folder / "report.json"
    runs.play(
        runs.tasks(ROLE),
        {"hardening_root": runs.folder / "box", "hardening_report": report, **given},
        check=check,
    )
    return {finding.check: finding for finding in read_report(report)}


def test_the_door_for_passwords_stays_open_where_nobody_has_a_key(runs: Runs) -> None:
    asked = ["ssh_passwords", "sysctl", "core_dumps"]
    findings = tell(runs, check=True, hardening_apply=asked, __hardening_found=OPEN)
    assert findings["log-in with passwords"].status is Status.WARN
    assert findings["log-in with passwords"].found.endswith("nobody has a key")
    assert findings["kernel settings"].found == "put right: kernel.kptr_restrict"
    assert findings["core dumps"].found == "put right: kernel.core_pattern"
    assert findings["audit daemon"].status is findings["time service"].status is Status.WARN
    assert any("Write the setting of sshd" in task for task in runs.results("skipped"))


@pytest.fixture(scope="module")
def kernel_settings(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("hardening/kernel_settings")


@pytest.fixture(scope="module")
def hardening_info(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("hardening/hardening_info")


GOOD = {"a.weak": ["1", "2"], "a.strict": ["1", "2"], "a.missing": ["1"]}
VALUES = {"a.weak": "0", "a.strict": "2", "a.missing": None}


def test_a_file_has_what_was_weak_and_remembers_it(kernel_settings: ModuleType) -> None:
    text, told = kernel_settings.plan(GOOD, "", VALUES)
    assert told == {"a.weak": "1"}
    assert kernel_settings.kept(text) == ({"a.weak": "0"}, {"a.weak": "1"})
    # Afterwards nothing is to be done, and what was before is not forgotten.
    assert kernel_settings.plan(GOOD, text, {**VALUES, "a.weak": "1"}) == (text, {})


def test_a_value_that_somebody_changed_back_is_told_to_the_kernel_again(
    kernel_settings: ModuleType,
) -> None:
    text, _ = kernel_settings.plan(GOOD, "", VALUES)
    assert kernel_settings.plan(GOOD, text, VALUES) == (text, {"a.weak": "1"})


def test_a_setting_that_is_no_longer_wanted_leaves_the_file(kernel_settings: ModuleType) -> None:
    text, _ = kernel_settings.plan(GOOD, "", VALUES)
    assert kernel_settings.plan({}, text, {}) == ("", {})


def test_the_kernel_is_told_and_told_back(kernel_settings: ModuleType, tmp_path: Path) -> None:
    kernel, path = tmp_path / "sys", tmp_path / "60-aibox.conf"
    (kernel / "a").mkdir(parents=True)
    (kernel / "a" / "weak").write_text("0\n")
    text, told = kernel_settings.plan(GOOD, "", VALUES)
    kernel_settings.write(path, "", text)
    kernel_settings.tell(kernel, told)
    assert kernel_settings.value(kernel, "a.weak") == "1"
    assert path.stat().st_mode & 0o777 == 0o644
    kernel_settings.tell(kernel, kernel_settings.kept(path.read_text())[0])
    kernel_settings.write(path, text, "")
    assert (kernel_settings.value(kernel, "a.weak"), path.exists()) == ("0", False)
    assert kernel_settings.value(kernel, "a.missing") is None


def test_what_anybody_may_write_is_found_but_not_links_and_sticky_folders(
    hardening_info: ModuleType, tmp_path: Path
) -> None:
    for name, mode in (("loose", 0o777), ("sticky", 0o1777), ("closed", 0o755)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed" / "file").touch()
    (tmp_path / "closed" / "file").chmod(0o602)
    (tmp_path / "link").symlink_to(tmp_path / "closed")
    found = set(hardening_info.world_writable(tmp_path))
    assert found == {str(tmp_path / "loose"), str(tmp_path / "closed" / "file")}


@pytest.mark.parametrize(
    ("said", "passwords"),
    [
        ("passwordauthentication yes\n", True),
        ("passwordauthentication no\nkbdinteractiveauthentication yes\n", True),
        ("passwordauthentication no\nkbdinteractiveauthentication no\n", False),
        ("# passwordauthentication yes\n", False),
    ],
)
def test_how_people_get_in_is_read_from_what_sshd_says(
    hardening_info: ModuleType, said: str, passwords: bool
) -> None:
    assert bool(hardening_info.PASSWORDS.search(said)) is passwords


def test_keys_of_root_and_of_users_count_unless_they_are_empty(
    hardening_info: ModuleType, tmp_path: Path
) -> None:
    keys = tmp_path / "home" / "ann" / ".ssh" / "authorized_keys"
    keys.parent.mkdir(parents=True)
    keys.touch()
    assert not hardening_info.has_keys(tmp_path)
    keys.write_text("ssh-ed25519 AAAA ann\n")
    assert hardening_info.has_keys(tmp_path)


def test_settings_that_the_kernel_lacks_are_left_out(
    hardening_info: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("7\n")
    assert hardening_info.settings(["a.b", "a.c"], tmp_path) == {"a.b": "7"}
