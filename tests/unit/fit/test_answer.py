"""Whether it fits: memory, what shares the cards, how it is cut, what a card computes in."""

from __future__ import annotations

import json
from dataclasses import replace
from math import ceil
from pathlib import Path

import pytest

from aibox import content
from aibox import profile as profiles
from aibox.errors import BadUsage
from aibox.fit import advice, cards, catalogue, models, question
from aibox.fit.answer import Answer
from aibox.fit.cards import Cards
from aibox.fit.engine import GIB, MIB, Engine, batch_defaults
from aibox.fit.models import Sources
from aibox.fit.question import Adjustment
from aibox.profile import Profile
from aibox.serving import FROZEN

CONTENT = content.find()
CATALOGUE = catalogue.load(CONTENT.catalogue)
SOURCES = Sources(CATALOGUE, release="0.31.0")


def on(gpu: str, count: int = 1, memory_mib: int | None = None) -> Cards:
    return cards.cards(CATALOGUE, [gpu], count, memory_mib)


def ask(
    model: str, gpu: str, count: int = 1, adjust: Adjustment | None = None, **arguments: object
) -> Answer:
    adjust = adjust or Adjustment()
    adjust = replace(adjust, arguments=tuple(arguments.items()))
    return question.of_model(SOURCES, model, on(gpu, count), adjust)


def dashed(**arguments: object) -> dict[str, object]:
    return {key.replace("_", "-"): value for key, value in arguments.items()}


def test_weights_contexts_and_the_engine_are_all_of_a_card() -> None:
    found = ask("llama-3.1-8b-instruct", "rtx4090", adjust=Adjustment(context=8192))
    most = {part.name: part.high for part in found.parts}
    # Its share is one of what programs are offered, and not of what CUDA takes for the process.
    taken = sum(most.values()) - most["process"] - int(most["reserved"] * 0.08)
    budget = -(-24564 * MIB * 92 // 100)
    assert found.low.memory == pytest.approx(budget - found.weights_per_gpu - taken, abs=2)
    assert found.low.memory < found.high.memory
    assert found.bytes_per_token == 131_072
    assert found.fits


# Bytes of a token of context on all GPUs together, as makers and vLLM's users count them.
@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama-3.1-8b-instruct", 131_072),
        ("qwen3-8b", 147_456),
        ("qwen3-32b", 262_144),
        ("llama-3.3-70b-instruct", 327_680),
        ("llama-3.1-405b-instruct-fp8", 516_096),
        ("a.x-k1", 70_272),
        ("bge-m3", 0),
    ],
)
def test_bytes_of_a_token(model: str, expected: int) -> None:
    assert ask(model, "h200-sxm").bytes_per_token == expected


def test_sixteen_gpus_repeat_the_heads_of_keys_and_save_nothing() -> None:
    eight = ask("llama-3.3-70b-instruct", "h100-sxm5-80", 8)
    sixteen = ask("llama-3.3-70b-instruct", "h100-sxm5-80", 16)
    page = eight.pool.bytes_per_block(eight.pool.stages[0])
    assert sixteen.pool.bytes_per_block(sixteen.pool.stages[0]) == page
    assert sixteen.weights_per_gpu > eight.weights_per_gpu / 2


def test_an_embedder_beside_it_takes_its_room() -> None:
    alone = ask("qwen3-32b-awq", "l40s")
    names = ("bge-m3", "qwen3-reranker-4b")
    beside = ask("qwen3-32b-awq", "l40s", adjust=Adjustment(beside=names))
    neighbour, reranker = beside.ask.neighbours
    assert reranker.low > 8 * GIB
    # Files of 32 bits are loaded as 16. On an H200 it was seen to take 2.14 GiB.
    assert 1.0 * GIB < neighbour.low < 2.14 * GIB < neighbour.high < 3 * GIB
    assert beside.ask.engine.utilization < alone.ask.engine.utilization
    assert beside.low.tokens < alone.low.tokens


