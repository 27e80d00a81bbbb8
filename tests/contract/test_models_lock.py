"""models.lock names the files of this checkout: an installation from it would not be refused."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aibox import digest, locking
from aibox import lock as locks
from aibox.content import Content
from aibox.lock import Tree

REPOSITORY = Path(__file__).parents[2]
LOCK = locks.load(REPOSITORY / "models.lock")
TREES = LOCK.tree
HINT = "take the change into the lock with: ./aibox lock"


def tracked(root: str) -> set[str]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY / root, capture_output=True, text=True, check=True
    )
    return set(listing.stdout.split("\0")) - {""}


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_every_file_is_as_locked(tree: Tree) -> None:
    root = REPOSITORY / tree.root
    differing = [
        file.path
        for file in tree.files
        if not (root / file.path).is_file()
        or digest.of_bytes((root / file.path).read_bytes()) != file.sha256
    ]
    assert differing == [], HINT


@pytest.mark.parametrize("tree", TREES, ids=lambda tree: tree.name)
def test_only_files_under_version_control_are_locked(tree: Tree) -> None:
    assert {file.path for file in tree.files} - tracked(tree.root) == set(), HINT


@pytest.mark.parametrize("name", ["rag-app", "manual", "prompts"])
def test_no_file_is_forgotten(name: str) -> None:
    (tree,) = (tree for tree in TREES if tree.name == name)
    assert tracked(tree.root) - {file.path for file in tree.files} == set(), HINT


def test_the_lock_is_what_the_checkout_says() -> None:
    found = locking.check(Content(REPOSITORY), ())
    assert [change for change in found if change.out_of_date] == [], HINT


def test_the_text_is_as_it_would_be_written() -> None:
    assert (REPOSITORY / "models.lock").read_text(encoding="utf-8") == locks.dump(LOCK), HINT


def test_the_command_lines_packages_may_be_handed_on() -> None:
    packages = (*LOCK.program, *LOCK.wheel)
    assert [item.name for item in packages if item.redistribution != "allow"] == []
