"""vLLM's start logs: those of real starts, and any text at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.measuring import start_log
from aibox.measuring.start_log import Started

ENGINE = Path(__file__).parents[2] / "assets/engine"
FIRST = "(EngineCore pid=1) INFO [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config:"

REAL = {
    "cpu-0.32.0": Started(
        engine="0.32.0",
        start_s=2.58,
        cache_gib=1.0,
        frozen=True,
        tokens=524_288,
        context=16_384,
        concurrency=32.0,
    ),
    "h100": Started(
        start_s=17.82,
        cache_gib=55.15,
        free_gib=78.66,
        activation_gib=1.97,
        graphs_gib=0.67,
        suggested=58_333_988_249,
        ceiling=66_273_897_472,
        tokens=451_744,
        context=4_096,
        concurrency=110.29,
    ),
    "rtxpro6000x4": Started(
        weights_gib=55.19,
        load_s=48.502592,
        free_gib=94.05,
        activation_gib=0.76,
        graphs_gib=0.32,
        suggested=29_407_858_586,
        ceiling=38_581_581_312,
        tokens=621_392,
        context=32_768,
        concurrency=18.96,
    ),
    "16gb": Started(
        weights_gib=10.24,
        load_s=2.62374,
        cache_gib=3.01,
        free_gib=15.28,
        activation_gib=0.79,
        graphs_gib=0.04,
        suggested=3_031_561_913,
        ceiling=4_121_221_120,
        tokens=172_032,
        context=172_032,
        concurrency=1.0,
    ),
}


def told(name: str) -> str:
    return (ENGINE / f"{name}.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", REAL)
def test_a_real_start_is_read(name: str) -> None:
    assert start_log.parse(told(name)) == REAL[name]


def test_the_least_of_all_workers_decides() -> None:
    line = "INFO Available KV cache memory: {} GiB\nINFO x `--kv-cache-memory={}` (1 GiB) to fit"
    line += " into requested memory, or y"
    text = "\n".join(line.format(gib, bytes_) for gib, bytes_ in ((3.5, 9), (3.25, 7), (4, 8)))
    found = start_log.parse(text)
    assert (found.cache_gib, found.suggested) == (3.25, 7)


def test_the_last_start_counts_where_the_log_holds_several() -> None:
    early = FIRST.replace("0.32.0", "0.31.0") + "\nGPU KV cache size: 10 tokens\n"
    found = start_log.parse(early + FIRST + "\nGPU KV cache size: 20 tokens\n")
    assert (found.engine, found.tokens) == ("0.32.0", 20)


def test_what_comes_with_requests_is_not_believed() -> None:
    text = f"{FIRST}\nGPU KV cache size: 20 tokens\nINFO: {start_log.READY}.\n"
    assert start_log.parse(text + "GPU KV cache size: 1 tokens\n").tokens == 20


def test_memory_fixed_by_argument_is_called_frozen() -> None:
    found = start_log.parse(
        "Initial free memory 78.66 GiB, reserved 50.0 GiB memory for KV Cache as specified by "
        "kv_cache_memory_bytes config"
    )
    assert (found.frozen, found.cache_gib, found.suggested) == (True, 50.0, None)


def test_a_second_start_that_is_cut_off_says_nothing_of_the_first() -> None:
    whole = told("cpu-0.32.0")
    second = whole[: whole.index("KV cache size")]
    assert start_log.is_whole(whole)
    found = start_log.parse(whole + second)
    assert (found.engine, found.tokens, found.concurrency) == ("0.32.0", None, None)
    assert not start_log.is_whole(whole + second)


def test_workers_may_speak_in_any_order_and_each_for_itself() -> None:
    lines = told("rtxpro6000x4").splitlines()
    each = [
        line.replace("TP0", f"TP{n}").replace("TP1", f"TP{n}") for line in lines for n in "0123"
    ]
    assert start_log.parse("\n".join(reversed(each))) == REAL["rtxpro6000x4"]


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    assert isinstance(start_log.parse(text), Started)


def test_a_number_that_cannot_be_is_not_read() -> None:
    many = "9" * 400
    text = f"Available KV cache memory: {many} GiB\nGPU KV cache size: {many} tokens\n"
    text += f"x `--kv-cache-memory={many}` to fit into requested memory"
    assert start_log.parse(text) == Started()


numbers = st.integers(1, 10**12)
noise = st.lists(st.text(st.characters(exclude_characters="\n"), max_size=40), max_size=5)


@given(noise, numbers, numbers, st.decimals(0, 5000, places=2), st.permutations(range(3)))
def test_values_are_found_wherever_the_lines_stand(
    between: list[str], tokens: int, suggested: int, gib: object, order: list[int]
) -> None:
    lines = [
        f"(W pid=7) INFO GPU KV cache size: {tokens:,} tokens, "
        f"Maximum concurrency for {tokens:,} tokens per request: 1.00x",
        f"(W pid=8) INFO Available KV cache memory: {gib} GiB",
        f"Replace it with `--kv-cache-memory={suggested}` to fit into requested memory, or no",
    ]
    text = "\n".join(
        line
        for number in order
        for line in (*(one.replace("G", "") for one in between), lines[number])
    )
    found = start_log.parse(text)
    assert (found.tokens, found.context, found.suggested) == (tokens, tokens, suggested)
    assert found.cache_gib == float(str(gib))
