from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import jinja2
import pytest

TEMPLATE = Path(__file__).parents[3] / "stacks/process/aibox.service.j2"
AWKWARD = '/home/u/한글 폴더/50% "new"\\box'


def rendered(root: str = AWKWARD, launcher: str = "/bin/true") -> str:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    return environment.from_string(TEMPLATE.read_text()).render(root=root, launcher=launcher)


def test_characters_systemd_reads_are_escaped() -> None:
    line = next(line for line in rendered().splitlines() if line.startswith("Environment="))
    assert line == 'Environment="AIBOX_HOME=/home/u/한글 폴더/50%% \\"new\\"\\\\box"'


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit's text is not judged by systemd")
    launcher = tmp_path / "한글 폴더 50%" / "aibox"
    launcher.parent.mkdir()
    launcher.write_text("#!/bin/sh\n")
    launcher.chmod(0o755)
    path = tmp_path / "aibox.service"
    path.write_text(rendered(launcher=str(launcher)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(path)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    assert (done.returncode, [x for x in done.stderr.splitlines() if "aibox" in x]) == (0, [])
