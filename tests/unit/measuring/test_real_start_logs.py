"""`aibox calibrate` over starts that were recorded on one H200 (tests/assets/h200)."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

import measured_box
from aibox import content, measure
from aibox.fit import cards, catalogue, question
from aibox.fit.answer import Answer
from aibox.fit.engine import GIB
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.measuring import calibration, metrics, start_log
from aibox.measuring.calibration import Room
from aibox.measuring.metrics import Metrics
from aibox.measuring.start_log import Started

H200 = Path(__file__).parents[2] / "assets/h200"
STARTS = tomllib.loads((H200 / "starts.toml").read_text(encoding="utf-8"))["start"]
SERVED = ("qwen3-8b-served-cold", "qwen3-8b-served-kept")
LEFT = 11_270 << 20
"""What stayed free of the card, as nvidia-smi said."""


def started(name: str) -> Started:
    return start_log.parse((H200 / f"starts/{name}.log").read_text(encoding="utf-8"))


def read_metrics(name: str) -> Metrics:
    text = (H200 / f"metrics-{name.removeprefix('qwen3-8b-')}.txt").read_text(encoding="utf-8")
    return metrics.parse(text)


def predicted(name: str) -> Answer:
    arguments: dict[str, Any] = next(one for one in STARTS if one["name"] == name)["arguments"]
    known = catalogue.load(content.find().catalogue)
    on = cards.cards(known, ["h200-sxm"], 1, None)
    adjust = Adjustment(arguments=tuple(arguments.items()))
    return question.of_model(Sources(known), "qwen3-8b", on, adjust)


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start["name"])
def test_the_log_says_what_the_engine_counted(start: dict[str, Any]) -> None:
    found = started(start["name"])
    assert found.engine == "0.26.0"
    if "weights" in start:
        assert found.weights_gib == round(start["weights"] / GIB, 2)
    if "available" in start:
        assert found.cache_gib == round(start["available"] / GIB, 2)
        assert found.activation_gib == round(start["activations"] / GIB, 2)
        assert found.suggested is not None
        assert found.suggested <= start["available"]
    assert found.start_s is not None


def test_what_was_fixed_is_read_as_fixed() -> None:
    found = started("llama-3.3-70b-fp8-frozen")
    assert (found.frozen, found.cache_gib, found.suggested) == (True, 48.25, None)


@pytest.mark.parametrize("name", ["too-long", "not-free", "a.x-4.0"])
def test_a_refused_start_has_no_capacity(name: str) -> None:
    found = started(f"refused-{name}")
    assert (found.engine, found.tokens, found.start_s) == ("0.26.0", None, None)


@pytest.mark.parametrize("name", SERVED)
def test_a_calibration_of_a_real_start_finds_every_value_as_computed(name: str) -> None:
    found = started(name)
    rows = calibration.compare(predicted(name), found, read_metrics(name), None, (LEFT,))
    assert [row.within for row in rows] == [True, True, True, True, True, None]
    assert rows[-1].measured == pytest.approx(11.01, abs=0.01)


@pytest.mark.parametrize(
    ("name", "bytes_"), [*zip(SERVED, (119_676_857_959, 120_217_964_135), strict=True)]
)
def test_what_it_proposes_to_freeze_are_the_engines_own_words(name: str, bytes_: int) -> None:
    freeze, why_not = calibration.to_freeze(started(name), gpus=True, frozen=None, rooms=())
    assert (freeze, why_not) == (bytes_, "")


def test_what_stays_free_of_a_card_with_fixed_memory_is_proposed_too() -> None:
    # The 70B model beside its embedder and reranker, after 64 requests of 2,048 tokens at once.
    freeze, _ = calibration.to_freeze(
        started("llama-3.3-70b-fp8-frozen"),
        gpus=True,
        frozen=51_808_043_008,
        rooms=[Room(16_804_413_440)],
    )
    assert freeze is not None
    assert 51_808_043_008 < freeze < 51_808_043_008 + 16_804_413_440


@pytest.mark.parametrize("name", SERVED)
def test_the_metrics_say_the_same_as_the_log(name: str) -> None:
    told, found = read_metrics(name), started(name)
    assert told.tokens == found.tokens
    assert told.cache_bytes is None
    assert told.block_tokens == 16


def test_a_box_calibrates_itself_by_a_recorded_log(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = measured_box.make(place / "box", monkeypatch)
    served = (H200 / "starts/qwen3-8b-served-kept.log").read_text(encoding="utf-8")
    # As Docker hands it on: what came before and what comes with requests are in it too.
    box.docker.log = f"Available KV cache memory: 1.00 GiB\n{served}GPU KV cache size: 7 tokens\n"
    box.docker.metrics = (H200 / "metrics-served-kept.txt").read_text(encoding="utf-8")
    box.serve(measured_box.release(measured_box.ON_GPU, hardware=measured_box.HARDWARE))
    done = measure.calibrate(box.place)
    assert done.calibration.started == started("qwen3-8b-served-kept")
    assert done.calibration.metrics.tokens == 818_048
    assert done.calibration.freeze == 120_217_964_135
    assert calibration.parse(done.path.read_bytes(), "file") == done.calibration
