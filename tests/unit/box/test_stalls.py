"""Notes of engines that hung: read from folders that containers write to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.box import stalls

NOW = 1_800_000_000.0


def note(root: Path, engine: str, content: bytes) -> Path:
    folder = root / "cache" / engine
    folder.mkdir(parents=True)
    (folder / stalls.NOTE).write_bytes(content)
    return folder / stalls.NOTE


def test_those_of_the_last_day_are_told_by_service(tmp_path: Path) -> None:
    note(tmp_path, "chat-0123456789abcdef", json.dumps([NOW - 90_000, NOW - 60, NOW - 5]).encode())
    note(tmp_path, "chat-fedcba9876543210", json.dumps([NOW - 70]).encode())
    note(tmp_path, "rerank-0123456789abcdef", json.dumps([NOW - 90_000]).encode())
    (found,) = stalls.read(tmp_path, NOW)
    assert (found.service, found.times, found.last) == ("chat", 3, "2027-01-15T07:59:55+00:00")


def test_a_box_without_engines_has_none(tmp_path: Path) -> None:
    assert stalls.read(tmp_path, NOW) == ()


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'["x", null, true]', b"[1e999, NaN]"])
def test_a_note_that_is_none_is_passed_over(tmp_path: Path, content: bytes) -> None:
    note(tmp_path, "chat-0123456789abcdef", content)
    assert stalls.read(tmp_path, NOW) == ()


@given(st.binary(max_size=200))
def test_whatever_a_container_writes_is_read(content: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        note(Path(folder), "chat-0123456789abcdef", content)
        stalls.read(Path(folder), NOW)


def test_a_note_leads_nowhere_else_and_holds_nobody_up(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps([NOW - 1]))
    link = note(tmp_path, "chat-0123456789abcdef", b"")
    link.unlink()
    link.symlink_to(elsewhere)
    pipe = note(tmp_path, "rerank-0123456789abcdef", b"")
    pipe.unlink()
    os.mkfifo(pipe)
    assert stalls.read(tmp_path, NOW) == ()
