"""Files that people write: what is wrong in one is told in words that help to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox import schema
from aibox import site as sites
from aibox.errors import BadUsage, Failed

GOOD = b"version = 1\n"
DEEP = b"x = " + b"[" * 5000 + b"]" * 5000


def refusal(path: Path) -> BadUsage:
    with pytest.raises(BadUsage) as caught:
        sites.load(path)
    assert caught.value.hint.endswith(f"./aibox plan --inventory {path}")
    return caught.value


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"\xef\xbb\xbf" + GOOD, "it begins with a byte order mark; save it as UTF-8 without one"),
        (GOOD.decode().encode("utf-16"), "byte 0 is no UTF-8; save it as UTF-8"),
        (GOOD + b'x = "\xb0\xa1"', "byte 17 is no UTF-8"),
        (GOOD + b"x = " + b"9" * 5000, "is not TOML: a number in it has too many digits"),
        (GOOD + DEEP, "is not TOML: it is nested too deeply"),
        (GOOD + GOOD, "Cannot overwrite a value (at line 2"),
        (GOOD + b"colour = 1", ": colour: there is no such key"),
        (GOOD + b'[container]\nnames = "box"', ": container.names: must be a list"),
        (GOOD + b"container = 1", ": container: must be a table"),
        (GOOD + b"hosts = 1", ": hosts: must be a table"),
        (GOOD + b'[engine]\nkind = "openai"', ": engine: an openai engine needs both"),
    ],
)
def test_what_is_wrong_is_said_in_words_that_help(
    tmp_path: Path, data: bytes, problem: str
) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(data)
    assert problem in refusal(path).message


def test_what_is_wrong_between_two_parts_has_no_path_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    host = 'address = "192.0.2.1"\ngroups = ["gpu"]\n'
    path.write_text(f"version = 1\n[hosts.a]\n{host}[hosts.b]\n{host}")
    assert refusal(path).message == f"{path}: hosts: two have the same address"


def test_a_folder_is_told_as_one(tmp_path: Path) -> None:
    assert refusal(tmp_path).message == f"{tmp_path} cannot be read: Is a directory"


def test_a_long_key_does_not_fill_the_screen(tmp_path: Path) -> None:
    path = tmp_path / "site.toml"
    path.write_bytes(GOOD + b"k" * 100_000 + b" = 1")
    assert len(refusal(path).message) < len(str(path)) + 120


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "models.lock"
    path.write_text("old")
    (tmp_path / "models.lock.new").mkdir()
    with pytest.raises(Failed) as caught:
        schema.replace_text(path, "new", what="lock", command="./aibox lock")
    assert (caught.value.reference, path.read_text()) == ("lock-not-written", "old")
    assert caught.value.message == f"{path} cannot be written: Is a directory"
    assert caught.value.hint.endswith("./aibox lock")
