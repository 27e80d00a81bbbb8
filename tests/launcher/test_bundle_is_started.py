"""./aibox in a bundle on a host with a Python of its own: unpacked once, then started as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bundle_doubles import path_of_tools
from wanted import Wanted

from .bundle_on_host import TOOLS, BundleOnHost, ended, make_bundle, start

HOSTILE = {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere"}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BundleOnHost]:
    """Started once, under a hostile umask and environment, from a medium nobody may write to."""
    host = make_bundle(tmp_path_factory.mktemp("bundle"))
    for path in [host.root, *host.root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    umask = os.umask(0o077)
    first = host.run("ask", "어떻게 되돌리나요?", "", "a  b", **HOSTILE)
    os.umask(umask)
    (host.home / "first.json").write_text(
        json.dumps({"code": first.returncode, "out": first.stdout, "err": first.stderr})
    )
    yield host
    for path in [host.root, *host.root.rglob("*")]:
        path.chmod(0o755)


@pytest.fixture
def first(started: BundleOnHost) -> dict[str, object]:
    """How the first start ended."""
    told: dict[str, object] = json.loads((started.home / "first.json").read_text())
    return told


def test_the_first_start_runs_the_command_line(
    started: BundleOnHost, first: dict[str, object]
) -> None:
    assert first["code"] == 7, first["err"]
    told = json.loads(str(first["out"]))
    assert told["arguments"] == ["ask", "어떻게 되돌리나요?", "", "a  b"]
    assert told["python"] == str(started.folder / ".venv/bin/python")
    assert told["folder"] == str(Path.cwd())


def test_the_command_line_is_told_which_bundle(
    started: BundleOnHost, first: dict[str, object]
) -> None:
    assert json.loads(str(first["out"]))["bundle"] == str(started.root)


def test_the_umask_of_the_person_is_kept_but_not_for_the_program(
    started: BundleOnHost, first: dict[str, object]
) -> None:
    assert json.loads(str(first["out"]))["umask"] == 0o077
    assert (started.folder / "aibox").stat().st_mode & 0o777 == 0o755
    assert (started.folder / "installer/aibox/__main__.py").stat().st_mode & 0o777 == 0o644


def test_the_first_start_says_what_it_does(first: dict[str, object]) -> None:
    said = str(first["err"])
    assert "unpacking the program into" in said
    assert ".venv is ready: 1 packages" in said.splitlines()[-1]


def test_nothing_is_written_but_below_the_box(started: BundleOnHost) -> None:
    assert {path.name for path in started.home.iterdir()} == {started.box.name, "first.json"}
    assert [path.name for path in started.box.iterdir()] == ["programs"]
    assert not list(started.root.rglob("__pycache__"))


def test_a_later_start_runs_no_other_python_and_says_nothing(
    started: BundleOnHost, tmp_path: Path
) -> None:
    done = started.run(PATH=path_of_tools(tmp_path / "bin", *TOOLS))
    assert (done.returncode, done.stderr) == (7, "")


def test_the_program_works_when_the_medium_is_gone(started: BundleOnHost, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "programs").symlink_to(started.folder.parent)
    (tmp_path / "bin" / "aibox").symlink_to(f"../programs/{started.folder.name}/aibox")
    done = ended(start(started, tmp_path / "bin" / "aibox", "status"))
    assert (done.returncode, done.stderr) == (7, "")
    assert json.loads(done.stdout)["bundle"] is None


def test_a_link_to_the_bundle_starts_it(started: BundleOnHost, tmp_path: Path) -> None:
    (tmp_path / "far").symlink_to(started.root / "aibox")
    (tmp_path / "near").symlink_to("far")
    assert ended(start(started, tmp_path / "near")).returncode == 7


def test_the_launcher_in_the_bundle_is_the_one_in_the_program(started: BundleOnHost) -> None:
    names = {path.name for path in (started.root / "launcher").iterdir()}
    assert names == {path.name for path in (started.folder / "launcher").glob("*.*")}
    assert (started.root / "aibox").read_bytes() == (started.folder / "aibox").read_bytes()


def copy_of(started: BundleOnHost, base: Path) -> BundleOnHost:
    """The same program on another host, where it was unpacked at another place."""
    host = BundleOnHost(started.root, base)
    shutil.copytree(started.folder, host.folder, symlinks=True)
    return host


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_box_that_was_moved_gets_its_environment_anew(
    started: BundleOnHost, tmp_path: Path
) -> None:
    host = copy_of(started, tmp_path)
    done = ended(start(host, host.folder / "aibox"))
    assert done.returncode == 7
    assert ".venv is ready" in done.stderr
    assert "unpacking" not in done.stderr


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_wheel_that_went_bad_is_noticed_and_the_bundle_brings_it_back(
    started: BundleOnHost, tmp_path: Path
) -> None:
    host = copy_of(started, tmp_path)
    wheel = host.folder / "bundled-wheels/tiny-1.0-py3-none-any.whl"
    wheel.write_bytes(b"x" * wheel.stat().st_size)
    program = host.folder / "aibox"
    noticed, afterwards = ended(start(host, program)), ended(start(host, program))
    assert (noticed.returncode, afterwards.returncode) == (4, 4)
    assert "error[program-damaged]" in noticed.stderr
    assert "error[program-incomplete]" in afterwards.stderr
    assert host.run().returncode == 7


def test_the_packagers_commands_are_not_in_a_bundle(started: BundleOnHost) -> None:
    done = started.run("bundle", "build")
    assert (done.returncode, done.stdout) == (2, "")
    assert "error[packager-only]" in done.stderr


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_it_runs_in_the_shells_of_the_distributions(started: BundleOnHost, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here: install it to have it tried")
    done = subprocess.run(
        [shell, started.root / "aibox"], env=started.surroundings(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (7, "")


def test_whoever_started_from_a_medium_goes_on_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Wanted("./aibox", Path("/box/.venv"), Path("/box/cli.lock"))
    monkeypatch.delenv("AIBOX_BUNDLE", raising=False)
    assert wanted.again == "./aibox"
    monkeypatch.setenv("AIBOX_BUNDLE", "/media/USB 스틱/box")
    assert wanted.again == 'sh "/media/USB 스틱/box/aibox"'
