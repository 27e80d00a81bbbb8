"""Every role, by its molecule scenario: checked on a virgin server, applied twice, proven, removed.

`tests/roles/README.md` says what a scenario is and how to run one by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from . import package_root, systemd_host
from .journey import REPOSITORY

WHY_NOT = package_root.why_not() or systemd_host.why_not()
SECONDS = 900
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

PROJECT = REPOSITORY / "tests" / "roles"
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
PROGRAMS = Path(sys.executable).parent
Played = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def played(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Played]]]:
    """The chosen scenarios, two at a time: most of each is waiting for one process to start."""
    chosen = [
        item.callspec.params["scenario"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_what_molecule_says_of"
    ]
    with (
        systemd_host.daemon(tmp_path_factory.mktemp("daemon")),
        ThreadPoolExecutor(max_workers=2) as pool,
    ):
        try:
            yield {name: pool.submit(play, name, tmp_path_factory.mktemp(name)) for name in chosen}
        finally:
            pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_molecule_says_of(scenario: str, played: dict[str, Future[Played]]) -> None:
    done = played[scenario].result()
    assert done.returncode == 0, done.stdout


def play(scenario: str, folder: Path) -> Played:
    """Go through the steps of a scenario, and leave no server behind."""
    try:
        return molecule("test", scenario, folder, SECONDS)
    except subprocess.TimeoutExpired as ended:
        molecule("destroy", scenario, folder, SECONDS)
        said = (ended.stdout or b"").decode(errors="replace")
        return subprocess.CompletedProcess(ended.cmd, 1, f"{said}\nnot done in {SECONDS} s")


def test_scenarios_have_no_lint(tmp_path: Path) -> None:
    # They lie below a folder of the name of Ansible's, and are no role for that.
    passed = ("--skip-list", "var-naming[no-role-prefix],role-argument-spec")
    lint = subprocess.run(
        [PROGRAMS / "ansible-lint", "--nocolor", *passed, "tests/roles/molecule"],
        cwd=REPOSITORY,
        env={
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert lint.returncode == 0, lint.stdout + lint.stderr
    assert "Profile 'production' was required, and it passed" in lint.stdout + lint.stderr


def molecule(subcommand: str, scenario: str, folder: Path, seconds: int) -> Played:
    """What molecule says, without colours and with nothing of this user's own settings."""
    words = ["--base-config", "molecule/base.yml", subcommand, "--scenario-name", scenario]
    return subprocess.run(
        [PROGRAMS / "molecule", *words],
        cwd=PROJECT,
        env={
            "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "NO_COLOR": "1",
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_COMMAND_BORDERS": "false",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(folder / "run"),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
