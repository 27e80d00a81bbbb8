"""A checkout in miniature: the real launcher, a small lock, a double of the command line."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND_LINE_DOUBLE = """
import json, os, sys, tiny
print(json.dumps({"arguments": sys.argv[1:], "folder": os.getcwd(), "python": sys.executable}))
sys.exit(7)
"""


@dataclass(frozen=True)
class Checkout:
    """A folder that holds a copy of the launcher, and the surroundings it is started in."""

    root: Path
    surroundings: dict[str, str]

    @property
    def program(self) -> Path:
        return self.root / "aibox"

    @property
    def environment(self) -> Path:
        return self.root / ".venv"

    @property
    def lock(self) -> Path:
        return self.root / "requirements" / "cli.lock"

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """Start the launcher as the leader of a process group of its own."""
        return subprocess.Popen(
            [self.program, *arguments],
            env={**self.surroundings, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=100)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def make_checkout(root: Path, wheels: Path) -> Checkout:
    for part in ("aibox", "launcher"):
        (shutil.copytree if (REPOSITORY / part).is_dir() else shutil.copy2)(
            REPOSITORY / part, root / part
        )
    package = root / "installer" / "aibox"
    package.mkdir(parents=True)
    (package / "__main__.py").write_text(COMMAND_LINE_DOUBLE, encoding="utf-8")
    (root / "requirements").mkdir()
    digest = hashlib.sha256(make_wheel(wheels).read_bytes()).hexdigest()
    checkout = Checkout(root, surroundings(wheels))
    checkout.lock.write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    return checkout


def surroundings(wheels: Path) -> dict[str, str]:
    """Without the pip settings of this machine; packages come from one folder, no index."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    pip = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_FIND_LINKS": str(wheels),
    }
    return {**kept, **pip}


def make_wheel(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr(
            "tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
        )
        wheel.writestr(
            "tiny-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """One where nothing has been made yet, in a path with spaces and Korean."""
    root = tmp_path / "내 상자 (copy)"
    root.mkdir()
    return make_checkout(root, tmp_path / "wheels")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One that was started once before; shared, so tests leave it as it is."""
    base = tmp_path_factory.mktemp("ready")
    root = base / "내 상자 (copy)"
    root.mkdir()
    checkout = make_checkout(root, base / "wheels")
    first = checkout.run()
    assert first.returncode == 7, first.stderr
    return checkout