def test_two_engines_that_want_more_than_a_card_has_do_not_fit() -> None:
    shipped = profiles.load(CONTENT.profiles, "l40sx1")
    chat = shipped.serving["chat"].model_copy(
        update={"arguments": {"max-model-len": 16384, "gpu-memory-utilization": 0.9}}
    )
    profile = shipped.model_copy(update={"serving": {"chat": chat}, "capacity": None})
    embedder = chat.model_copy(
        update={"model": "e", "arguments": {"gpu-memory-utilization": 0.3}, "runner": "pooling"}
    )
    wish = profile.model[0].model_copy(
        update={"name": "e", "repository": "Qwen/Qwen3-Embedding-4B"}
    )
    both = profile.model_copy(
        update={
            "serving": {"chat": chat, "embedding": embedder},
            "model": (*profile.model, wish),
        }
    )
    found = question.of_profile(SOURCES, both, Adjustment())
    alone = question.of_profile(SOURCES, profile, Adjustment())
    assert found["chat"].low.memory < alone["chat"].low.memory - 8 * GIB
    assert found["embedding"].ask.neighbours[0].name == "chat"


def test_of_two_cards_the_one_with_the_greater_neighbours_decides() -> None:
    shipped = profiles.load(CONTENT.profiles, "l40sx2")
    places = {"chat": (0, 1), "embedding": (0,), "rerank": (1,)}
    serving = {
        name: shipped.serving[name].model_copy(update={"gpus": gpus})
        for name, gpus in places.items()
    }
    apart = shipped.model_copy(update={"serving": serving})
    found = question.of_profile(SOURCES, apart, Adjustment())
    (beside,) = found["chat"].ask.neighbours
    assert [one.name for one in found["embedding"].ask.neighbours] == ["chat"]
    # The embedder does not start where less than its share is free, whatever it takes then.
    assert beside.low < 2 * GIB < beside.high == ceil(45_000 * MIB * 0.07)
    serving = {
        name: one.model_copy(update={"gpus": (1,)}) if name != "chat" else one
        for name, one in apart.serving.items()
    }
    crowded = shipped.model_copy(update={"serving": serving})
    found = question.of_profile(SOURCES, crowded, Adjustment())
    assert {one.name for one in found["chat"].ask.neighbours} == {"embedding", "rerank"}


def test_a_profile_is_asked_for_what_it_promises_unless_somebody_asks_for_other() -> None:
    profile = profiles.load(CONTENT.profiles, "l40sx1")
    assert profile.capacity is not None
    chat = question.of_profile(SOURCES, profile, Adjustment())["chat"]
    assert chat.ask.concurrency == profile.capacity.concurrency
    other = question.of_profile(SOURCES, profile, Adjustment(context=2048))["chat"]
    assert (other.ask.concurrency, other.context) == (None, 2048)
    more = question.of_profile(SOURCES, profile, Adjustment(concurrency=60))["chat"]
    assert (more.ask.concurrency, more.fits) == (60, False)


def test_frozen_memory_for_contexts_is_taken_as_it_is() -> None:
    found = ask("qwen3-8b", "rtx4090", **dashed(kv_cache_memory_bytes=2 * GIB))
    assert found.low.memory == found.high.memory == 2 * GIB
    assert found.low.tokens == 2 * GIB // 147_456 // 16 * 16


def test_frozen_memory_that_is_not_there_does_not_fit() -> None:
    found = ask("qwen3-8b", "rtx4090", **dashed(kv_cache_memory_bytes=20 * GIB))
    assert found.low.memory < 20 * GIB
    assert not found.fits


@pytest.mark.parametrize(
    ("model", "count", "told"),
    [
        ("qwen3-14b", 3, "do not divide the 40 heads"),
        ("llama-3.3-70b-instruct", 24, "do not divide the 64 heads"),
        ("qwen3-235b-a22b-instruct-2507-fp8", 8, "no multiple of the 128"),
        ("qwen3.6-27b", 16, "do not divide"),
    ],
)
def test_a_cut_that_the_engine_refuses_is_said(model: str, count: int, told: str) -> None:
    found = ask(model, "h200-sxm", count, **{"pipeline-parallel-size": 1})
    assert any(told in one for one in found.obstacles)
    assert not found.fits
    assert not found.may_fit


