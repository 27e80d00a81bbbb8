"""Models of the catalogue counted a second time, by a program that shares nothing with ours.

Written from vLLM 0.32's source (`v1/kv_cache_interface.py`, `v1/core/kv_cache_utils.py`) and from
the fields of config.json alone, for cards whose blocks have 16 tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from aibox import content
from aibox.fit import cards, catalogue, question
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment

SOURCES = Sources(catalogue.load(content.find().catalogue))
MEMORY, CONTEXT, STEP = 8 << 30, 32_768, 4096
Layer = tuple[str, int, int]
"""What a layer is, its bytes of a token (or of its state) and its window."""


def over(amount: int, step: int) -> int:
    return -(-amount // step)


def layers(config: dict[str, Any], cut: int, wide: int) -> list[Layer]:
    count = config["num_hidden_layers"]
    if "kv_lora_rank" in config:
        width = config["kv_lora_rank"] + config["qk_rope_head_dim"]
        return [("full", width * wide, 0)] * count
    heads = config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    near = max(1, heads // cut) * 2 * width * wide
    few = config.get("num_global_key_value_heads") or heads
    far = max(1, few // cut) * 2 * (config.get("global_head_dim") or width) * wide
    if every := config.get("full_attention_interval"):
        kept = ("state", state(config, cut), 0)
        return [kept if (index + 1) % every else ("full", far, 0) for index in range(count)]
    pattern, named = config.get("sliding_window_pattern"), config.get("layer_types")
    slides = [
        named[index] == "sliding_attention"
        if named
        else pattern[index % len(pattern)] == "L"
        if isinstance(pattern, str)
        else bool(pattern and (index + 1) % pattern)
        for index in range(count)
    ]
    window = config.get("sliding_window") or 0
    return [("slides", near, window) if one else ("full", far, 0) for one in slides]


def state(config: dict[str, Any], cut: int) -> int:
    words = ("num_value_heads", "num_key_heads", "value_head_dim", "key_head_dim")
    values, keys, value, key = (config[f"linear_{word}"] for word in words)
    number = 4 if config.get("mamba_ssm_dtype") == "float32" else 2
    tail = (2 * keys * key + values * value) // cut * (config["linear_conv_kernel_dim"] - 1) * 2
    return int(values // cut * value * key * number + tail)


def blocks(found: list[Layer]) -> tuple[int, int]:
    """How many there are, and how many a request of the full length takes."""
    tokens = 16
    states = [size for kind, size, _ in found if kind == "state"]
    if states:
        token = max(size for kind, size, _ in found if kind != "state")
        tokens *= max(1, over(max(states), 16 * token))
    pages = {one: one[1] if one[0] == "state" else one[1] * tokens for one in set(found)}
    if len({(kind, window) for kind, _, window in found}) == 1:
        return MEMORY // sum(pages[one] for one in found), held(found[0], tokens)
    page = max(size for one, size in pages.items() if one[0] != "state")
    counts = Counter(found)
    least, most = min(counts.values()), max(counts.values())
    size = most if most < 1.5 * least else least
    each = 0
    for one, count in counts.items():
        times = page // pages[one] if one[0] != "state" and page % pages[one] == 0 else 1
        each += over(count, size) * held(one, tokens * times)
    return MEMORY // (page * size), each


def held(one: Layer, tokens: int) -> int:
    kind, _, window = one
    if kind == "state":
        return 2
    if kind == "slides":
        return over(min(window - 1 + 2 * STEP, CONTEXT), tokens) + 1
    return over(CONTEXT, tokens)


@pytest.mark.parametrize(
    ("model", "cut", "cache"),
    [
        ("llama-3.3-70b-instruct", 16, "auto"),
        ("qwen3-32b-awq", 1, "auto"),
        ("qwen3-8b", 1, "fp8"),
        ("qwen3-30b-a3b", 4, "auto"),
        ("a.x-k1", 8, "auto"),
        ("kanana-2-30b-a3b-instruct-2601", 1, "auto"),
        ("gemma-3-27b-it", 2, "auto"),
        ("gemma-4-31b-it", 1, "auto"),
        ("gpt-oss-120b", 2, "auto"),
        ("exaone-4.0-32b", 1, "auto"),
        ("k-exaone-236b-a23b-fp8", 4, "auto"),
        ("qwen3.6-27b", 1, "auto"),
        ("qwen3.6-35b-a3b", 2, "auto"),
    ],
)
def test_a_second_count_finds_the_same(
    model: str, cut: int, cache: str, figure: Callable[[str], None]
) -> None:
    entry = SOURCES.catalogue.model(model)
    assert entry is not None
    config = SOURCES.catalogue.config(entry)
    told = layers(config.get("text_config", config), cut, 1 if cache == "fp8" else 2)
    count, each = blocks(told)
    arguments = {
        "kv-cache-memory-bytes": MEMORY,
        "kv-cache-dtype": cache,
        "tensor-parallel-size": cut,
        "max-num-seqs": 64,
        "max-num-batched-tokens": STEP,
    }
    adjust = Adjustment(context=CONTEXT, arguments=tuple(arguments.items()))
    on = cards.cards(SOURCES.catalogue, ["h200-sxm"], cut, None)
    found = question.of_model(SOURCES, model, on, adjust)
    assert found.low.memory == MEMORY
    assert (found.low.blocks, found.pool.per_request(CONTEXT, found.load)) == (count, each)
    assert found.bytes_per_token == cut * sum(size for kind, size, _ in told if kind == "full")
    figure(f"fit counted twice: {model} over {cut}: {count:,} blocks, {found.low.tokens:,} tokens")
