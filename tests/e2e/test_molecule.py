"""Every role, by its molecule scenario: checked on a virgin server, applied twice, proven, removed.

`tests/roles/README.md` says what a scenario is and how to run one by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import package_root, systemd_host
from .journey import REPOSITORY

WHY_NOT = package_root.why_not() or systemd_host.why_not()
SECONDS = 600
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(SECONDS + 60),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

PROJECT = REPOSITORY / "tests" / "roles"
SCENARIOS = sorted(path.parent.name for path in PROJECT.glob("molecule/*/molecule.yml"))
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module", autouse=True)
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with systemd_host.daemon(tmp_path_factory.mktemp("daemon")):
        yield


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_what_molecule_says_of(scenario: str, tmp_path: Path) -> None:
    try:
        done = molecule("test", scenario, tmp_path)
    except subprocess.TimeoutExpired as ended:
        molecule("destroy", scenario, tmp_path)
        pytest.fail(f"not done in {SECONDS} s:\n{(ended.stdout or b'').decode()}")
    assert done.returncode == 0, done.stdout


def molecule(subcommand: str, scenario: str, folder: Path) -> subprocess.CompletedProcess[str]:
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
        timeout=SECONDS,
        check=False,
    )
