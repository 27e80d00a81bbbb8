"""Roles keep what they promise: declared inputs, no addresses, full names, small files, no lint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from aibox import preflight, profile
from ansible_runs import PLAYBOOKS, ROLES, ROOT

ROLE_NAMES = sorted(path.name for path in ROLES.iterdir() if path.is_dir())
TASK_FILES = sorted(ROLES.glob("*/tasks/*.yml"))
TASKS_AT_MOST = 25
DEFAULT_LINES_AT_MOST = 100
NOT_A_MODULE = {
    *("name", "when", "register", "vars", "loop", "become", "delegate_to", "no_log"),
    *("changed_when", "failed_when", "check_mode", "block", "rescue", "always", "notify"),
    *("until", "retries", "delay", "async", "poll"),
}
ADDRESS = re.compile(r"https?://(?P<host>\[::1\]|[\w.-]+)")
# Loopback; names without a dot and `.example`, which no one can register; namespaces, which no one
# fetches.
ALLOWED_HOSTS = re.compile(
    r"127\.0\.0\.1|\[::1\]|[\w-]+|.*\.example|schemas\.openxmlformats\.org|www\.w3\.org"
)
TEXT = {".css", ".html", ".j2", ".js", ".md", ".py", ".svg", ".toml", ".txt", ".yml", ".yaml", ""}


def read(path: Path) -> object:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def specs(role: str) -> dict[str, dict[str, dict[str, object]]]:
    """Options of every entry point of a role."""
    declared = read(ROLES / role / "meta" / "argument_specs.yml")
    assert isinstance(declared, dict)
    return {name: spec["options"] for name, spec in declared["argument_specs"].items()}


def options(role: str) -> dict[str, bool]:
    """Every option of a role, and whether some entry point requires it."""
    merged: dict[str, bool] = {}
    for entry in specs(role).values():
        for name, option in entry.items():
            merged[name] = merged.get(name, False) or bool(option.get("required"))
    return merged


def plays(playbook: Path) -> list[dict[str, dict[str, str]]]:
    """The tasks of a playbook of one play."""
    (play,) = yaml.safe_load(playbook.read_text(encoding="utf-8"))
    listed: list[dict[str, dict[str, str]]] = play["tasks"]
    return listed


def tasks(path: Path) -> Iterator[dict[str, object]]:
    """Every task of a file, also those in blocks."""
    waiting = list(read(path) or [])  # type: ignore[call-overload]
    while waiting:
        task = waiting.pop()
        yield task
        for part in ("block", "rescue", "always"):
            waiting += task.get(part, [])


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_inputs_are_declared_and_have_a_default_or_are_required(role: str) -> None:
    declared, defaults = options(role), read(ROLES / role / "defaults" / "main.yml")
    assert isinstance(defaults, dict)
    required_somewhere = {name for name, required in declared.items() if required}
    assert set(declared) == required_somewhere | defaults.keys()
    assert all(name.startswith(f"{role}_") for name in declared)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_constants_are_marked_as_the_roles_own(role: str) -> None:
    constants = read(ROLES / role / "vars" / "main.yml")
    assert isinstance(constants, dict)
    assert all(name.startswith(f"__{role}_") for name in constants)


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_entry_point_is_a_task_file_and_the_others_are_included(role: str) -> None:
    files = {path.stem for path in (ROLES / role / "tasks").glob("*.yml")}
    included = {
        str(value).removesuffix(".yml")
        for path in (ROLES / role / "tasks").glob("*.yml")
        for task in tasks(path)
        for key, value in task.items()
        if key in ("ansible.builtin.include_tasks", "ansible.builtin.import_tasks")
    }
    assert files == specs(role).keys() | included
    assert "main" not in files


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_role_is_played_on_a_server_of_its_own(role: str) -> None:
    scenario = ROOT / "tests" / "roles" / "molecule" / role
    assert (scenario / "molecule.yml").is_file()
    played = (scenario / "converge.yml").read_text() + "".join(
        path.read_text() for path in (scenario / "tasks").glob("*.yml")
    )
    assert f"name: {role}\n" in played


@pytest.mark.parametrize("playbook", sorted(PLAYBOOKS.glob("*.yml")), ids=lambda path: path.stem)
def test_a_playbook_names_an_entry_point_that_is_there(playbook: Path) -> None:
    for task in plays(playbook):
        used = task.get("ansible.builtin.import_role") or task["ansible.builtin.include_role"]
        assert used["tasks_from"] in specs(used["name"])


def test_what_the_pipeline_tells_preflight_is_what_the_role_takes(tmp_path: Path) -> None:
    requires = profile.load(ROOT / "stacks" / "profiles", "local").requires
    told = preflight.variables(requires, root=tmp_path, report=tmp_path / "report.json")
    assert_taken(told, specs("preflight")["judge"])


def test_what_the_pipeline_tells_preflight_of_a_server_is_what_the_role_takes(
    tmp_path: Path,
) -> None:
    made = profile.load(ROOT / "stacks" / "profiles", "cpu")
    needs = preflight.ServerNeeds(distributions=("debian 13",))
    told = preflight.server_variables(made.requires, needs, root=tmp_path, report=tmp_path / "r")
    assert_taken(told, specs("preflight")["judge_server"])


def assert_taken(told: Mapping[str, object], declared: Mapping[str, dict[str, object]]) -> None:
    assert told.keys() <= declared.keys()
    required = {name for name, option in declared.items() if option.get("required")}
    assert required <= told.keys()


def test_every_requirement_of_a_profile_reaches_the_role(tmp_path: Path) -> None:
    told = preflight.variables(
        profile.load(ROOT / "stacks" / "profiles", "local").requires,
        root=tmp_path,
        report=tmp_path,
    )
    assert {f"preflight_{name}" for name in profile.Requires.model_fields} <= told.keys()


@pytest.mark.parametrize("path", TASK_FILES, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_modules_have_their_full_names_and_files_are_short(path: Path) -> None:
    own = {module.stem for module in (path.parents[1] / "library").glob("*.py")}
    found = list(tasks(path))
    assert 0 < len(found) <= TASKS_AT_MOST
    for task in found:
        for module in task.keys() - NOT_A_MODULE:
            assert module.startswith("ansible.builtin.") or module in own


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_role_is_documented_and_its_defaults_are_few(role: str) -> None:
    assert (ROLES / role / "README.md").is_file()
    assert (ROLES / role / "meta" / "main.yml").is_file()
    lines = (ROLES / role / "defaults" / "main.yml").read_text().splitlines()
    assert len(lines) <= DEFAULT_LINES_AT_MOST


def strange_hosts(text: str) -> list[str]:
    """Hosts of the addresses in `text` that are neither loopback nor mere names."""
    hosts = (match["host"] for match in ADDRESS.finditer(text))
    return [host for host in hosts if not ALLOWED_HOSTS.fullmatch(host)]


def test_nothing_on_a_box_names_an_address_to_fetch_from() -> None:
    found = {
        str(path.relative_to(ROOT)): strange
        for folder in ("roles", "playbooks", "stacks")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in TEXT and not hidden(path.relative_to(ROOT))
        if (strange := strange_hosts(path.read_text(encoding="utf-8", errors="replace")))
    }
    assert found == {}


def hidden(path: Path) -> bool:
    """Caches, builds and the application's tests: nothing of them ever reaches a box."""
    unshipped = {"__pycache__", "tests"}
    return any(part.startswith(".") or part in unshipped for part in path.parts)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("see https://hub.company.io/model", ["hub.company.io"]),
        ("http://127.0.0.1:8642/ and http://localhost and http://[::1]:1", []),
        ("http://{{ host }}:{{ port }}", []),
        ("http://127.0.0.1.evil.io/", ["127.0.0.1.evil.io"]),
    ],
)
def test_an_address_is_recognised(text: str, hosts: list[str]) -> None:
    assert strange_hosts(text) == hosts


def test_the_events_of_the_pinned_ansible_are_recorded() -> None:
    assert (ROOT / "tests" / "assets" / f"ansible_events_{version('ansible-core')}.jsonl").is_file()


@pytest.mark.e2e  # it reads every role for half a minute: too long for ./test
def test_ansible_lint_finds_nothing_and_needs_no_network(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
    }
    lint = subprocess.run(
        [programs / "ansible-lint", "--nocolor", "playbooks", "roles"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
    assert "Profile 'production' was required, and it passed" in lint.stdout + lint.stderr
