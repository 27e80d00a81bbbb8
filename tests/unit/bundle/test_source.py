"""A checkout gives a release exactly the files that the lock names, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox import digest
from aibox.bundle.source import Checkout
from aibox.errors import VerificationRefused
from aibox.lock import Role
from aibox.release import Artifact


def artifact(data: bytes) -> Artifact:
    return Artifact(
        role=Role.PROMPTS,
        source="stacks/prompts/system.txt",
        target="prompts/system.txt",
        size=len(data),
        sha256=digest.of_bytes(data),
        licence="Apache-2.0",
        owner="aibox",
    )


def test_the_file_beside_the_lock_wins_when_it_is_the_right_one(tmp_path: Path) -> None:
    for name, text in (("own", "old"), ("beside", "new")):
        path = tmp_path / name / "stacks/prompts/system.txt"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    checkout = Checkout((tmp_path / "beside", tmp_path / "own"))
    assert checkout.find(artifact(b"new")).is_relative_to(tmp_path / "beside")
    assert checkout.find(artifact(b"old")).is_relative_to(tmp_path / "own")


def test_a_file_that_is_not_what_the_lock_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stacks/prompts/system.txt"
    path.parent.mkdir(parents=True)
    path.write_text("changed")
    with pytest.raises(VerificationRefused) as caught:
        Checkout((tmp_path,)).find(artifact(b"locked"))
    assert caught.value.reference == "artifact-differs"


def test_a_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VerificationRefused) as caught:
        Checkout((tmp_path,)).find(artifact(b"locked"))
    assert caught.value.reference == "artifact-missing"
