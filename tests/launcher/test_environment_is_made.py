"""./aibox on the first run: killed, doubled, offline, deceived, and still right the next time."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Checkout


def wait_until(check: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "nothing happened in time"
        time.sleep(0.01)


def maker(checkout: Checkout) -> int:
    """The process that holds the lock file of the environment; waits until there is one."""
    holder = checkout.environment / "lock"
    wait_until(lambda: holder.exists() and holder.read_text() != "")
    return int(holder.read_text())


def half_made(checkout: Checkout) -> bool:
    return (checkout.environment / "bin" / "python").exists()


def test_the_first_run_says_what_it_does_on_standard_error(checkout: Checkout) -> None:
    done = checkout.run()
    assert done.stderr.splitlines()[0].startswith("./aibox: making .venv with Python 3.")
    assert ".venv is ready: 1 packages" in done.stderr.splitlines()[-1]
    assert done.stdout.count("\n") == 1


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_kill_of_everything_is_repaired_by_the_next_run(checkout: Checkout) -> None:
    with checkout.start() as process:
        wait_until(lambda: half_made(checkout))
        os.killpg(process.pid, signal.SIGKILL)
    assert not (checkout.environment / "made-from").exists()
    assert checkout.run().returncode == 7


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_what_a_killed_maker_started_still_keeps_others_out(checkout: Checkout) -> None:
    with checkout.start():
        pid = maker(checkout)
        wait_until(lambda: half_made(checkout))
        os.kill(pid, signal.SIGKILL)
    with (checkout.environment / "lock").open() as held, pytest.raises(BlockingIOError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert checkout.run().returncode == 7


@pytest.mark.e2e  # beside other tests the word may come when all is made, each time
def test_control_c_stops_it_with_a_word(checkout: Checkout) -> None:
    for _ in range(5):
        with checkout.start() as process:
            maker(checkout)
            wait_until(lambda: half_made(checkout))
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=30)
        if process.returncode != 7:
            break
        # The rest was made before the word came.
        shutil.rmtree(checkout.environment)
    assert process.returncode in (130, -signal.SIGINT)
    assert err.splitlines()[-1] == "./aibox: interrupted; to go on: ./aibox"


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_two_at_once_make_it_once(checkout: Checkout) -> None:
    with checkout.start() as first, checkout.start() as second:
        spoken = [process.communicate(timeout=100)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [7, 7]
    assert "".join(spoken).count("is ready") == 1


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_what_an_older_lock_left_is_removed(checkout: Checkout) -> None:
    (checkout.environment / "bin").mkdir(parents=True)
    (checkout.environment / "bin" / "python").symlink_to("/bin/sh")
    (checkout.environment / "lock").touch()
    (checkout.environment / "left-over").touch()
    (checkout.environment / "made-from").write_text(f"{checkout.environment}\nolder==1.0\n")
    assert "is ready" in checkout.run().stderr
    assert not (checkout.environment / "left-over").exists()


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_package_that_is_not_as_locked_is_refused(checkout: Checkout) -> None:
    honest = checkout.lock.read_text()
    checkout.lock.write_text(honest[:-9] + "00000000\n")
    done = checkout.run()
    assert (done.returncode, done.stdout) == (4, "")
    assert "error[package-not-as-locked]" in done.stderr
    assert not (checkout.environment / "made-from").exists()


def test_without_a_network_it_says_so(checkout: Checkout) -> None:
    with_closed_port = {"PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}
    done = checkout.run(**with_closed_port, PIP_FIND_LINKS="")
    assert done.returncode == 1
    assert "error[index-unreachable]" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("PIP_FIND_LINKS=/path/to/wheels ./aibox")


def test_a_place_that_cannot_be_written_is_named(checkout: Checkout) -> None:
    # A permission would not stop root; a link to nowhere stops everybody from making the folder.
    checkout.environment.symlink_to("/nowhere/at/all")
    done = checkout.run()
    assert done.returncode == 3
    assert "error[environment-not-writable]" in done.stderr
    assert str(checkout.root) in done.stderr.splitlines()[-1]


def test_an_environment_of_somebody_else_is_left_alone(checkout: Checkout) -> None:
    checkout.environment.mkdir()
    (checkout.environment / "pyvenv.cfg").touch()
    done = checkout.run()
    assert done.returncode == 3
    assert "error[environment-not-ours]" in done.stderr
    assert [entry.name for entry in checkout.environment.iterdir()] == ["pyvenv.cfg"]


def only(folder: Path, *tools: str) -> str:
    """A PATH that holds nothing but these tools."""
    folder.mkdir()
    for tool in tools:
        found = subprocess.run(["sh", "-c", f"command -v {tool}"], capture_output=True, text=True)
        (folder / tool).symlink_to(found.stdout.strip())
    return str(folder)


def test_without_python_it_says_what_to_install(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run(PATH=only(tmp_path / "bin", "cat", "dirname", "readlink", "apt-get"))
    assert done.returncode == 3
    assert "error[python-missing]: no Python 3.11 or newer was found" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("sudo apt-get install python3 python3-venv")


def python_double(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_an_old_python_is_passed_over(checkout: Checkout, tmp_path: Path) -> None:
    path = only(tmp_path / "bin", "cat", "dirname", "readlink", "apt-get")
    python_double(tmp_path / "bin", "python3", "[ $1 != --version ] && exit 1; echo Python 3.9.2")
    done = checkout.run(PATH=path)
    assert "was found (Python 3.9.2)" in done.stderr
    assert done.stderr.splitlines()[-1].endswith("sudo apt-get install python3.11 python3.11-venv")


def test_a_python_without_venv_names_the_package(checkout: Checkout, tmp_path: Path) -> None:
    path = only(tmp_path / "bin", "cat", "dirname", "readlink", "apt-get")
    python_double(
        tmp_path / "bin",
        "python3.12",
        'case "$*" in *ensurepip*) exit 1 ;; *version_info\\[:2\\]*) echo python3.12-venv ;; esac',
    )
    done = checkout.run(PATH=path)
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith("sudo apt-get install python3.12-venv")


def test_a_wrong_choice_of_python_is_not_silently_replaced(checkout: Checkout) -> None:
    done = checkout.run(AIBOX_PYTHON="/nowhere/python3")
    assert done.returncode == 3
    assert "AIBOX_PYTHON=/nowhere/python3 is not a Python 3.11 or newer" in done.stderr
