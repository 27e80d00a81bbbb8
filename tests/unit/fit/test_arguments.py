"""Arguments of the engine: those that are computed with, refused, and how a card computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from aibox import content
from aibox import profile as profiles
from aibox.engine_kinds import KindName
from aibox.errors import BadUsage
from aibox.fit import advice, cards, catalogue, parallel, question
from aibox.fit.answer import Answer
from aibox.fit.engine import Engine, from_arguments
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment

CONTENT = content.find()
CATALOGUE = catalogue.load(CONTENT.catalogue)
SOURCES = Sources(CATALOGUE)


def ask(model: str, gpu: str, count: int = 1, **arguments: object) -> Answer:
    named = tuple((key.replace("_", "-"), value) for key, value in arguments.items())
    on = cards.cards(CATALOGUE, [gpu], count, None)
    return question.of_model(SOURCES, model, on, Adjustment(arguments=named))


def engine(arguments: Mapping[str, object]) -> Engine:
    return from_arguments(arguments, tensor_parallel=1, memory_mib=81920, name="a100")


@pytest.mark.parametrize(
    "arguments",
    [
        {"max-num-seqs": 0},
        {"max-num-seqs": 10**21},
        {"max-num-seqs": 8.0},
        {"max-model-len": "long"},
        {"max-model-len": "auto"},
        {"max-model-len": -1},
        {"max-model-len": 0},
        {"gpu-memory-utilization": 1.5},
        {"gpu-memory-utilization": True},
        {"gpu-memory-utilization": float("nan")},
        {"kv-cache-memory-bytes": 10**30},
        {"enable-prefix-caching": "yes"},
        {"block-size": 7},
        {"block-size": 1 << 20},
        {"dtype": "fp8"},
        {"dtype": 16},
        {"dtype": ["half"]},
        {"enable-lora": True, "max-lora-rank": 7},
        {"enable-lora": True, "max-lora-rank": True},
        {"max-loras": 4},
        {"speculative-config": "mtp"},
        {"speculative-config": []},
        {"speculative-config": {"num_speculative_tokens": 3}},
        {"speculative-config": {"method": "clairvoyance", "num_speculative_tokens": 3}},
        {"speculative-config": {"method": "ngram"}},
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": "x"}},
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": -5}},
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": float("nan")}},
        {"speculative-config": {"method": "ngram", "num_speculative_tokens": [1]}},
        {"speculative-config": {"method": "eagle3", "num_speculative_tokens": 3}},
        {"speculative-config": {"model": 7, "num_speculative_tokens": 3}},
    ],
)
def test_arguments_that_the_engine_would_refuse_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(BadUsage) as refused:
        engine(arguments)
    assert refused.value.reference == "fit-argument-invalid"
    assert "./aibox fit --model NAME" in refused.value.hint


@pytest.mark.parametrize("key", ["quantization", "cpu-offload-gb", "data-parallel-size"])
def test_an_argument_that_changes_memory_and_is_not_computed_is_refused(key: str) -> None:
    with pytest.raises(BadUsage, match=key) as refused:
        engine({key: 2})
    assert refused.value.reference == "fit-argument-not-modelled"


@pytest.mark.parametrize("kind", ["turboquant_3bit_nc", "bogus", "fp8_ds_mla"])
def test_a_cache_format_that_nobody_modelled_for_a_model_is_unknown(kind: str) -> None:
    with pytest.raises(BadUsage) as refused:
        ask("qwen3-8b", "l40s", kv_cache_dtype=kind)
    assert refused.value.reference == "fit-cache-dtype-unknown"


def test_a_model_is_cut_as_the_arguments_say() -> None:
    def cut(count: int, **arguments: object) -> tuple[int, int]:
        found = ask("qwen3-8b", "l40s", count, **arguments).ask.engine
        return found.tensor_parallel, found.stages

    assert cut(4) == (4, 1)
    assert cut(4, tensor_parallel_size=2) == (2, 2)
    assert cut(4, pipeline_parallel_size=4) == (1, 4)
    assert cut(4, pipeline_parallel_size=2, tensor_parallel_size=2) == (2, 2)


@pytest.mark.parametrize(
    ("count", "arguments"),
    [
        (1, {"pipeline_parallel_size": 100}),
        (1, {"pipeline_parallel_size": 2}),
        (3, {"pipeline_parallel_size": 2}),
        (1, {"tensor_parallel_size": 2}),
        (4, {"tensor_parallel_size": 3}),
        (4, {"tensor_parallel_size": 2, "pipeline_parallel_size": 1}),
    ],
)
def test_gpus_that_the_arguments_do_not_use_or_do_not_have_contradict_them(
    count: int, arguments: dict[str, object]
) -> None:
    with pytest.raises(BadUsage) as refused:
        ask("qwen3-8b", "l40s", count, **arguments)
    assert refused.value.reference == "fit-cut-contradictory"


def test_a_width_that_gpus_do_not_divide_is_said() -> None:
    even, cut = ask("qwen3-8b", "l40s").subject.shape, Engine(tensor_parallel=2)
    assert not parallel.obstacles(even, cut)
    told = parallel.obstacles(replace(even, intermediate=even.intermediate + 1), cut)
    assert any("do not divide the intermediate width" in one for one in told)


def test_how_a_profile_is_cut_is_its_own() -> None:
    profile = profiles.load(CONTENT.profiles, "a100x2")
    adjust = Adjustment(arguments=(("tensor-parallel-size", 1),))
    with pytest.raises(BadUsage) as refused:
        question.of_profile(SOURCES, profile, adjust)
    assert refused.value.reference == "fit-cut-of-profile"


@pytest.mark.parametrize(
    ("model", "gpu", "arguments", "told"),
    [
        ("gpt-oss-20b", "t4", {}, "mxfp4 from compute capability 8.0"),
        ("qwen3-0.6b", "t4", {"dtype": "bfloat16"}, "refuses bfloat16"),
        ("gemma-3-4b-it", "l40s", {"dtype": "half"}, "refuses float16"),
        (
            "qwen3-8b",
            "l40s",
            {"max_num_batched_tokens": 128, "max_num_seqs": 256},
            "less than max-num-seqs",
        ),
    ],
)
def test_what_the_engine_does_not_take_stops_it(
    model: str, gpu: str, arguments: dict[str, object], told: str
) -> None:
    found = ask(model, gpu, **arguments)
    assert any(told in one for one in found.obstacles)
    assert not found.may_fit


def test_a_card_without_bfloat16_computes_in_float16_and_says_so() -> None:
    found = ask("qwen3-0.6b", "t4", max_model_len=4096)
    assert not found.obstacles
    assert any("computes in float16" in note for note in found.notes)
    assert found.bytes_per_token == ask("qwen3-0.6b", "l40s").bytes_per_token


def test_a_model_too_wild_for_float16_takes_twice_the_memory_on_such_a_card() -> None:
    old, new = (ask("gemma-3-4b-it", gpu, max_model_len=4096) for gpu in ("t4", "l40s"))
    assert any("twice the memory" in note for note in old.notes)
    assert old.bytes_per_token == 2 * new.bytes_per_token
    assert old.weights_per_gpu == pytest.approx(2 * new.weights_per_gpu, rel=0.01)


def test_layers_that_guess_do_so_once_each_where_nobody_says_how_often() -> None:
    plain = ask("qwen3.6-27b-fp8", "h100", speculative_config={"method": "mtp"})
    said = {"method": "mtp", "num_speculative_tokens": 1}
    assert plain.low == ask("qwen3.6-27b-fp8", "h100", speculative_config=said).low


@pytest.mark.parametrize(
    ("model", "gpu", "starts"),
    [
        ("qwen3-8b", "t4", False),
        ("qwen3-8b", "a100-sxm4-80", True),
        ("qwen3-8b", "l40s", True),
        # Attention sinks, pictures read both ways, and latent attention have no kernel for it.
        ("gpt-oss-20b", "a100-sxm4-80", False),
        ("gpt-oss-20b", "h100-sxm5-80", True),
        ("gemma-3-27b-it", "a6000", False),
        ("gemma-3-27b-it", "l40s", True),
        ("kanana-2-30b-a3b-instruct-2601", "a100-sxm4-80", False),
    ],
)
def test_contexts_in_fp8_need_a_kernel_that_reads_them(model: str, gpu: str, starts: bool) -> None:
    found = ask(model, gpu, kv_cache_dtype="fp8", max_model_len=1024)
    assert any("no attention kernel" in one for one in found.obstacles) is not starts


def test_contexts_in_fp8_are_not_advised_where_no_kernel_reads_them() -> None:
    on = cards.cards(CATALOGUE, ["a100-sxm4-80"], 1, None)
    asked = Adjustment(context=32768, concurrency=100, arguments=(("max-num-seqs", 128),))
    found = question.of_model(SOURCES, "gpt-oss-20b", on, asked)
    assert not found.fits
    assert "fp8-cache" not in {one.kind for one in advice.changes(SOURCES, found)}


def test_contexts_in_sixteen_bits_are_advised_where_fp8_has_no_kernel() -> None:
    found = ask("gpt-oss-20b", "a100-sxm4-80", kv_cache_dtype="fp8", max_model_len=8192)
    (plain,) = [one for one in advice.changes(SOURCES, found) if one.kind == "plain-cache"]
    assert plain.option == "--set kv-cache-dtype=bfloat16"
    assert ask("gpt-oss-20b", "a100-sxm4-80", kv_cache_dtype="bfloat16", max_model_len=8192).fits


def test_an_engine_that_nobody_modelled_is_not_computed_as_if_it_were_vllm() -> None:
    shipped = profiles.load(CONTENT.profiles, "cpu")
    chat = shipped.serving["chat"].model_copy(update={"kind": KindName.LLAMA})
    with pytest.raises(BadUsage) as refused:
        other = shipped.model_copy(update={"serving": {"chat": chat}})
        question.of_profile(SOURCES, other, Adjustment())
    assert refused.value.reference == "fit-engine-not-modelled"
