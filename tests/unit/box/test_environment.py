from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox import digest, process
from aibox.box import environment, host
from aibox.box.environment import LIST, PACKAGES, difference, problem_of
from aibox.box.filesystem import Filesystem
from aibox.errors import AiboxError, Failed, VerificationRefused
from aibox.plan import environment_id
from wheel_maker import make_wheel

MODULE = {"demo/__init__.py": b"VALUE = 41 + 1\n"}


class Place:
    """A box root and the wheels of one environment."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "상자 % ; #1"
        self.root.mkdir()
        self.wheels = [
            make_wheel(self.root, MODULE),
            make_wheel(self.root, {"more.py": b""}, name="more"),
        ]
        self.said: list[str] = []

    @property
    def id(self) -> str:
        digests = [digest.of_bytes(wheel.read_bytes()) for wheel in self.wheels]
        return environment_id(digests, host.python_tag())

    def ensure(self) -> Path:
        return environment.ensure(
            self.root, self.id, self.wheels, filesystem=Filesystem(), on_event=self.said.append
        )


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("built"))
    place.ensure()
    return place


@pytest.fixture
def built(pristine: Place, tmp_path: Path) -> Place:
    """A box whose environment is there, copied: building takes a second."""
    place = Place(tmp_path)
    shutil.copytree(pristine.root, place.root, symlinks=True, dirs_exist_ok=True)
    return place


def test_the_installed_packages_can_be_used_by_their_own_interpreter(pristine: Place) -> None:
    code = "import demo, more, sys; print(demo.VALUE, sys.flags.no_user_site, *sys.path, sep='\\n')"
    python = pristine.root / "environments" / pristine.id / "bin/python"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    value, _, *search = said.stdout.splitlines()
    assert value == "42"
    # Nothing of the CLI's own environment or of the host may be importable.
    assert [path for path in search if path.endswith("-packages")] == [
        str(pristine.root / "environments" / pristine.id / PACKAGES)
    ]


def test_byte_code_is_there_so_that_services_start_fast(pristine: Place) -> None:
    folder = pristine.root / "environments" / pristine.id
    assert list((folder / PACKAGES / "demo/__pycache__").glob("__init__*.pyc"))


def test_nothing_is_left_in_staging_and_pips_own_files_are_gone(pristine: Place) -> None:
    folder = pristine.root / "environments" / pristine.id
    assert list((pristine.root / "staging").iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == ["bin", LIST, "lib", "pyvenv.cfg"]
    assert not list(folder.rglob("RECORD")) and not list(folder.rglob("INSTALLER"))


def test_the_same_wheels_give_the_same_bytes(pristine: Place, tmp_path: Path) -> None:
    again = Place(tmp_path)
    assert (again.ensure() / LIST).read_bytes() == (
        pristine.root / "environments" / pristine.id / LIST
    ).read_bytes()


def test_a_whole_environment_is_used_again(built: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", pytest.fail)
    assert built.ensure() == built.root / "environments" / built.id
    assert built.said == []


def overwrite(folder: Path) -> None:
    (folder / PACKAGES / "demo/__init__.py").write_bytes(b"VALUE = 41 + 2\n")


def cut(folder: Path) -> None:
    (folder / PACKAGES / "demo/__init__.py").write_bytes(b"")


def add(folder: Path) -> None:
    (folder / PACKAGES / "stealer.pth").write_text("import os")


def lose(folder: Path) -> None:
    (folder / PACKAGES / "more.py").unlink()


def lose_interpreter(folder: Path) -> None:
    (folder / "bin/python").unlink()
    (folder / "bin/python").symlink_to("/nowhere/python")


def lose_list(folder: Path) -> None:
    (folder / LIST).write_text("[1")


@pytest.mark.parametrize("damage", [overwrite, cut, add, lose, lose_interpreter, lose_list])
def test_damage_is_found(built: Place, damage: Callable[[Path], None]) -> None:
    folder = built.root / "environments" / built.id
    damage(folder)
    assert problem_of(folder)


def test_a_damaged_environment_is_built_again(built: Place) -> None:
    folder = built.root / "environments" / built.id
    add(folder)
    built.ensure()
    assert "stealer.pth does not belong there; building it again" in built.said[0]
    assert problem_of(folder) == ""
    assert list((built.root / "staging").iterdir()) == []


def test_wheels_other_than_the_named_ones_are_refused_before_pip_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    wanted = place.id
    place.wheels.append(make_wheel(tmp_path, {"extra.py": b""}, name="extra"))
    monkeypatch.setattr(process, "run", pytest.fail)
    with pytest.raises(VerificationRefused) as caught:
        environment.ensure(
            place.root, wanted, place.wheels, filesystem=Filesystem(), on_event=print
        )
    assert caught.value.reference == "environment-id-differs"


@pytest.mark.parametrize("name", ["stealer.pth", "sitecustomize.py"])
def test_a_wheel_that_would_run_by_itself_is_refused_before_pip_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = Place(tmp_path)
    place.wheels.append(make_wheel(tmp_path, {name: b"import os"}, name="bad"))
    monkeypatch.setattr(process, "run", pytest.fail)
    with pytest.raises(VerificationRefused, match=name):
        place.ensure()


def test_a_file_that_is_not_what_its_wheel_records_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    swapped = {"swapped.py": b"VALUE = 1\n"}
    place.wheels.append(
        make_wheel(tmp_path, swapped, name="swapped", unrecorded={"swapped.py": b"VALUE = 2\n"})
    )
    with pytest.raises(VerificationRefused, match=r"swapped\.py"):
        place.ensure()
    assert list((place.root / "environments").iterdir()) == []
    assert list((place.root / "staging").iterdir()) == []


def test_an_id_that_is_no_digest_never_becomes_a_path(tmp_path: Path) -> None:
    with pytest.raises(AiboxError):
        environment.ensure(tmp_path, "../../etc", [], filesystem=Filesystem(), on_event=print)


def test_pip_that_fails_leaves_nothing_in_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Failed) as caught:
        place.ensure()
    assert caught.value.reference == "packages-not-installed"
    assert list((place.root / "environments").iterdir()) == []


def test_a_disk_that_refuses_the_bytes_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path)
    monkeypatch.setattr(environment, "_sync_filesystem", broken_disk)
    with pytest.raises(OSError, match="EIO"):
        place.ensure()
    assert list((place.root / "environments").iterdir()) == []


def broken_disk(_descriptor: int) -> None:
    raise OSError("EIO")


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from aibox.box import environment
from aibox.box.filesystem import Filesystem
root, name, boundary, *wheels = sys.argv[1:]
left = int(boundary)
def before(operation):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
environment.ensure(Path(root), name, [Path(wheel) for wheel in wheels],
                   filesystem=Filesystem(before), on_event=lambda line: None)
"""


@pytest.mark.parametrize("boundary", [2, 10, 14])
def test_killed_at_any_moment_the_next_build_succeeds(built: Place, boundary: int) -> None:
    lose(built.root / "environments" / built.id)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_AT, built.root, built.id, str(boundary), *built.wheels],
        env={**os.environ, "PYTHONPATH": str(Path(environment.__file__).parents[2])},
    )
    assert ended.returncode == -signal.SIGKILL
    assert problem_of(built.ensure()) == ""
    assert list((built.root / "staging").iterdir()) == []


def test_a_difference_names_the_first_file() -> None:
    listed = {"a": (1, "x"), "b": (2, "y")}
    assert difference(listed, listed) == ""
    assert difference(listed, {"a": (1, "x")}) == "b is missing"
    assert difference(listed, listed | {"c": (3, "z")}) == "c does not belong there"
    assert difference(listed, listed | {"b": (2, "z")}) == "b was changed"
