"""vLLM's metrics: those of a real engine, and any text at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.measuring import metrics
from aibox.measuring.metrics import Metrics

ENGINE = Path(__file__).parents[2] / "assets/engine"


def test_the_metrics_of_a_real_engine_are_read() -> None:
    found = metrics.parse((ENGINE / "metrics-0.32.0.txt").read_text())
    assert found == Metrics(
        blocks=4096,
        block_tokens=128,
        cache_bytes=1 << 30,
        tokens=524_288,
        preemptions=0,
        written_tokens=64,
    )


def test_counts_of_several_engines_are_added() -> None:
    line = 'vllm:num_preemptions_total{{engine="{}",model_name="m"}} {}\n'
    assert metrics.parse(line.format(0, "2.0") + line.format(1, "3.0")).preemptions == 5


def test_what_the_engine_was_not_told_is_unknown() -> None:
    text = 'vllm:cache_config_info{kv_cache_memory_bytes="None",num_gpu_blocks="7"} 1.0\n'
    assert metrics.parse(text) == Metrics(blocks=7)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1.0", "1e300", "many"])
def test_a_count_that_cannot_be_is_unknown(value: str) -> None:
    labels = f'kv_cache_memory_bytes="{value}",num_gpu_blocks="7"'
    text = f"vllm:cache_config_info{{{labels}}} 1.0\n"
    text += f'vllm:num_preemptions_total{{engine="0"}} {value}\n'
    assert metrics.parse(text) == Metrics(blocks=7)


@given(st.text() | st.text().map(lambda text: f"vllm:cache_config_info{{{text}}} 1.0"))
def test_any_text_is_read(text: str) -> None:
    assert isinstance(metrics.parse(text), Metrics)