def test_what_cannot_be_cut_wider_is_cut_into_stages() -> None:
    found = ask("qwen3-235b-a22b-instruct-2507-fp8", "h100-sxm5-80", 8)
    assert (found.ask.engine.tensor_parallel, found.ask.engine.stages) == (4, 2)
    assert not found.obstacles


def test_fp8_on_a_card_without_it_is_stored_and_unpacked() -> None:
    found = ask("llama-3.3-70b-instruct-fp8-dynamic", "a100-sxm4-80", 2)
    assert not found.obstacles
    assert any("unpacked to 16 bits" in note for note in found.notes)
    hopper = ask("llama-3.3-70b-instruct-fp8-dynamic", "h100-sxm5-80", 2)
    assert not any("unpacked" in note for note in hopper.notes)
    assert found.weights_per_gpu == hopper.weights_per_gpu


def test_a_context_in_fp8_is_half_as_large_and_said_to_cost_where_it_is_only_stored() -> None:
    wide, narrow = (
        ask("qwen3-8b", "a100-sxm4-80", **dashed(kv_cache_dtype=kind)) for kind in ("auto", "fp8")
    )
    assert narrow.bytes_per_token * 2 == wide.bytes_per_token
    assert any("no arithmetic in FP8" in note for note in narrow.notes)


def test_drafts_of_the_model_itself_cost_context() -> None:
    speculation = {"method": "mtp", "num_speculative_tokens": 3}
    plain = ask("qwen3.6-27b-fp8", "h100-sxm5-80")
    guessing = ask("qwen3.6-27b-fp8", "h100-sxm5-80", **{"speculative-config": speculation})
    assert guessing.low.tokens < plain.low.tokens
    assert guessing.load.spare_states == 4


def test_a_draft_model_brings_its_weights_and_contexts() -> None:
    speculation = {"method": "draft_model", "model": "qwen3-0.6b", "num_speculative_tokens": 4}
    plain = ask("qwen3-32b-awq", "l40s")
    drafted = ask("qwen3-32b-awq", "l40s", **{"speculative-config": speculation})
    assert drafted.weights_per_gpu > plain.weights_per_gpu + GIB
    assert drafted.bytes_per_token == plain.bytes_per_token
    assert drafted.low.tokens < plain.low.tokens


def test_a_model_without_draft_layers_cannot_use_them() -> None:
    with pytest.raises(BadUsage) as refused:
        ask("qwen3-8b", "l40s", **{"speculative-config": {"method": "mtp"}})
    assert refused.value.reference == "fit-no-draft-layers"


def test_more_context_than_the_model_has_is_refused() -> None:
    with pytest.raises(BadUsage) as refused:
        ask("qwen3-8b", "l40s", adjust=Adjustment(context=1_000_000))
    assert refused.value.reference == "fit-context-too-long"


def test_concurrency_decides_and_the_engines_own_limit_counts() -> None:
    def fits(many: int, **arguments: object) -> bool:
        adjust = Adjustment(context=4096, concurrency=many)
        return ask("qwen3-8b", "h100-sxm5-80", adjust=adjust, **arguments).fits

    assert fits(16)
    assert not fits(1000)
    assert not fits(16, **dashed(max_num_seqs=8))


def test_an_encoder_keeps_no_contexts() -> None:
    found = ask("bge-reranker-v2-m3", "l4")
    assert found.fits
    assert found.low.tokens == 0


