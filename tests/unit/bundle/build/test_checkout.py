"""Which files of a checkout are packed, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.bundle.build import checkout
from aibox.content import Content
from aibox.errors import Failed, Fault
from packager_project import git

FILES = {
    "aibox": b"#!/bin/sh\n",
    "roles/box/tasks/main.yml": b"---\n",
    "stacks/rag/app/src/x.py": b"x = 1\n",
    "stacks/rag/app/tests/test_x.py": b"no\n",
    "docs/manual/한국어 안내.md": "# 안내\n".encode(),
    "docs/adr/1.md": b"no\n",
    "benchmarks/run.py": b"no\n",
    "pyproject.toml": b"no\n",
}


@pytest.fixture
def content(place: Path) -> Content:
    root = place / "체크아웃 1"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "aibox").chmod(0o755)
    git(root, "init", "--quiet")
    git(root, "add", "--all")
    return Content(root)


def commit(content: Content) -> None:
    git(content.root, "commit", "--quiet", "--message", "a state")


def refusal(content: Content) -> Failed:
    with pytest.raises(Failed) as found:
        checkout.program_files(content)
    return found.value


def test_what_runs_a_box_is_packed_and_nothing_else(content: Content) -> None:
    files = checkout.program_files(content)
    assert {path: data for path, (data, _) in files.items()} == {
        path: data for path, data in FILES.items() if data != b"no\n"
    }
    assert [path for path, (_, executable) in files.items() if executable] == ["aibox"]


def test_a_link_is_not_packed(content: Content) -> None:
    (content.root / "roles/link").symlink_to("/etc/passwd")
    git(content.root, "add", "--all")
    error = refusal(content)
    assert error.reference == "checkout-unusable"
    assert "roles/link" in error.context


def test_a_file_that_became_a_link_is_not_read(content: Content) -> None:
    path = content.root / "roles/box/tasks/main.yml"
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert refusal(content).reference == "checkout-unusable"


def test_a_file_in_conflict_is_not_packed(content: Content) -> None:
    commit(content)
    git(content.root, "branch", "other")
    (content.root / "aibox").write_bytes(b"ours\n")
    git(content.root, "commit", "--quiet", "--all", "--message", "ours")
    git(content.root, "checkout", "--quiet", "other")
    (content.root / "aibox").write_bytes(b"theirs\n")
    git(content.root, "commit", "--quiet", "--all", "--message", "theirs")
    with pytest.raises(Exception, match="returned non-zero"):
        git(content.root, "merge", "--quiet", "-")
    error = refusal(content)
    assert error.reference == "checkout-unusable"
    assert "git status" in error.hint
    assert error.fault is Fault.YOU


def test_nothing_is_said_of_a_clean_checkout(content: Content) -> None:
    commit(content)
    (content.root / "untracked.txt").write_text("who cares")
    (content.root / "aibox").touch()
    assert checkout.uncommitted(content) == ()


def test_changes_of_the_program_are_said_staged_or_not(content: Content) -> None:
    commit(content)
    (content.root / "aibox").write_bytes(b"#!/bin/bash\n")
    (content.root / "docs/manual/한국어 안내.md").unlink()
    (content.root / "pyproject.toml").write_text("not packed")
    git(content.root, "add", "aibox")
    assert checkout.uncommitted(content) == ("aibox", "docs/manual/한국어 안내.md")


def test_a_checkout_without_a_commit_says_so(content: Content) -> None:
    assert checkout.uncommitted(content) == ("everything: the checkout has no commit",)


def test_looking_changes_nothing(content: Content) -> None:
    commit(content)
    (content.root / "aibox").touch()
    index = (content.root / ".git/index").read_bytes()
    checkout.program_files(content)
    checkout.uncommitted(content)
    assert (content.root / ".git/index").read_bytes() == index
