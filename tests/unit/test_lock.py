"""models.lock: what is read, and what is refused with which path."""

from __future__ import annotations

import contextlib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from aibox.errors import AiboxError, BadUsage, Fault
from aibox.lock import load, parse, tuning_of
from examples import HEX, LOCK, lock


def test_a_valid_lock_is_read() -> None:
    found = lock()
    assert found.tuning["local"].top_k == 6
    assert found.tree[0].files[0].sha256 == HEX


def test_writing_and_reading_a_lock_changes_nothing() -> None:
    found = lock()
    assert parse(tomli_w.dumps(found.model_dump(mode="json", exclude_none=True))) == found


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("top_k = 6", "top_k = 6\ntop_kk = 6", "tuning.local.top_kk"),
        ("top_k = 6", "top_k = 0", "tuning.local.top_k"),
        ("top_k = 6", 'top_k = "many"', "tuning.local.top_k"),
        ("size = 3", "size = -1", "tree[0].files[0].size"),
        ("size = 3", "size = 3, colour = 1", "tree[0].files[0].colour"),
        (f'sha256 = "{HEX}" }}', 'sha256 = "A" }', "tree[0].files[0].sha256"),
        ('path = "system.txt"', 'path = "../system.txt"', "tree[0].files[0].path"),
        ('path = "system.txt"', 'path = "/etc/passwd"', "tree[0].files[0].path"),
        ('role = "prompts"', 'role = "pickle"', "tree[0].role"),
        ('document = "upgrade-and-rollback.md"', "", "golden[0]"),
        ("revision = 0", 'revision = 0\nsurprise = "x"', "surprise"),
        ("[[wheel]]", '[[tree]]\nname = "prompts"\nrole = "app"\nroot = "x"\nlicence = "x"\n'
         'owner = "x"\nfiles = []\n[[wheel]]', "tree: named twice: prompts"),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_with_its_path(old: str, new: str, path: str) -> None:
    with pytest.raises(BadUsage) as caught:
        parse(LOCK.replace(old, new, 1))
    assert path in caught.value.message
    assert caught.value.hint.endswith("./aibox lock")


def test_a_newer_lock_is_refused_as_too_new() -> None:
    with pytest.raises(BadUsage) as caught:
        parse(LOCK.replace("version = 1", "version = 2", 1))
    assert caught.value.reference == "lock-too-new"
    assert caught.value.fault is Fault.YOU


def test_a_compatible_addition_is_read() -> None:
    assert parse(LOCK.replace("revision = 0", "revision = 7")).revision == 7


@pytest.mark.parametrize("text", ["", "version = true", "version = 0", "version = 1", "= ="])
def test_malformed_text_is_a_usage_error(text: str) -> None:
    with pytest.raises(BadUsage):
        parse(text)


def test_a_missing_file_names_itself(tmp_path) -> None:
    with pytest.raises(BadUsage, match=r"absent\.lock does not exist"):
        load(tmp_path / "absent.lock")


def test_bytes_that_are_not_text_are_a_usage_error(tmp_path) -> None:
    (tmp_path / "models.lock").write_bytes(b"\xff\xfe")
    with pytest.raises(BadUsage, match="cannot be read"):
        load(tmp_path / "models.lock")


def test_a_profile_that_is_not_locked_is_named() -> None:
    with pytest.raises(BadUsage, match="a100x2"):
        tuning_of(lock(), "a100x2")


@given(st.text(max_size=300))
def test_any_text_is_read_or_refused_but_never_a_crash(text: str) -> None:
    with contextlib.suppress(AiboxError):
        parse(text)


@given(st.integers(0, len(LOCK) - 1), st.characters())
def test_any_changed_character_is_read_or_refused(position: int, character: str) -> None:
    with contextlib.suppress(AiboxError):
        parse(LOCK[:position] + character + LOCK[position + 1 :])
