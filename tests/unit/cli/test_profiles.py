"""`aibox profiles`: what there is, what this host can take, and why not the rest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import content
from aibox.box import gpus
from aibox.fit import catalogue as catalogues
from aibox.fit import loadable
from machines import A100_PCIE, gpu, machine

Types = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A server with two A100."""
    host = machine(gpu(A100_PCIE), gpu(A100_PCIE), problems=("NVML: refused",))
    monkeypatch.setattr(gpus, "detect", lambda: host)
    return tmp_path


def test_the_list_says_what_fits(types: Types) -> None:
    ended = types("profiles")
    lines = {line.split()[0]: line for line in ended.out.splitlines()}
    assert "yes" in lines["a100x2"].split()
    assert "2 x 79 GiB" in lines["a100x2"]
    assert "17 x 16,384" in lines["a100x2"]
    assert "yes" not in lines["h100x8"].split()
    assert "yes" in lines["local"].split()
    assert "NVML: refused" in ended.err
    assert "aibox profiles --json" in ended.err


def test_json_says_why(types: Types) -> None:
    rows = {row["name"]: row for row in types("profiles", "--json").json}
    assert rows["a100x2"]["fits"]
    assert rows["a100x1"]["notes"] == ["leaves 1 GPU unused"]
    assert rows["h100x8"]["reasons"][0].startswith("needs 8 of 10de:2330; the host has 2 of")
    assert rows["h100x8"]["hardware"]["fabric"] == "nvswitch"
    assert rows["local"]["hardware"] is None
    assert rows["a100x2"]["capacity"] == {"concurrency": 17, "context_tokens": 16384}
    assert rows["local"]["capacity"] is None


def test_one_is_shown_with_its_hardware(types: Types) -> None:
    assert types("profiles", "show", "l40sx1", "--json").json["hardware"]["gpus"] == ["10de:26b9"]
    shown = types("profiles", "show", "l40sx1").out
    assert "[hardware]" in shown and "[capacity]" in shown


def test_a_model_that_its_engine_cannot_load_is_a_reason(
    types: Types, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loadable, "release_in", lambda _reference: "0.10.0")
    known = catalogues.load(content.find().catalogue)
    late = [
        one.model_copy(update={"since": "0.11.0"}) if one.name == "Qwen2ForCausalLM" else one
        for one in known.architectures
    ]
    newer = known.model_copy(update={"architectures": tuple(late)})
    monkeypatch.setattr(catalogues, "load", lambda _folder: newer)
    rows = {row["name"]: row for row in types("profiles", "--json").json}
    assert not rows["a100x2"]["fits"]
    assert rows["a100x2"]["reasons"] == [
        "serving.chat: qwen2.5-72b-instruct-awq cannot be served: the engine has "
        "Qwen2ForCausalLM from 0.11.0 on; the pinned one is 0.10.0"
    ]
    assert rows["local"]["fits"]


@pytest.mark.parametrize(("words", "told"), [(("list",), "'list'"), (("show",), "which profile")])
def test_what_profiles_does_not_understand_is_named(
    types: Types, words: tuple[str, ...], told: str
) -> None:
    ended = types("profiles", *words, "--json")
    assert (ended.code, ended.json["reference"]) == (2, "profiles-usage")
    assert told in ended.json["message"]
