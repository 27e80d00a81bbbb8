"""./aibox once its environment is made: it gets out of the way."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Checkout, make_checkout


def test_arguments_and_the_exit_code_pass_through(ready: Checkout) -> None:
    done = ready.run("ask", "어떻게 되돌리나요?", "", "a  b")
    assert json.loads(done.stdout)["arguments"] == ["ask", "어떻게 되돌리나요?", "", "a  b"]
    assert done.returncode == 7


def test_a_later_start_says_nothing_of_its_own(ready: Checkout) -> None:
    assert ready.run().stderr == ""


def test_it_works_through_a_relative_link_from_another_folder(
    ready: Checkout, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "far").symlink_to(ready.program)
    (tmp_path / "bin" / "aibox").symlink_to("../far")
    done = subprocess.run(
        ["bin/aibox"], cwd=tmp_path, env=ready.surroundings, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["folder"] == str(tmp_path)


def test_files_of_the_current_folder_are_not_imported(ready: Checkout, tmp_path: Path) -> None:
    for name in ("aibox.py", "json.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the current folder')")
    done = subprocess.run(
        [ready.program], cwd=tmp_path, env=ready.surroundings, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (7, "")


@pytest.fixture(scope="module")
def two_environments(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """One where both environments seem made; their Python is a double that tells its own name."""
    base = tmp_path_factory.mktemp("two")
    (base / "checkout").mkdir()
    checkout = make_checkout(base / "checkout", base / "wheels")
    for name, lock in ((".venv", "cli.lock"), (".venv-packager", "packager.lock")):
        locked = checkout.lock.with_name(lock)
        locked.write_text(f"# {lock}\n")
        python = checkout.root / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text('#!/bin/sh\necho "$0"\n')
        python.chmod(0o755)
        (checkout.root / name / "made-from").write_text(
            f"{checkout.root / name}\n{locked.read_text()}"
        )
    return checkout


@pytest.mark.parametrize("words", [["lock"], ["lock", "--check"], ["bundle", "build", "--json"]])
def test_the_packagers_commands_have_an_environment_of_their_own(
    two_environments: Checkout, words: list[str]
) -> None:
    assert "/.venv-packager/bin/python" in two_environments.run(*words).stdout


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["install"], ["bundle"], ["bundle", "verify"], ["ask", "lock"]]
)
def test_everything_else_does_without(two_environments: Checkout, words: list[str]) -> None:
    assert "/.venv/bin/python" in two_environments.run(*words).stdout


def is_whole(checkout: Checkout) -> bool:
    """What launcher/environment.sh thinks of the environment."""
    script = (
        '. "$1/launcher/environment.sh"; environment_is_whole "$1/.venv" "$1/requirements/cli.lock"'
    )
    return subprocess.run(["sh", "-c", script, "sh", checkout.root]).returncode == 0


def test_the_check_accepts_what_was_made(ready: Checkout) -> None:
    assert is_whole(ready)


@pytest.mark.parametrize("damage", ["lock changed", "python gone", "stamp gone", "stamp cut"])
def test_the_check_notices(ready: Checkout, tmp_path: Path, damage: str) -> None:
    # A stand-in at a place of its own: what the check reads, nothing more.
    other = Checkout(tmp_path, ready.surroundings)
    shutil.copytree(ready.root / "launcher", tmp_path / "launcher")
    shutil.copytree(ready.lock.parent, other.lock.parent)
    (other.environment / "bin").mkdir(parents=True)
    python = other.environment / "bin" / "python"
    python.symlink_to("/bin/sh")
    stamp = other.environment / "made-from"
    stamp.write_text(f"{other.environment}\n{other.lock.read_text()}")
    assert is_whole(other)
    match damage:
        case "lock changed":
            other.lock.write_text(other.lock.read_text() + "# revised\n")
        case "python gone":
            python.unlink()
            python.symlink_to("/nowhere/python3.11")
        case "stamp gone":
            stamp.unlink()
        case "stamp cut":
            stamp.write_text(stamp.read_text()[:-20])
    assert not is_whole(other)


def test_the_check_notices_that_the_checkout_was_moved(ready: Checkout, tmp_path: Path) -> None:
    moved = shutil.copytree(ready.root, tmp_path / "moved", symlinks=True)
    assert not is_whole(Checkout(moved, ready.surroundings))
