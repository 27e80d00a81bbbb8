"""Keys that are handed over as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rag_app.errors import ConfigError
from rag_app.key_file import read_key

SETTING = "engine.api_key_file"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text("sk-canary\n", encoding="ascii")
    path.chmod(0o600)
    return path


@pytest.fixture
def of_somebody_else(key: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As a secret that a container gets: owned by root, read by its group."""
    monkeypatch.setattr("rag_app.key_file.os.geteuid", lambda: os.getuid() + 1)
    return key


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_of_ones_own_is_read(key: Path, mode: int) -> None:
    key.chmod(mode)
    assert read_key(key, SETTING) == "sk-canary"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o620])
def test_a_key_that_others_may_read_is_refused_with_the_command(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(ConfigError, match=r"^engine\.api_key_file: .*chmod 600") as failure:
        read_key(key, SETTING)
    assert "sk-canary" not in str(failure.value)


@pytest.mark.parametrize("mode", [0o440, 0o640, 0o400])
def test_a_secret_that_a_container_was_given_may_be_read_by_its_group(
    of_somebody_else: Path, mode: int
) -> None:
    of_somebody_else.chmod(mode)
    assert read_key(of_somebody_else, SETTING) == "sk-canary"


@pytest.mark.parametrize("mode", [0o444, 0o644, 0o660, 0o641])
def test_a_secret_is_for_nobody_else_and_nobody_else_changes_it(
    of_somebody_else: Path, mode: int
) -> None:
    of_somebody_else.chmod(mode)
    with pytest.raises(ConfigError, match="others may read the key"):
        read_key(of_somebody_else, SETTING)


@pytest.mark.parametrize("content", ["", "two\nlines", "비밀"])
def test_a_file_that_is_no_key_is_refused(key: Path, content: str) -> None:
    key.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"vectors\.api_key_file"):
        read_key(key, "vectors.api_key_file")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none: cannot be read"):
        read_key(tmp_path / "none", SETTING)
