"""A calibration from a site in the profile that it is of: one line, or a refusal."""

from __future__ import annotations

import datetime
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import measured_box
import stack_examples
from aibox import adopting
from aibox import content as contents
from aibox import lock as locks
from aibox.content import Content
from aibox.errors import BadUsage
from aibox.measuring import basis, calibration
from aibox.measuring.calibration import Calibration
from aibox.measuring.metrics import Metrics
from aibox.measuring.start_log import Started
from measured_box import HARDWARE, ON_GPU, SMALL_ON_GPU, TWO_ON_GPU

CARDS = ("NVIDIA A100-SXM4-80GB, 81920 MiB",)
TEXT = stack_examples.profile_text(ON_GPU, extra=HARDWARE)
PROJECT = sorted(contents.find().profiles.glob("*.toml"))


def made(**changes: Any) -> Calibration:
    values: dict[str, Any] = {
        "version": 1,
        "made": datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC),
        "release": "f" * 64,
        "generation": 1,
        "profile": "cpu",
        "basis": basis.of_release(stack_examples.release(TEXT), "chat", CARDS),
        "started": Started(engine="0.32.0"),
        "metrics": Metrics(),
        "rows": (),
        "freeze": 29_407_858_586,
    }
    return Calibration(**values | changes)


@pytest.fixture
def project(tmp_path: Path) -> Content:
    """A checkout with the profile and its lock."""
    content = Content(tmp_path)
    content.profiles.mkdir(parents=True)
    (content.profiles / "cpu.toml").write_text(TEXT)
    content.lockfile.write_text(locks.dump(stack_examples.lock(stack_examples.profile(TEXT))))
    return content


def file_of(content: Content, found: Calibration) -> Path:
    path = content.root / "calibration.json"
    path.write_bytes(calibration.dump(found))
    return path


def profile_of(content: Content) -> str:
    return (content.profiles / "cpu.toml").read_text()


def test_the_value_stands_in_the_profile_with_where_it_is_from(project: Content) -> None:
    with adopting.adopted(project, file_of(project, made())) as name:
        assert name == "cpu"
    added = [line for line in profile_of(project).splitlines() if line not in TEXT.splitlines()]
    assert added == [
        "kv-cache-memory-bytes = 29407858586  # measured 2026-11-25 by vLLM 0.32.0 on "
        "1 x NVIDIA A100-SXM4-80GB, 81920 MiB"
    ]
    assert (
        stack_examples.profile(profile_of(project))
        .serving["chat"]
        .arguments["kv-cache-memory-bytes"]
        == 29_407_858_586
    )


def test_what_a_file_says_of_its_hardware_stays_one_comment() -> None:
    odd = made().basis.model_copy(update={"hardware": ("a card\x00\x1b[2J\nmodel = 1",)})
    text = adopting.edited(TEXT, made(basis=odd))
    assert "on 1 x a card[2J model = 1" in text


def test_a_value_that_was_there_is_replaced_in_its_place(project: Content) -> None:
    once = adopting.edited(TEXT, made())
    twice = adopting.edited(once, made(freeze=7))
    assert twice.count("kv-cache-memory-bytes") == 1
    assert len(twice.splitlines()) == len(once.splitlines())


def test_a_lock_that_fails_leaves_the_profile_as_it_was(project: Content) -> None:
    with pytest.raises(RuntimeError), adopting.adopted(project, file_of(project, made())):
        raise RuntimeError("nobody answers")
    assert profile_of(project) == TEXT


@pytest.mark.parametrize(
    ("changes", "reference"),
    [
        ({"freeze": None, "why_not": "the log does not say"}, "calibration-freezes-nothing"),
        ({"profile": "absent"}, "profile-unknown"),
        ({"version": 3}, "calibration-too-new"),
        ({"service": "small"}, "calibration-stale"),
        ({"service": "embedding"}, "calibration-stale"),
        ({"basis": made().basis.model_copy(update={"engine": "0" * 64})}, "calibration-stale"),
        ({"basis": made().basis.model_copy(update={"model": "0" * 64})}, "calibration-stale"),
        ({"basis": made().basis.model_copy(update={"arguments": {}})}, "calibration-stale"),
        ({"freeze": 120 << 30}, "calibration-stale"),
    ],
)
def test_what_does_not_hold_here_is_refused(
    project: Content, changes: dict[str, Any], reference: str
) -> None:
    with (
        pytest.raises(BadUsage) as caught,
        adopting.adopted(project, file_of(project, made(**changes))),
    ):
        pass
    assert caught.value.reference == reference
    assert profile_of(project) == TEXT


