"""What the callback lets out of Ansible."""

from __future__ import annotations

import importlib.util
import json
import os
from types import ModuleType

import pytest

from aibox.box.ansible_inputs import CALLBACK_FOLDER


@pytest.fixture(scope="module")
def callback() -> ModuleType:
    """The plugin, loaded from its file as Ansible does."""
    spec = importlib.util.spec_from_file_location("events", CALLBACK_FOLDER / "aibox_events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("db_password=hunter2 port=1", "db_password=*** port=1"),
        ('{"api_key": "a b", "x": 1}', '{"api_key": ***, "x": 1}'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("get ftp://ann:pw@host/x", "get ftp://***@host/x"),
        ("\x1b[31mred\x1b[0m\x07 line\nnext", "red line\nnext"),
        ("no space left on device", "no space left on device"),
    ],
)
def test_a_message_shows_no_secret_and_no_control_character(
    callback: ModuleType, said: str, shown: str
) -> None:
    assert callback.scrub(said) == shown


def test_a_message_is_cut_to_a_length(callback: ModuleType) -> None:
    assert len(callback.scrub("x" * 10_000)) == callback.MESSAGE_CHARACTERS


def test_the_message_of_a_loop_is_that_of_its_failed_items(callback: ModuleType) -> None:
    items = [{"msg": "fine"}, {"failed": True, "msg": "no b"}, {"failed": True, "msg": "no c"}]
    result = {"msg": "One or more items failed", "results": items}
    assert callback.failure_message(result) == "no b; no c"


def test_the_message_of_a_task_with_no_log_stays_hidden(callback: ModuleType) -> None:
    assert "x" not in callback.failure_message({"censored": "...", "msg": "xxx"})


def test_a_reader_that_went_away_does_not_take_the_other_with_it(
    callback: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, lost = os.pipe()
    there, kept = os.pipe()
    os.close(gone)
    monkeypatch.setenv(callback.DESCRIPTORS_VARIABLE, f"{lost},{kept}")
    plugin = callback.CallbackModule()
    for name in ("one", "two"):
        plugin._emit("task", name=name)
    os.close(kept)
    with os.fdopen(there) as lines:
        assert [json.loads(line)["name"] for line in lines] == ["one", "two"]
    os.close(lost)
