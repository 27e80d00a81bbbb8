"""Which Python a bundle is started with: the host's where it will do, else the bundle's own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from aibox.cli.workplace import box_root
from bundle_doubles import REPOSITORY, interpreter_double, path_of_tools

from .bundle_on_host import TOOLS, BundleOnHost, ended, make_bundle, start

INTERPRETER = interpreter_double()
OLD = "[ $1 != --version ] && exit 1; echo Python 3.9.2"


@pytest.fixture
def host(tmp_path: Path) -> BundleOnHost:
    """A bundle with its own Python."""
    return make_bundle(tmp_path, interpreter=INTERPRETER)


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """The PATH of a machine that has no Python."""
    return path_of_tools(tmp_path / "bin", *TOOLS)


def double(path: str, name: str, body: str) -> None:
    """A program on that PATH."""
    program = Path(path) / name
    program.unlink(missing_ok=True)
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


def tar_of(host: BundleOnHost) -> Path:
    return host.root / "blobs" / "sha256" / hashlib.sha256(INTERPRETER).hexdigest()


def leftovers(host: BundleOnHost) -> list[str]:
    return sorted(path.name for path in host.folder.glob("interpreter*"))


def test_without_a_python_the_bundles_own_is_used_and_stays(host: BundleOnHost, bare: str) -> None:
    done = host.run("status", PATH=bare)
    assert (done.returncode, json.loads(done.stdout)["arguments"]) == (7, ["status"]), done.stderr
    assert "unpacking the bundle's own" in done.stderr
    assert leftovers(host) == ["interpreter", "interpreter.lock"]
    later = ended(start(host, host.folder / "aibox", PATH=bare))
    assert (later.returncode, later.stderr) == (7, "")


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_python_that_is_too_old_is_passed_over(host: BundleOnHost, bare: str) -> None:
    double(bare, "python3", OLD)
    assert host.run(PATH=bare).returncode == 7
    assert leftovers(host) == ["interpreter", "interpreter.lock"]


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_two_at_once_unpack_it_once(host: BundleOnHost, bare: str) -> None:
    both = [host.start(PATH=bare), host.start(PATH=bare)]
    assert [ended(process).returncode for process in both] == [7, 7]


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_kill_at_any_step_is_repaired_by_the_next_run(host: BundleOnHost, bare: str) -> None:
    for step in ("cp", "tar", "sync", "mv"):
        real = (Path(bare) / step).readlink()
        for last_words in ("kill -9 0", f'{real} "$@"; kill -9 0'):
            double(bare, step, last_words)
            assert ended(host.start(PATH=bare)).returncode == -9
        (Path(bare) / step).unlink()
        (Path(bare) / step).symlink_to(real)
    assert (host.folder / "interpreter").exists()  # The last kill came after the rename.
    (host.folder / "interpreter" / "bin" / "python3").unlink()
    assert host.run(PATH=bare).returncode == 7


@pytest.mark.e2e  # it makes environments again and again: too long for ./test
def test_a_host_python_that_went_away_is_replaced(host: BundleOnHost, bare: str) -> None:
    assert host.run().returncode == 7
    (host.folder / ".venv/bin/python").unlink()
    assert host.run(PATH=bare).returncode == 7
    assert leftovers(host) == ["interpreter", "interpreter.lock"]


def assert_refused(host: BundleOnHost, path: str, reference: str, code: int) -> str:
    said = host.refused(PATH=path)
    assert f"error[{reference}]" in said
    assert said.endswith(str(code))
    assert not (host.folder / "interpreter").exists()
    assert set(leftovers(host)) <= {"interpreter.lock"}
    return said


@pytest.mark.parametrize("harm", ["flipped", "cut", "missing"])
def test_an_interpreter_that_is_not_what_it_should_be(
    host: BundleOnHost, bare: str, harm: str
) -> None:
    tar = tar_of(host)
    match harm:
        case "flipped":
            tar.write_bytes(INTERPRETER[:-1] + b"x")
        case "cut":
            tar.write_bytes(INTERPRETER[:-1])
        case "missing":
            tar.unlink()
    reference = "bundle-incomplete" if harm == "missing" else "bundle-damaged"
    assert str(tar) in assert_refused(host, bare, reference, 4)


@pytest.mark.parametrize("tool", ["cp", "tar"])
def test_a_full_disk(host: BundleOnHost, bare: str, tool: str) -> None:
    double(bare, tool, "echo 'No space left on device' >&2; exit 1")
    said = assert_refused(host, bare, "interpreter-not-unpacked", 3)
    assert "context: No space left on device" in said


def test_a_slow_medium_is_never_silent_for_long(host: BundleOnHost, bare: str) -> None:
    real = (Path(bare) / "sleep").readlink()
    double(bare, "sleep", f'[ "$1" -le 4 ] && exec {real} 0.02')  # Where 4 s pass quickly.
    double(bare, "cp", f"{real} 0.5; exit 1")
    said = assert_refused(host, bare, "interpreter-not-unpacked", 3)
    assert "unpacking Python, 4 s" in said
    assert "unpacking Python, 8 s" in said


def test_an_interpreter_that_does_not_start_here(host: BundleOnHost, bare: str) -> None:
    double(bare, "tar", 'while [ "$1" != -C ]; do shift; done; mkdir -p "$2/bin"')
    assert "error[interpreter-unusable]" in host.refused(PATH=bare)


def test_a_missing_tool_is_named(host: BundleOnHost, bare: str) -> None:
    (Path(bare) / "tar").unlink()
    assert "error[tool-missing]: this machine has no tar" in host.refused(PATH=bare)


def test_without_any_python_it_says_what_to_install(tmp_path: Path, bare: str) -> None:
    host = make_bundle(tmp_path)
    double(bare, "python3", OLD)
    said = assert_refused(host, bare, "python-missing", 3)
    assert "was found (Python 3.9.2)" in said


def test_a_python_that_the_bundle_has_no_packages_for(tmp_path: Path) -> None:
    host = make_bundle(tmp_path, pythons=("3.99",))
    said = host.refused()
    assert "error[python-missing]: no Python 3.99 was found" in said


def test_a_wrong_choice_of_python_is_not_silently_replaced(host: BundleOnHost) -> None:
    said = host.refused(AIBOX_PYTHON="/nowhere/python3")
    assert "error[python-unusable]: AIBOX_PYTHON=/nowhere/python3" in said


def box_root_of_launcher(
    surroundings: dict[str, str], folder: Path, asked: str = "box_root"
) -> Path:
    script = f'. "$1/launcher/bundle.sh"; bundle=.; {asked}'
    done = subprocess.run(
        ["/bin/sh", "-euc", script, "sh", REPOSITORY],
        env={"PATH": os.environ["PATH"], **surroundings},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(done.stdout)


@pytest.mark.parametrize(
    "surroundings",
    [
        {"HOME": "/home/a b"},
        {},
        {"HOME": "/home/u", "XDG_DATA_HOME": "/data/한글"},
        {"HOME": "/home/u", "XDG_DATA_HOME": "relative"},
        {"HOME": "/home/u", "AIBOX_HOME": "/srv/box", "XDG_DATA_HOME": "/data"},
        {"HOME": "/home/u", "AIBOX_HOME": "relative/box"},
        {"HOME": "/home/u", "AIBOX_HOME": "~/box"},
        {"HOME": "/home/u", "AIBOX_HOME": "~"},
        {"HOME": "/home/u", "AIBOX_HOME": ""},
    ],
)
def test_launcher_and_command_line_agree_where_the_box_is(
    surroundings: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "XDG_DATA_HOME", "AIBOX_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    assert box_root_of_launcher(surroundings, tmp_path) == box_root()


@pytest.mark.parametrize(
    ("user", "runtimes", "named", "root"),
    [
        ("0", ["container"], "", "/var/lib/aibox"),
        ("0", ["container", "process"], "", "/home/u/.local/share/aibox"),
        ("0", [], "", "/home/u/.local/share/aibox"),
        ("0", ["container"], "/srv/box", "/srv/box"),
        ("1000", ["container"], "", "/home/u/.local/share/aibox"),
    ],
)
def test_root_unpacks_a_bundle_for_servers_where_the_servers_box_will_be(
    user: str, runtimes: list[str], named: str, root: str, tmp_path: Path
) -> None:
    releases = [{"profile": "any", "runtime": one} for one in runtimes]
    manifest = json.dumps({"releases": releases}, separators=(",", ":"))
    (tmp_path / "bundle.json").write_text(manifest)
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {user}\n")
    (tmp_path / "id").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    surroundings = {"HOME": "/home/u", "AIBOX_HOME": named, "PATH": path}
    assert box_root_of_launcher(surroundings, tmp_path, "program_root") == Path(root)