def test_a_profile_without_a_place_for_it_is_told_what_to_write(project: Content) -> None:
    with pytest.raises(BadUsage) as caught:
        adopting.edited(
            TEXT.replace("[serving.chat.arguments]", "[ serving.chat.arguments ]"), made()
        )
    assert caught.value.reference == "calibration-no-place"
    assert "kv-cache-memory-bytes = 29407858586" in caught.value.hint


SERVED = [
    (path, service)
    for path in PROJECT
    for service in ("chat", "small")
    if f"[serving.{service}]" in path.read_text()
]


@pytest.mark.parametrize(("path", "service"), SERVED, ids=lambda one: getattr(one, "stem", one))
def test_every_profile_of_the_project_has_a_place_for_it(path: Path, service: str) -> None:
    text = path.read_text()
    taken_in = adopting.edited(text, made(service=service))
    before, after = tomllib.loads(text), tomllib.loads(taken_in)
    assert after["serving"][service]["arguments"].pop("kv-cache-memory-bytes") == 29_407_858_586
    before["serving"][service]["arguments"].pop("kv-cache-memory-bytes", None)
    assert after == before


def test_that_of_a_small_model_goes_to_the_small_model(project: Content) -> None:
    text = stack_examples.profile_text(TWO_ON_GPU + SMALL_ON_GPU, extra=HARDWARE)
    text = measured_box.with_router(text)
    (project.profiles / "cpu.toml").write_text(text)
    project.lockfile.write_text(locks.dump(stack_examples.lock(stack_examples.profile(text))))
    mine = basis.of_release(stack_examples.release(text), "small", CARDS)
    with adopting.adopted(project, file_of(project, made(service="small", basis=mine))):
        pass
    serving = stack_examples.profile(profile_of(project)).serving
    frozen = {name: one.arguments["kv-cache-memory-bytes"] for name, one in serving.items()}
    assert frozen == {"chat": 40 << 30, "small": 29_407_858_586}
    # Both were measured beside each other: the memory that is free can be given away once.
    chat = basis.of_release(stack_examples.release(text), "chat", CARDS)
    of_both = stack_examples.lock(stack_examples.profile(profile_of(project)))
    project.lockfile.write_text(locks.dump(of_both))
    with (
        pytest.raises(BadUsage, match="of small on the same GPUs") as caught,
        adopting.adopted(project, file_of(project, made(basis=chat))),
    ):
        pass
    assert caught.value.reference == "calibration-stale"


def test_one_of_before_is_of_the_engine_that_everybody_asks(project: Content) -> None:
    told = json.loads(calibration.dump(made(version=1)))
    del told["service"], told["basis"]["beside"]
    file = project.root / "calibration.json"
    file.write_text(json.dumps(told))
    with adopting.adopted(project, file):
        pass
    assert "kv-cache-memory-bytes = 29407858586" in profile_of(project)


def test_a_file_that_is_not_there_is_wrong_usage(project: Content) -> None:
    with (
        pytest.raises(BadUsage, match="cannot be read"),
        adopting.adopted(project, project.root / "absent.json"),
    ):
        pass


def test_a_file_without_an_end_is_wrong_usage(project: Content) -> None:
    with (
        pytest.raises(BadUsage, match="is larger than any calibration"),
        adopting.adopted(project, Path("/dev/zero")),
    ):
        pass


@pytest.mark.parametrize(
    "changes", [{"freeze": 0}, {"freeze": -1}, {"version": 0}, {"profile": "../cpu"}]
)
def test_a_calibration_that_cannot_be_is_wrong_usage(changes: dict[str, Any]) -> None:
    told = json.loads(calibration.dump(made())) | changes
    with pytest.raises(BadUsage) as caught:
        calibration.parse(json.dumps(told).encode(), "a file")
    assert caught.value.reference == "calibration-unreadable"


@given(st.binary() | st.sampled_from([b"{}", b"[]", b'{"version": "x"}', b"[" * 9999]))
def test_any_other_file_is_wrong_usage(data: bytes) -> None:
    with pytest.raises(BadUsage) as caught:
        calibration.parse(data, "a file")
    assert caught.value.reference in ("calibration-unreadable", "calibration-too-new")
