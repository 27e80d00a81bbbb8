"""The program in a bundle: what it is made of, and how sh and sha256sum read it."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from aibox import content, digest
from aibox.bundle import program
from aibox.bundle.build.checkout import program_files
from aibox.content import Content, belongs_to_program
from aibox.errors import Failed
from aibox.pins import Blob
from program_text import ProgramFile, parse

REPOSITORY = Path(__file__).parents[3]
WHEEL = Blob(sha256="a" * 64, size=7)
TAR = Blob(sha256="b" * 64, size=9)
FILES = {
    "aibox": (b"#!/bin/sh\n", True),
    "launcher/bundle.sh": (b"# sh\n", False),
    "installer/aibox/설명 (1).txt": ("글".encode(), False),
}
LISTING = program.listing(FILES, {"x-1-py3-none-any.whl": WHEEL}, {"x86_64": TAR})
TEXT = program.program_text(LISTING, ("3.11", "3.12"), ("aarch64", "x86_64"))


def test_the_text_tells_what_a_machine_can_use() -> None:
    assert TEXT.decode().splitlines()[:6] == [
        "aibox-program 1",
        "python 3.11 aarch64",
        "python 3.12 aarch64",
        "python 3.11 x86_64",
        "python 3.12 x86_64",
        f"interpreter x86_64 {'b' * 64} 9",
    ]


def test_the_launcher_reads_what_is_written() -> None:
    data, _ = FILES["installer/aibox/설명 (1).txt"]
    assert set(parse(TEXT)) == {
        ProgramFile("aibox", 0o755, digest.of_bytes(b"#!/bin/sh\n"), 10),
        ProgramFile("launcher/bundle.sh", 0o644, digest.of_bytes(b"# sh\n"), 5),
        ProgramFile("installer/aibox/설명 (1).txt", 0o644, digest.of_bytes(data), 3),
        ProgramFile("bundled-wheels/x-1-py3-none-any.whl", 0o644, "a" * 64, 7),
    }


def test_the_launcher_is_unpacked_last() -> None:
    assert parse(TEXT)[-1].path == "aibox"


def test_the_order_of_what_is_given_does_not_matter() -> None:
    again = program.listing(
        dict(reversed(FILES.items())), {"x-1-py3-none-any.whl": WHEEL}, {"x86_64": TAR}
    )
    assert again == LISTING


def test_the_id_is_that_of_the_text() -> None:
    assert program.program_id(TEXT) == hashlib.sha256(TEXT).hexdigest()[:16]
    other = program.program_text(LISTING, ("3.11",), ("x86_64",))
    assert program.program_id(other) != program.program_id(TEXT)


def test_what_runs_before_any_check_lies_open() -> None:
    assert set(program.open_files(FILES)) == {"aibox", "launcher/bundle.sh"}


def test_the_first_steps_pass_the_check_that_a_customer_makes(tmp_path: Path) -> None:
    steps = program.first_steps(FILES, LISTING, ("3.11",), ("x86_64",))
    assert set(steps) == {"aibox", "launcher/bundle.sh", "program.txt", "bootstrap.sha256"}
    for path, (data, _) in steps.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    check = ["sha256sum", "--strict", "-c", "bootstrap.sha256"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["aibox: OK", "launcher/bundle.sh: OK", "program.txt: OK"]
    (tmp_path / "program.txt").write_bytes(TEXT)
    assert subprocess.run(check, cwd=tmp_path, capture_output=True).returncode != 0


@pytest.mark.parametrize(
    "path",
    [
        *("aibox", "models.lock", "inventory.example", "LICENSE", "README.md"),
        *("requirements/cli.lock", "launcher/python.sh", "installer/aibox/cli/app.py"),
        *("roles/preflight/tasks/judge.yml", "playbooks/remove.yml", "docs/manual/ko/ask.md"),
        *("stacks/rag/app/src/rag_app/web/static/icon.svg", "stacks/rag/app/pyproject.toml"),
    ],
)
def test_what_a_box_needs_belongs_to_the_program(path: str) -> None:
    assert belongs_to_program(path)


@pytest.mark.parametrize(
    "path",
    [
        *("test", "conftest.py", "tests/conftest.py", "stacks/rag/app/tests/conftest.py"),
        *("benchmarks/search.py", "docs/images/page.png", "requirements/test.lock"),
        *("requirements/packager.lock", ".ci/run", ".gitignore", "aibox.bak", "launcher"),
    ],
)
def test_what_a_box_does_not_need_stays_out(path: str) -> None:
    assert not belongs_to_program(path)


def test_the_program_is_the_tracked_files_and_no_others() -> None:
    tracked = subprocess.run(
        ["git", "-c", f"safe.directory={REPOSITORY}", "ls-files", "-z"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    found = program_files(content.find())
    assert set(found) == {path for path in tracked if belongs_to_program(path)}
    assert [path for path, (_, executable) in found.items() if executable] == ["aibox"]
    assert found["models.lock"][0] == (REPOSITORY / "models.lock").read_bytes()


def checkout(folder: Path) -> Content:
    """A checkout in miniature."""
    (folder / "roles").mkdir()
    (folder / "roles" / "역할 role.yml").write_text("tracked")
    (folder / "aibox").write_text("tracked")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "update-index", "--chmod=+x", "aibox")
    return Content(folder)


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", *words], cwd=folder, check=True)


def test_what_merely_lies_there_is_not_packed(tmp_path: Path) -> None:
    made = checkout(tmp_path)
    (tmp_path / "roles" / "secret.yml").write_text("untracked")
    assert program_files(made) == {
        "aibox": (b"tracked", True),
        "roles/역할 role.yml": (b"tracked", False),
    }


def test_a_folder_that_git_does_not_know_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(Failed) as caught:
        program_files(Content(tmp_path))
    assert caught.value.reference == "not-a-checkout"


@pytest.mark.parametrize("instead", ["nothing", "link"])
def test_a_tracked_file_that_is_no_file_is_named(tmp_path: Path, instead: str) -> None:
    made = checkout(tmp_path)
    (tmp_path / "aibox").unlink()
    if instead == "link":
        (tmp_path / "aibox").symlink_to("/etc/passwd")
    with pytest.raises(Failed) as caught:
        program_files(made)
    assert caught.value.reference == "checkout-unusable"
    assert "aibox" in caught.value.context


def test_content_knows_a_program_from_a_checkout(tmp_path: Path) -> None:
    assert content.find().program is None
    folder = tmp_path / "programs" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "program.txt").write_bytes(TEXT)
    assert Content(folder).program == "0123456789abcdef"