def test_defaults_of_a_step_are_by_the_name_and_the_memory_of_a_card() -> None:
    assert batch_defaults(81920, "a100-sxm4-80") == (256, 2048)
    assert batch_defaults(81559, "h100-sxm5-80") == (1024, 8192)
    assert batch_defaults(183_000, "b200-sxm") == (1024, 16384)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    entry = CATALOGUE.model("llama-3.1-8b-instruct")
    assert entry is not None
    config = {"architectures": ["LlamaForCausalLM"], **CATALOGUE.config(entry)}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_fewer_weights_than_a_config_describes_are_refused_and_more_are_said(folder: Path) -> None:
    def ask_with(total: int) -> Answer:
        table = {"metadata": {"total_size": total}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(table))
        return question.of_model(SOURCES, str(folder), on("h200-sxm"), Adjustment())

    assert not ask_with(16_060_522_496).subject.notes
    assert "are believed" in ask_with(32_000_000_000).notes[0]
    with pytest.raises(BadUsage) as refused:
        ask_with(4_000_000_000)
    assert refused.value.reference == "model-weights-contradictory"


def test_a_folder_of_a_class_nobody_modelled_is_unknown(folder: Path) -> None:
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, "architectures": ["OracleModel"]}))
    with pytest.raises(BadUsage) as refused:
        question.of_model(SOURCES, str(folder), on("l40s"), Adjustment())
    assert refused.value.reference == "fit-architecture-unknown"


@pytest.mark.parametrize(
    ("model", "reference"),
    [
        ("solar-open-100b", "fit-not-loadable"),
        ("hyperclovax-seed-vision-instruct-3b", "fit-not-loadable"),
        ("gpt-9", "fit-model-unknown"),
    ],
)
def test_what_is_unknown_or_does_not_load_is_said_never_guessed(model: str, reference: str) -> None:
    with pytest.raises(BadUsage) as refused:
        ask(model, "h200-sxm", 8)
    assert refused.value.reference == reference


@pytest.mark.parametrize(
    ("changed", "reference"),
    [
        ({"config": {}}, "fit-config-unknown"),
        (
            {"config": {"quantization_config": {"quant_method": "modelopt"}}, "like": "qwen3-8b"},
            "fit-weights-unknown",
        ),
    ],
)
def test_what_nobody_has_read_of_a_model_is_said_to_be_unknown(
    changed: dict[str, object], reference: str
) -> None:
    known = CATALOGUE.model("qwen3-8b")
    assert known is not None
    unread = {"name": "unread", "repository": None, "weights_bytes": None, **changed}
    listed = (*CATALOGUE.models, known.model_copy(update=unread))
    sources = Sources(CATALOGUE.model_copy(update={"models": listed}))
    with pytest.raises(BadUsage) as refused:
        models.known(sources, "unread")
    assert refused.value.reference == reference


def test_an_engine_older_than_a_class_does_not_load_it() -> None:
    with pytest.raises(BadUsage, match=r"from 0\.14\.0 on; the pinned one is 0\.13\.1"):
        models.known(replace(SOURCES, release="0.13.1"), "k-exaone-236b-a23b")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("GTX 1080", "gpu-unknown"),
        ("rtx", "gpu-unknown"),
        ("", "gpu-unknown"),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", "gpu-in-slices"),
        ("h100 1g.10gb", "gpu-in-slices"),
        ("b200-sxm", "gpu-memory-unknown"),
    ],
)
def test_a_gpu_that_is_not_certain_is_refused(name: str, reference: str) -> None:
    with pytest.raises(BadUsage) as refused:
        on(name)
    assert refused.value.reference == reference


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm4-80"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm5-80"),
        ("10de:26b9", "l40s"),
        ("L40S", "l40s"),
        ("Tesla T4", "t4"),
    ],
)
def test_a_gpu_is_known_by_the_names_that_drivers_and_buses_give_it(name: str, found: str) -> None:
    assert on(name).name == found


def test_what_somebody_read_off_the_card_is_believed() -> None:
    assert on("b200-sxm", memory_mib=182_642).memory_mib == 182_642


