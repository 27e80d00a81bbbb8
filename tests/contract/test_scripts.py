"""The shell scripts parse and can be started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
STARTED = ("aibox", "test", ".ci/run", "requirements/refresh")


@pytest.mark.parametrize("script", [*STARTED, "launcher/environment.sh"])
def test_it_parses(script: str) -> None:
    first = (REPOSITORY / script).read_text(encoding="utf-8").splitlines()[0]
    shell = "bash" if "bash" in first else "sh"
    subprocess.run([shell, "-n", REPOSITORY / script], check=True)


@pytest.mark.parametrize("script", STARTED)
def test_it_is_executable(script: str) -> None:
    assert os.access(REPOSITORY / script, os.X_OK)
