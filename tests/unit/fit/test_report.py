"""What is told of an answer: to people, and as a drawing."""

from __future__ import annotations

import re

import pytest

from aibox import content
from aibox import profile as profiles
from aibox.fit import cards, catalogue, question, report
from aibox.fit.answer import Answer
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment

CONTENT = content.find()
SOURCES = Sources(catalogue.load(CONTENT.catalogue))


def ask(model: str, gpu: str, count: int = 1, **words: object) -> Answer:
    on = cards.cards(SOURCES.catalogue, [gpu], count, None)
    return question.of_model(SOURCES, model, on, Adjustment(**words))  # type: ignore[arg-type]


def drawn(found: Answer) -> list[str]:
    """The points of each line."""
    return re.findall(r'points="([^"]*)"', report.drawing(found) or "")


@pytest.mark.parametrize("context", [2, 200, 256, 300, 40960])
def test_a_line_has_points_whatever_the_context(context: int) -> None:
    lines = drawn(ask("qwen3-8b", "l40s", context=context))
    assert lines
    assert all(len(line.split()) > 1 for line in lines)


def test_what_the_engine_refuses_is_not_drawn_as_if_it_ran() -> None:
    split = (("pipeline-parallel-size", 1),)
    assert report.drawing(ask("qwen3-14b", "l40s", 3, arguments=split)) is None


def test_one_length_alone_is_no_line() -> None:
    assert report.drawing(ask("qwen3-8b", "l40s", context=1)) is None


def test_frozen_memory_is_one_line_and_not_a_range() -> None:
    assert len(drawn(ask("qwen3-8b", "l40s"))) == 2
    frozen = (("kv-cache-memory-bytes", 8 << 30),)
    assert len(drawn(ask("qwen3-8b", "l40s", arguments=frozen))) == 1


def test_a_box_without_a_gpu_is_not_told_of_gpus() -> None:
    profile = profiles.load(CONTENT.profiles, "cpu")
    found = question.of_profile(SOURCES, profile, Adjustment())["chat"]
    told = "\n".join(report.lines(found, ()))
    assert "GPU" not in told
    assert "memory that it may use" in told


def test_what_stops_the_engine_is_told_and_not_what_memory_lacks() -> None:
    found = ask("gpt-oss-120b", "t4")
    assert "stops the engine" in "\n".join(report.lines(found, ()))
    assert report.lacking(found) == ""
    assert "lack for what was asked" in report.lacking(ask("qwen3-32b", "rtx4090"))