def test_the_smallest_of_unlike_cards_decides() -> None:
    mixed = cards.cards(CATALOGUE, ["rtx4090", "rtx5090"], None, None)
    assert (mixed.count, mixed.memory_mib, mixed.compute) == (2, 24564, (8, 9))
    assert any("not alike" in note for note in mixed.notes)
    with pytest.raises(BadUsage) as refused:
        cards.cards(CATALOGUE, ["rtx4090", "rtx5090"], 3, None)
    assert refused.value.reference == "gpu-count-contradictory"


def changes(found: Answer) -> dict[str, str]:
    return {one.kind: one.option for one in advice.changes(SOURCES, found)}


def test_nothing_is_advised_where_it_fits() -> None:
    assert changes(ask("qwen3-8b", "h200-sxm")) == {}


def test_each_advice_makes_it_fit() -> None:
    found = ask("qwen3-32b", "a100-sxm4-80", adjust=Adjustment(context=40960, concurrency=2))
    told = changes(found)
    assert not found.fits
    assert {"shorter-context", "quantised-weights", "more-gpus", "smaller-model"} <= set(told)
    shorter = int(told["shorter-context"].split()[1])
    at_once = Adjustment(context=shorter, concurrency=2)
    assert ask("qwen3-32b", "a100-sxm4-80", adjust=at_once).fits
    longer = replace(at_once, context=shorter + 1)
    assert not ask("qwen3-32b", "a100-sxm4-80", adjust=longer).fits
    full = Adjustment(context=40960, concurrency=2)
    count = int(told["more-gpus"].split()[1])
    assert ask("qwen3-32b", "a100-sxm4-80", count, adjust=full).fits
    for kind in ("quantised-weights", "smaller-model"):
        assert ask(told[kind].split()[1], "a100-sxm4-80", adjust=full).fits


def test_another_model_is_advised_with_the_context_that_was_computed() -> None:
    asked = Adjustment(concurrency=8)
    found = ask("qwen3-32b-awq", "a6000", 2, adjust=asked)
    _, model, _, context = changes(found)["smaller-model"].split()
    assert int(context) == found.context
    assert ask(model, "a6000", 2, adjust=replace(asked, context=int(context))).fits
    longer = Adjustment(context=32768, concurrency=32, beside=("bge-m3",))
    option = changes(ask("a.x-k1", "l40s", 3, adjust=longer))["smaller-model"]
    assert option == "--model a.x-4.0-light --context 16384"


def test_a_context_in_fp8_is_advised_where_it_is_enough() -> None:
    found = ask("qwen3-8b", "rtx4090", adjust=Adjustment(context=32768))
    assert not found.fits
    assert changes(found)["fp8-cache"] == "--set kv-cache-dtype=fp8"


def test_fewer_requests_are_advised_where_room_for_them_is_what_lacks() -> None:
    shipped: Profile = profiles.load(CONTENT.profiles, "h100x2")
    chat = shipped.serving["chat"]
    tuned = {key: value for key, value in chat.arguments.items() if key != FROZEN}
    alone = {"chat": chat.model_copy(update={"arguments": tuned})}
    profile = shipped.model_copy(update={"serving": alone, "capacity": None})
    adjust = Adjustment(arguments=(("max-num-seqs", 1024), ("gpu-memory-utilization", 0.52)))
    found = question.of_profile(SOURCES, profile, adjust)["chat"]
    assert found.may_fit
    assert not found.fits
    assert changes(found)["fewer-sequences"].startswith("--set max-num-seqs=")


def test_what_nothing_helps_is_said_so() -> None:
    assert changes(ask("gpt-oss-20b", "t4")) == {}


def test_engine_defaults_are_those_of_one_gpu() -> None:
    assert Engine().gpus == 1


def test_changes_are_put_together_where_none_is_enough() -> None:
    adjust = Adjustment(context=16384, concurrency=8)
    told = changes(ask("qwen3-32b", "l40s", adjust=adjust))
    assert "shorter-context" not in told
    assert "quantised-weights" not in told
    _, model, _, context = told["together"].split()
    assert ask(model, "l40s", adjust=replace(adjust, context=int(context))).fits
