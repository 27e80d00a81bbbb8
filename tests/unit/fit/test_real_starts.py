"""Starts of vLLM 0.26 on one H200, with weights of no meaning, against what we compute of them.

What was recorded, of which card and when, stands in tests/assets/h200/README.md.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibox import content, profile
from aibox.fit import answer as answers
from aibox.fit import cards, catalogue, overhead, question
from aibox.fit.answer import Answer
from aibox.fit.engine import GIB, MIB
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.measuring import start_log
from aibox.measuring.start_log import Started

H200 = Path(__file__).parents[2] / "assets/h200"
CONTENT = content.find()
CATALOGUE = catalogue.load(CONTENT.catalogue)
CARD = cards.cards(CATALOGUE, ["h200-sxm"], 1, None)
STARTS = tomllib.loads((H200 / "starts.toml").read_text(encoding="utf-8"))["start"]
NAMED = {start["name"]: start for start in STARTS}
MEASURED = [start for start in STARTS if "available" in start]
WEIGHTS_WITHIN = 0.0025
LESS_CERTAIN = {
    # Tables of a million positions, which we count beside the weights.
    "gemma-3-12b-text": 0.032,
    # The engine widens matrices in 4 bits to what its kernels like.
    "gpt-oss-20b": 0.018,
    # Positions, norms and the head that scores.
    "bge-m3": 0.022,
    "bge-reranker-v2-m3": 0.022,
}

Figure = Callable[[str], None]
of_each = pytest.mark.parametrize("start", STARTS, ids=lambda start: start["name"])
of_measured = pytest.mark.parametrize("start", MEASURED, ids=lambda start: start["name"])


def told(name: str) -> Started:
    return start_log.parse((H200 / f"starts/{name}.log").read_text(encoding="utf-8"))


def computed(config: str, arguments: dict[str, Any], folder: Path) -> Answer:
    """As `aibox fit --model FOLDER` does, where the folder has no weights."""
    config_json = (H200 / f"configs/{config}.json").read_bytes()
    (folder / "config.json").write_bytes(config_json)
    engine = {key: value for key, value in arguments.items() if key != "runner"}
    adjust = Adjustment(arguments=tuple(engine.items()))
    return question.of_model(Sources(CATALOGUE), str(folder), CARD, adjust)


def percent(ours: float, theirs: float) -> str:
    return f"{100 * (ours / theirs - 1):+.2f} %"


@of_each
def test_weights_are_what_the_engine_loaded(
    start: dict[str, Any], tmp_path: Path, figure: Figure
) -> None:
    if "weights" not in start:
        start = {**start, "weights": told(start["name"]).weights_gib * GIB}  # type: ignore[operator]
    ours = computed(start["config"], start["arguments"], tmp_path).weights_per_gpu
    figure(f"fit on an H200: {start['name']}: weights {percent(ours, start['weights'])}")
    within = LESS_CERTAIN.get(start["config"], WEIGHTS_WITHIN)
    assert ours == pytest.approx(start["weights"], rel=within)


@of_measured
def test_the_memory_that_was_found_lies_within_the_range(
    start: dict[str, Any], tmp_path: Path, figure: Figure
) -> None:
    found = computed(start["config"], start["arguments"], tmp_path)
    low, high, real = found.low.memory, found.high.memory, start["available"]
    figure(
        f"fit on an H200: {start['name']}: for contexts {low / GIB:.2f} to {high / GIB:.2f} GiB, "
        f"found {real / GIB:.2f}; at worst {percent(low, real)}, at best {percent(high, real)}"
    )
    assert low <= real <= high


@of_measured
def test_blocks_tokens_and_requests_are_exactly_the_engines(
    start: dict[str, Any], tmp_path: Path
) -> None:
    found, log = computed(start["config"], start["arguments"], tmp_path), told(start["name"])
    capacity = answers.capacity(
        found.pool, found.load, found.context, start["available"], found.ask.engine
    )
    assert capacity.blocks == start["blocks"]
    assert capacity.tokens == log.tokens
    assert round(capacity.concurrency, 2) == log.concurrency


@of_measured
def test_each_part_lies_between_its_ends(start: dict[str, Any], tmp_path: Path) -> None:
    parts = {one.name: one for one in computed(start["config"], start["arguments"], tmp_path).parts}
    for name in ("activations", "driver"):
        assert parts[name].low <= start[name] <= parts[name].high, name
    graphs = told(start["name"]).graphs_gib
    if graphs:
        assert parts["graphs"].low <= graphs * GIB <= parts["graphs"].high


def test_a_card_keeps_back_what_we_say_and_cuda_too(tmp_path: Path) -> None:
    parts = {one.name: one for one in computed("qwen3-8b", {}, tmp_path).parts}
    # NVML's total and reserved memory, and the engine's first look at what is free.
    offered, reserved = 150_109_880_320, 644_939_776
    assert parts["reserved"].low <= reserved <= parts["reserved"].high
    assert offered + reserved == 143_771 * MIB
    assert parts["process"].low <= offered - 149_557_477_376 <= parts["process"].high


@pytest.mark.parametrize("name", ["bge-m3", "bge-reranker-v2-m3"])
def test_what_stands_beside_an_engine_takes_what_we_say(name: str, tmp_path: Path) -> None:
    start = NAMED[name]
    found = computed(start["config"], start["arguments"], tmp_path)
    low, high = overhead.of_engine(found.parts)
    held = found.weights_per_gpu
    assert held + low <= start["used_mib"] * MIB <= held + high


def test_memory_that_is_fixed_holds_exactly_as_many_blocks(tmp_path: Path) -> None:
    start = NAMED["llama-3.3-70b-fp8-frozen"]
    found = computed(start["config"], start["arguments"], tmp_path)
    assert found.fits
    assert found.low.blocks == found.high.blocks == start["blocks"]
    assert found.low.tokens == told(start["name"]).tokens


def test_what_the_profile_fixes_is_less_than_the_engine_found_beside_the_others() -> None:
    chat = profile.load(CONTENT.profiles, "h200x1").serving["chat"]
    beside = NAMED["llama-3.3-70b-fp8"]
    assert chat.model == beside["config"]
    assert 0 < chat.arguments["kv-cache-memory-bytes"] <= beside["available"]


def test_a_start_that_finds_its_caches_leaves_more_for_contexts() -> None:
    cold, kept = told("qwen3-8b-served-cold"), told("qwen3-8b-served-kept")
    assert cold.cache_gib is not None
    assert kept.cache_gib is not None
    assert 0.4 < kept.cache_gib - cold.cache_gib < 0.6
    assert cold.suggested is not None
    # So what a first start proposes to freeze is never too much for a later one.
    assert cold.suggested / GIB < kept.cache_gib


def test_weights_that_do_not_fit_are_refused_by_both(tmp_path: Path) -> None:
    log = (H200 / "starts/refused-a.x-4.0.log").read_text(encoding="utf-8")
    assert "No available memory for the cache blocks" in log
    arguments = NAMED["qwen3-8b-eager"]["arguments"]
    found = computed("a.x-4.0", arguments, tmp_path)
    assert not found.may_fit
    # "Available KV cache memory: -7.44 GiB"
    assert found.low.memory <= -7.44 * GIB <= found.high.memory


def test_a_context_that_does_not_fit_is_refused_by_both(tmp_path: Path) -> None:
    log = (H200 / "starts/refused-too-long.log").read_text(encoding="utf-8")
    arguments = {**NAMED["qwen3-8b-eager"]["arguments"], "gpu-memory-utilization": 0.14}
    found = computed("qwen3-8b", arguments, tmp_path)
    assert "(4.5 GiB KV cache is needed" in log
    needed = found.pool.per_request(32768, found.load) * found.pool.bytes_per_block(range(36))
    assert needed == 4.5 * GIB
    assert not found.may_fit
    # "Available KV cache memory: 3.24 GiB", "the estimated maximum model length is 23552": of
    # what it asked for, less what it counted in the same start with a larger share.
    counted = NAMED["qwen3-8b-eager"]
    taken = counted["weights"] + counted["activations"] + counted["driver"]
    real = -(-150_109_880_320 * 14 // 100) - taken
    assert round(real / GIB, 2) == 3.24
    assert found.low.memory <= real <= found.high.memory
    longest = found.pool.longest(found.pool.count([real]), 32768, found.load)
    # We keep a block back, as vLLM 0.32 does.
    assert longest == 23552 - 16
