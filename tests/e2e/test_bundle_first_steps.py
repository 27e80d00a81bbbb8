"""A bundle of this checkout on a machine without a network: the real program and its real packages.

What starts it is an ordinary user in a network namespace of its own, in which not even loopback is
up; the bundle belongs to root and cannot be written to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import pytest

from aibox import content
from aibox.bundle.build.checkout import program_files
from bundle_doubles import write_bundle

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

REPOSITORY = Path(__file__).parents[2]
NOBODY = 65534
LATER_START_SECONDS = 0.6
HOST_PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Visitor:
    """Somebody who got a bundle, and has a home that is empty."""

    bundle: Path
    home: Path

    def types(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `sh BUNDLE/aibox WORDS` with nothing but what every user has."""
        alone = ["unshare", "--net", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}"]
        return subprocess.run(
            [*alone, "--clear-groups", "--", "sh", self.bundle / "aibox", *words],
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8"},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )


@pytest.fixture(scope="module")
def visitor() -> Iterator[Visitor]:
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody without a network: run ./test e2e as root")
    usable = subprocess.run([HOST_PYTHON, "-c", "import ensurepip"], capture_output=True)
    if usable.returncode != 0:
        pytest.skip(f"{HOST_PYTHON} cannot make environments: apt-get install python3-venv")
    base = Path(mkdtemp(prefix="aibox-first-steps-"))
    base.chmod(0o755)
    visitor = Visitor(base / "USB 스틱" / "box", base / "홈 folder")
    visitor.bundle.mkdir(parents=True)
    visitor.home.mkdir()
    os.chown(visitor.home, NOBODY, NOBODY)
    write_bundle(visitor.bundle, program_files(content.find()), packages(base / "wheels"))
    yield visitor
    shutil.rmtree(base)


def packages(folder: Path) -> list[Path]:
    """The builds of requirements/cli.lock for the Python that the tests run with."""
    lock = REPOSITORY / "requirements" / "cli.lock"
    rules = ["--require-hashes", "--only-binary", ":all:", "--no-deps"]
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", *rules, *quiet, "-r", lock, "-d", folder],
        check=True,
    )
    return sorted(folder.iterdir())


def test_the_first_start_needs_nothing_but_the_bundle(
    visitor: Visitor, figure: Callable[[str], None]
) -> None:
    before = time.monotonic()
    done = visitor.types("--version")
    figure(f"first start of a bundle: {time.monotonic() - before:.1f} s")
    assert (done.returncode, done.stderr.count("error[")) == (0, 0), done.stderr
    assert done.stdout.startswith("aibox ")
    assert ".venv is ready" in done.stderr
    assert [path.name for path in visitor.home.iterdir()] == [".local"]


@pytest.mark.parametrize("words", [["--version"], ["profiles", "--json"]])
def test_a_later_start_is_quick(
    visitor: Visitor, figure: Callable[[str], None], words: list[str]
) -> None:
    assert visitor.types(*words).returncode == 0
    seconds = []
    for _ in range(5):
        before = time.monotonic()
        assert visitor.types(*words).stderr == ""
        seconds.append(time.monotonic() - before)
    figure(f"later start of a bundle, {words[0]}: {min(seconds):.2f} s")
    assert min(seconds) < LATER_START_SECONDS


def test_the_program_knows_its_profiles_and_its_place(visitor: Visitor) -> None:
    assert '"local"' in visitor.types("profiles", "--json").stdout
    assert '"state": "not-installed"' in visitor.types("status", "--json").stdout


def test_the_program_serves_on_when_the_medium_is_gone(visitor: Visitor) -> None:
    (program,) = (visitor.home / ".local/share/aibox/programs").iterdir()
    unpacked = Visitor(program, visitor.home)
    visitor.bundle.rename(visitor.bundle.with_name("pulled out"))
    done = unpacked.types("profiles")
    assert done.returncode == 0, done.stderr
