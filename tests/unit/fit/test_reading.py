"""A config.json that does not say enough, contradicts itself or is absurd is refused, by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fit_cases
from aibox.errors import BadUsage
from aibox.fit import fields, reading
from aibox.fit.blocks import Kind
from aibox.fit.reading import Family
from aibox.fit.shapes import Shape

LLAMA = json.loads((fit_cases.ASSETS / "configs/llama-3.1-8b.json").read_text())
GPT_OSS = json.loads((fit_cases.ASSETS / "configs/gpt-oss-20b.json").read_text())
DELTA = json.loads((fit_cases.ASSETS / "configs/qwen3.6-27b.json").read_text())
LATENT = json.loads((fit_cases.ASSETS / "configs/deepseek-v3.json").read_text())


def read(values: dict[str, Any], family: Family = Family.ATTENTION) -> Shape:
    return reading.shape_of(fields.parse(json.dumps(values).encode(), "config.json"), family)


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


@pytest.mark.parametrize(
    "key",
    [
        *("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
        *("max_position_embeddings", "architectures"),
    ],
)
def test_a_field_that_decides_must_be_there(key: str) -> None:
    with pytest.raises(BadUsage) as refused:
        read(without(LLAMA, key))
    assert refused.value.reference == "model-config-incomplete"
    assert key in refused.value.message


@pytest.mark.parametrize(
    ("changed", "reference"),
    [
        ({"num_hidden_layers": 0}, "model-config-absurd"),
        ({"num_hidden_layers": 10**9}, "model-config-absurd"),
        ({"hidden_size": -4096}, "model-config-absurd"),
        ({"hidden_size": 1 << 60}, "model-config-absurd"),
        ({"vocab_size": "128k"}, "model-config-invalid"),
        ({"num_attention_heads": 32.0}, "model-config-invalid"),
        ({"num_attention_heads": True}, "model-config-invalid"),
        ({"num_key_value_heads": 5}, "model-config-contradictory"),
        ({"num_attention_heads": 33, "num_key_value_heads": 33}, "model-config-contradictory"),
        ({"layer_types": ["full_attention"] * 31}, "model-config-contradictory"),
        ({"layer_types": ["telepathy"] * 32}, "model-config-unsupported"),
        ({"layer_types": "full_attention"}, "model-config-invalid"),
        ({"layer_types": ["sliding_attention"] * 32}, "model-config-incomplete"),
        ({"use_sliding_window": True, "sliding_window": 4096}, "model-config-unsupported"),
        ({"quantization_config": {}}, "model-config-incomplete"),
        ({"quantization_config": {"quant_method": ""}}, "model-config-incomplete"),
        (
            {"num_experts": 8, "num_experts_per_tok": 9, "moe_intermediate_size": 1},
            "model-config-absurd",
        ),
        ({"num_experts_per_tok": 2}, "model-config-incomplete"),
        ({"num_experts": 8, "num_experts_per_tok": 2}, "model-config-incomplete"),
        ({"intermediate_size": None}, "model-config-incomplete"),
        ({"torch_dtype": "float8_e4m3fn"}, "model-config-unsupported"),
        ({"kv_lora_rank": 256}, "model-config-unsupported"),
        ({"torch_dtype": 16}, "model-config-invalid"),
        ({"tie_word_embeddings": "yes"}, "model-config-invalid"),
        ({"use_sliding_window": 1}, "model-config-invalid"),
        ({"layer_types": {}}, "model-config-invalid"),
        ({"layer_types": 0}, "model-config-invalid"),
        ({"text_config": "llama"}, "model-config-invalid"),
        ({"vision_config": []}, "model-config-invalid"),
        ({"rope_scaling": "linear"}, "model-config-invalid"),
        ({"rope_scaling": {"type": "linear", "factor": "8"}}, "model-config-absurd"),
        ({"rope_scaling": {"type": "linear", "factor": 1e12}}, "model-config-absurd"),
        ({"quantization_config": "awq"}, "model-config-invalid"),
        ({"quantization_config": {"quant_method": 4}}, "model-config-invalid"),
        (
            {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 0]}},
            "model-config-invalid",
        ),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], reference: str) -> None:
    with pytest.raises(BadUsage) as refused:
        read({**LLAMA, **changed})
    assert refused.value.reference == reference
    assert refused.value.hint.endswith("./aibox fit --model FOLDER --gpu GPU")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        *((b"{", "not JSON"), (b"[]", "table"), (b"\xff\xfe", "not JSON")),
        *((b"[" * 100_000, "not JSON"), (b'{"a": NaN}', "NaN is no number of JSON")),
    ],
)
def test_what_is_no_json_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(BadUsage, match=told):
        fields.parse(data, "config.json")


def test_a_config_as_large_as_weights_is_not_parsed() -> None:
    with pytest.raises(BadUsage, match="is that large"):
        fields.parse(b" " * (fields.LIMIT_BYTES + 1), "config.json")


def test_a_config_that_cannot_be_read_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/proc/self/mem")
    with pytest.raises(BadUsage, match="cannot be read"):
        fields.read(tmp_path / "config.json")


def test_an_absurd_value_is_shown_in_part() -> None:
    with pytest.raises(BadUsage) as refused:
        read({**LLAMA, "vocab_size": "x" * 10_000})
    assert len(refused.value.message) < 200


def test_sparse_latent_attention_is_said_to_be_unknown() -> None:
    with pytest.raises(BadUsage) as refused:
        read({**LATENT, "index_topk": 2048}, Family.LATENT)
    assert refused.value.reference == "model-config-unsupported"


@given(
    st.dictionaries(
        st.sampled_from([*LLAMA, "layer_types", "quantization_config", "text_config"]),
        st.none()
        | st.booleans()
        | st.integers(-(10**12), 10**12)
        | st.text(max_size=4)
        | st.lists(st.integers(), max_size=2),
        max_size=4,
    )
)
def test_whatever_a_config_says_it_is_read_or_refused(changed: dict[str, Any]) -> None:
    try:
        shape = read({**LLAMA, **changed})
    except BadUsage as refused:
        assert refused.reference.startswith("model-config-")
    else:
        assert len(shape.layers) > 0


def test_windows_are_read_from_types_patterns_and_letters_alike() -> None:
    def kinds(shape: Shape) -> list[Kind | None]:
        return [layer.kind for layer in shape.layers]

    by_types = kinds(read(GPT_OSS))
    plain = without(GPT_OSS, "layer_types")
    assert by_types == kinds(read({**plain, "sliding_window_pattern": 2}))
    assert by_types == kinds(read({**plain, "sliding_window_pattern": "LG"}))


@pytest.mark.parametrize("name", ["GptOssForCausalLM", "Exaone4ForCausalLM"])
def test_a_class_that_mixes_windows_has_to_say_which_layers_have_one(name: str) -> None:
    plain = {**without(GPT_OSS, "layer_types"), "architectures": [name]}
    with pytest.raises(BadUsage, match="layer_types"):
        read(plain)


def test_a_lone_window_is_one_of_all_layers_where_the_class_uses_it_so() -> None:
    mistral = read({**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": 4096})
    assert {layer.kind for layer in mistral.layers} == {Kind.SLIDING}
    qwen = read({**LLAMA, "architectures": ["Qwen2ForCausalLM"], "sliding_window": 4096})
    assert {layer.kind for layer in qwen.layers} == {Kind.FULL}


@pytest.mark.parametrize("key", ["head_dim", "num_key_value_heads"])
def test_a_class_with_heads_of_its_own_width_has_to_say_it(key: str) -> None:
    with pytest.raises(BadUsage, match=key):
        read(without(GPT_OSS, key))


def test_what_the_files_of_gemma_3_leave_out_is_what_its_class_fills_in() -> None:
    inner = {
        "hidden_size": 3840,
        "intermediate_size": 15360,
        "num_attention_heads": 16,
        "num_hidden_layers": 48,
        "num_key_value_heads": 8,
        "sliding_window": 1024,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    }
    shape = read({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": inner})
    assert (shape.vocabulary, shape.head_width, shape.longest) == (262_208, 256, 131_072)
    assert shape.positions == 8 * 131_072
    assert [layer.kind for layer in shape.layers].count(Kind.FULL) == 8


def test_a_stretched_context_is_as_long_as_the_engine_makes_it() -> None:
    def lengths(scaling: dict[str, Any]) -> tuple[int, int]:
        shape = read({**LLAMA, "original_max_position_embeddings": 4096, "rope_scaling": scaling})
        return shape.longest, shape.untold

    assert lengths({"rope_type": "yarn", "factor": 4.0}) == (131_072, 131_072)
    assert lengths({"rope_type": "linear", "factor": 2.0}) == (262_144, 262_144)
    by_kind = {"full_attention": {"rope_type": "linear", "factor": 2.0}, "sliding_attention": {}}
    assert lengths(by_kind) == (262_144, 262_144)
    # Told nothing, the engine takes the short one, for short answers are better so.
    assert lengths({"rope_type": "longrope"}) == (131_072, 4096)


def test_a_window_that_is_switched_off_is_none() -> None:
    shape = read({**LLAMA, "sliding_window": 4096, "use_sliding_window": False})
    assert {layer.kind for layer in shape.layers} == {Kind.FULL}


def test_every_fourth_layer_of_a_delta_net_attends() -> None:
    text = without(DELTA["text_config"], "layer_types")
    by_interval = read({**DELTA, "text_config": text}, Family.DELTA)
    assert by_interval == read(DELTA, Family.DELTA)
    assert sum(layer.kind is Kind.STATE for layer in by_interval.layers) == 48


def test_layers_that_use_anothers_keys_keep_none() -> None:
    shape = read({**LLAMA, "num_kv_shared_layers": 10})
    assert [layer.kind for layer in shape.layers].count(None) == 10


def test_groups_of_weights_that_differ_are_not_counted_as_if_they_were_one() -> None:
    def form(*bits: int) -> str:
        groups = {f"group_{one}": {"weights": {"num_bits": one}} for one in bits}
        told = {"quant_method": "compressed-tensors", "config_groups": groups}
        found = read({**LLAMA, "quantization_config": told}).quantised
        assert found is not None
        return found.form

    assert (form(4), form(8), form(4, 8), form()) == ("gptq", "fp8", "", "")


@pytest.mark.parametrize(("bits", "form"), [(4, "awq"), (8, "fp8"), (3, "")])
def test_weights_are_counted_by_the_bits_they_have(bits: int, form: str) -> None:
    found = read({**LLAMA, "quantization_config": {"quant_method": "awq", "bits": bits}})
    assert found.quantised is not None
    assert found.quantised.form == form


def test_scales_for_a_context_in_eight_bits_are_used_as_the_engine_uses_them() -> None:
    told = {"quant_method": "modelopt", "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert read({**LLAMA, "quantization_config": told}).cache_dtype == "fp8"
    assert read(LLAMA).cache_dtype == ""


@pytest.mark.parametrize(
    ("table", "form"),
    [
        ({"quant_method": "awq", "group_size": 128}, "awq"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}, ""),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 4}}},
            },
            "gptq",
        ),
        ({"quant_method": "of next year"}, ""),
    ],
)
def test_formats_are_read_and_unknown_ones_stay_unknown(table: dict[str, Any], form: str) -> None:
    quantised = read({**LLAMA, "quantization_config": table}).quantised
    assert quantised is not None
    assert quantised.form == form
