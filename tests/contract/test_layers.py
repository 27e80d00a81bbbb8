"""The import contracts of .importlinter hold, and they bite when one is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
SOURCES = ("installer/aibox", "stacks/rag/app/src/rag_app")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str((root / source).parent) for source in SOURCES)
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for source in SOURCES:
        shutil.copytree(REPOSITORY / source, root / source, symlinks=True)
    shutil.copy2(REPOSITORY / ".importlinter", root)
    return root


def test_the_contracts_hold() -> None:
    result = lint(REPOSITORY)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("module", "sentence", "contract"),
    [
        ("installer/aibox/digest.py", "import aibox.plan", "Imports of the installer go down only"),
        ("installer/aibox/unplaced.py", "", "Imports of the installer go down only"),
        ("installer/aibox/plan.py", "import rich", "Only the command line knows how things look"),
        ("installer/aibox/plan.py", "import subprocess", "Only the edges start processes"),
        ("installer/aibox/health.py", "import http.client", "Only the edges speak to a network"),
        ("installer/aibox/plan.py", "import jinja2", "Only render knows Jinja"),
        ("installer/aibox/box/guard.py", "import ansible", "Ansible is started as a program"),
        ("installer/aibox/plan.py", "import rag_app", "do not know each other"),
        ("stacks/rag/app/src/rag_app/web/ask.py", "import qdrant_edge", "The web process never"),
    ],
)
def test_a_broken_contract_is_named(
    copy: Path, module: str, sentence: str, contract: str, request: pytest.FixtureRequest
) -> None:
    path = copy / module
    before = path.read_text(encoding="utf-8") if path.exists() else None
    path.write_text(f"{before or ''}\n{sentence}\n", encoding="utf-8")
    request.addfinalizer(
        lambda: path.unlink() if before is None else path.write_text(before, encoding="utf-8")
    )
    report = lint(copy).stdout
    assert any(contract in line and "BROKEN" in line for line in report.splitlines()), report
