"""From the fields of a config.json to the shape of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum

from aibox.fit.blocks import Kind
from aibox.fit.fields import Fields
from aibox.fit.shapes import BYTES_PER_STATE, Experts, Layer, Quantised, Shape, State

NUMBER_BYTES = 2
"""The engine computes in 16 bits, and keeps contexts so, unless somebody quantises them."""

_TEXTS = ("text_config", "llm_config", "language_config")
_KINDS = {
    "full_attention": Kind.FULL,
    "attention": Kind.FULL,
    "sliding_attention": Kind.SLIDING,
    "chunked_attention": Kind.CHUNKED,
    "linear_attention": Kind.STATE,
    "mamba": Kind.STATE,
}
_LETTERS = {"*": Kind.FULL, "M": Kind.STATE, "-": None, "E": None}
"""Nemotron's `hybrid_override_pattern`: attention, Mamba, a plain layer, experts."""

_DTYPES = {
    **{name: name for name in ("bfloat16", "float16", "float32", "")},
    "half": "float16",
    "float": "float32",
}
"""Formats of numbers that a config names ("" where it names none), by the engine's name."""

# What Gemma 3's own files leave out, for its class fills it in (transformers' Gemma3TextConfig).
_LEFT_OUT: Mapping[str, Mapping[str, int]] = {
    "Gemma3": {
        "vocab_size": 262_208,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    }
}
_TIMES = 1024
"""How many times its trained length a model can be stretched to, at most."""

_OWN_HEADS = ("Qwen3", "GptOss", "Gemma", "MiniMaxM2", "NemotronH", "Mistral3")
"""Classes whose heads are not the outer width divided: a config of theirs has to say."""
_MIXES_WINDOWS = ("GptOss", "Gemma", "Exaone")
"""Classes of which some layers have a window, never all: a config of theirs has to say which."""


class Family(StrEnum):
    """How a class of models remembers; the catalogue says which class is of which."""

    ATTENTION = "attention"
    LATENT = "latent"
    DELTA = "delta"
    MAMBA = "mamba"
    ENCODER = "encoder"


def architecture_of(fields: Fields) -> str:
    """The class that the config names; raises `BadUsage`."""
    found = fields.words("architectures")
    if not found:
        raise fields.wrong("incomplete", "has no architectures, so nobody knows what it is")
    return found[0]


def _text(fields: Fields) -> Fields:
    """The table about the language model, with what its class fills in."""
    inner, name = fields.table(*_TEXTS) or fields, architecture_of(fields)
    filled = next((table for start, table in _LEFT_OUT.items() if name.startswith(start)), {})
    said = {key: value for key, value in inner.values.items() if value is not None}
    return Fields({**filled, **said, "architectures": [name]}, inner.source)


def shape_of(fields: Fields, family: Family) -> Shape:
    """The shape of a model of this family; raises `BadUsage` (`model-config-…`)."""
    text = _text(fields)
    hidden = text.number("hidden_size", most=1 << 20)
    heads = text.number("num_attention_heads", most=1 << 12)
    longest, untold, positions = _lengths(text)
    return Shape(
        architecture=architecture_of(fields),
        layers=_layers(text, family, hidden, heads),
        hidden=hidden,
        vocabulary=text.number("vocab_size", most=1 << 24),
        heads=heads,
        intermediate=text.number("intermediate_size", "moe_intermediate_size", most=1 << 24),
        longest=longest,
        untold=untold,
        positions=positions,
        number_bytes=NUMBER_BYTES,
        dtype=_dtype(fields, text),
        tied=_tied(fields, text),
        vision=_vision(fields, hidden),
        head_width=_head_width(text, hidden, heads),
        key_heads=_key_heads(text, heads),
        quantised=_quantised(fields, text),
        experts=_experts(text),
        drafts=text.maybe("num_nextn_predict_layers", "mtp_num_hidden_layers", least=0) or 0,
        cache_dtype=_cache_dtype(fields, text),
        matrices=2 if family is Family.ENCODER else 3,
        unfolded=_unfolded(text, heads) if family is Family.LATENT else 0,
    )


def _dtype(fields: Fields, text: Fields) -> str:
    said = text.word("dtype", "torch_dtype") or fields.word("dtype", "torch_dtype")
    found = _DTYPES.get(said.removeprefix("torch."))
    if found is None:
        raise text.wrong("unsupported", f"has numbers in {said!r}, which is not modelled")
    return found


def _layers(text: Fields, family: Family, hidden: int, heads: int) -> tuple[Layer, ...]:
    count = text.number("num_hidden_layers", "num_layers", most=2000)
    if family is Family.ENCODER:
        return (Layer(None, numbers=4 * hidden * hidden),) * count
    if family is Family.LATENT:
        return (_latent(text, hidden, heads),) * count
    if text.maybe("kv_lora_rank", least=0):
        raise text.wrong(
            "unsupported",
            f"has kv_lora_rank (latent attention), which its class, {architecture_of(text)}, is "
            "not known for: what it keeps of a token is not modelled",
        )
    kinds = _kinds(text, family, count)
    window = _window(text) if Kind.SLIDING in kinds else 0
    chunk = text.number("attention_chunk_size") if Kind.CHUNKED in kinds else 0
    state = _state(text, family) if Kind.STATE in kinds else None
    full, local = _heads(text, hidden, heads)
    gate = 2 if text.flag("attn_output_gate") else 1
    wide, narrow = (
        hidden * width // 2 * (heads * (1 + gate) + 2 * count) for count, width in (full, local)
    )
    by_kind: dict[Kind | None, Layer] = {
        None: Layer(None),
        Kind.FULL: Layer(Kind.FULL, *full, numbers=wide),
        Kind.SLIDING: Layer(Kind.SLIDING, *local, window, numbers=narrow),
        Kind.CHUNKED: Layer(Kind.CHUNKED, *local, chunk, numbers=narrow),
        Kind.STATE: Layer(Kind.STATE, state=state, numbers=_state_numbers(state, hidden)),
    }
    shared = text.maybe("num_kv_shared_layers", least=0, most=count) or 0
    return tuple(
        by_kind[kind] if index < count - shared else Layer(None, numbers=by_kind[kind].numbers)
        for index, kind in enumerate(kinds)
    )


def _state_numbers(state: State | None, hidden: int) -> int:
    """Into keys, values and a gate as wide as these, and out again."""
    if state is None:
        return 0
    inner = state.heads * state.head_width
    return hidden * (3 * inner + 2 * state.groups * state.key_width + 2 * state.heads)


def _vision(fields: Fields, hidden: int) -> int:
    """Numbers of a tower that sees, by the common plan of such towers; 0 without."""
    table = fields.table("vision_config")
    if table is None:
        return 0
    width, depth = table.maybe("hidden_size") or 0, table.maybe("depth", "num_hidden_layers") or 0
    inner = table.maybe("intermediate_size") or 4 * width
    joined = width * (table.maybe("spatial_merge_size") or 1) ** 2
    return depth * (4 * width * width + 2 * width * inner) + joined * (joined + hidden)


def _unfolded(text: Fields, heads: int) -> int:
    return heads * ((text.maybe("qk_nope_head_dim") or 0) + (text.maybe("v_head_dim") or 0))


def _latent(text: Fields, hidden: int, heads: int) -> Layer:
    if text.maybe("index_topk", least=0):
        raise text.wrong(
            "unsupported", "has index_topk: sparse attention keeps an index that is not modelled"
        )
    rank, turned = text.number("kv_lora_rank", most=1 << 16), text.number("qk_rope_head_dim")
    plain, values = text.number("qk_nope_head_dim"), text.number("v_head_dim")
    asked = text.maybe("q_lora_rank")
    queries = heads * (plain + turned)
    into = asked * (hidden + queries) if asked else hidden * queries
    out = rank * heads * (plain + values) + heads * values * hidden
    own = into + hidden * (rank + turned) + out
    whole = hidden * ((asked or 0) + rank + turned)
    return Layer(Kind.LATENT, heads=1, width=rank + turned, numbers=own, whole=whole)


def _heads(text: Fields, hidden: int, heads: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Heads and their width (keys and values) of full layers, and of those with a window."""
    count, width = _key_heads(text, heads), _head_width(text, hidden, heads)
    wide = text.maybe("global_head_dim", most=1 << 14) or width
    few = text.maybe("num_global_key_value_heads", most=1 << 12) or count
    return (few, 2 * wide), (count, 2 * width)


def _key_heads(text: Fields, heads: int) -> int:
    found = text.maybe("num_key_value_heads", "num_kv_heads", most=1 << 12)
    if found is None:
        _refuse_without(text, _OWN_HEADS, "num_key_value_heads")
        return heads
    if heads % found:
        raise text.wrong(
            "contradictory", f"has {heads} heads, which {found} heads of keys do not divide"
        )
    return found


def _head_width(text: Fields, hidden: int, heads: int) -> int:
    found = text.maybe("head_dim", most=1 << 14)
    if found is not None:
        return found
    _refuse_without(text, _OWN_HEADS, "head_dim")
    if hidden % heads:
        raise text.wrong(
            "contradictory", f"has no head_dim, and {heads} heads do not divide {hidden}"
        )
    return hidden // heads


def _refuse_without(text: Fields, classes: Sequence[str], told: str) -> None:
    """Refuse a config of these classes that leaves out what others can leave out."""
    if (name := architecture_of(text)).startswith(tuple(classes)):
        raise text.wrong("incomplete", f"has no {told}, which a {name} has to say")


def _kinds(text: Fields, family: Family, count: int) -> tuple[Kind | None, ...]:
    if named := text.words("layer_types"):
        return _named(text, named, count)
    if pattern := text.word("hybrid_override_pattern"):
        return _lettered(text, pattern, count)
    if family in (Family.DELTA, Family.MAMBA):
        if family is Family.MAMBA:
            raise text.wrong("incomplete", "has no layer_types, and mixes two kinds of layers")
        every = text.number("full_attention_interval", most=count)
        return _every(every, Kind.STATE, count)
    return _windowed(text, count)


def _named(text: Fields, named: Sequence[str], count: int) -> tuple[Kind | None, ...]:
    if len(named) != count:
        raise text.wrong("contradictory", f"names {len(named)} layer_types for {count} layers")
    if unknown := sorted(set(named) - set(_KINDS)):
        raise text.wrong("unsupported", f"has layers of a kind that is not modelled: {unknown[0]}")
    return tuple(_KINDS[name] for name in named)


def _lettered(text: Fields, pattern: str, count: int) -> tuple[Kind | None, ...]:
    if len(pattern) != count or set(pattern) - set(_LETTERS):
        raise text.wrong(
            "contradictory", f"has a hybrid_override_pattern that is not of {count} known layers"
        )
    return tuple(_LETTERS[letter] for letter in pattern)


def _windowed(text: Fields, count: int) -> tuple[Kind | None, ...]:
    """Older configs: a window for all layers, or for all but every nth."""
    used = text.flag("use_sliding_window")
    if used is None and architecture_of(text).startswith("Qwen"):
        used = False
    if used is False or not text.maybe("sliding_window", least=0):
        return (Kind.FULL,) * count
    if used:
        raise text.wrong("unsupported", "has use_sliding_window without layer_types")
    pattern = text.values.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern and not set(pattern) - {"L", "G"}:
        letters = {"L": Kind.SLIDING, "G": Kind.FULL}
        return tuple(letters[pattern[index % len(pattern)]] for index in range(count))
    if pattern is not None:
        every = text.number("sliding_window_pattern", most=count)
        return _every(every, Kind.SLIDING, count)
    _refuse_without(text, _MIXES_WINDOWS, "layer_types and no sliding_window_pattern")
    return (Kind.SLIDING,) * count


def _every(nth: int, others: Kind, count: int) -> tuple[Kind | None, ...]:
    return tuple(Kind.FULL if (index + 1) % nth == 0 else others for index in range(count))


def _window(text: Fields) -> int:
    return text.number("sliding_window", most=1 << 30)


def _state(text: Fields, family: Family) -> State:
    return _delta_state(text) if family is Family.DELTA else _mamba_state(text)


def _delta_state(text: Fields) -> State:
    return State(
        heads=text.number("linear_num_value_heads", most=1 << 12),
        head_width=text.number("linear_value_head_dim", most=1 << 14),
        state_width=text.number("linear_key_head_dim", most=1 << 14),
        groups=text.number("linear_num_key_heads", most=1 << 12),
        key_width=text.number("linear_key_head_dim", most=1 << 14),
        kernel=text.number("linear_conv_kernel_dim", most=1 << 10),
        matrix_bytes=_matrix_bytes(text, "mamba_ssm_dtype", absent=NUMBER_BYTES),
        extends=False,
    )


def _mamba_state(text: Fields) -> State:
    width = text.number("ssm_state_size", "mamba_d_state", most=1 << 14)
    return State(
        heads=text.number("mamba_num_heads", "mamba_n_heads", most=1 << 12),
        head_width=text.number("mamba_head_dim", "mamba_d_head", most=1 << 14),
        state_width=width,
        groups=text.number("n_groups", "mamba_n_groups", most=1 << 12),
        key_width=width,
        kernel=text.number("conv_kernel", "mamba_d_conv", most=1 << 10),
        # Nemotron's states are 32 bits wide unless its config says otherwise.
        matrix_bytes=_matrix_bytes(
            text,
            "mamba_ssm_cache_dtype",
            absent=4 if text.word("hybrid_override_pattern") else NUMBER_BYTES,
        ),
        extends=True,
    )


def _matrix_bytes(text: Fields, name: str, *, absent: int) -> int:
    said = text.word(name)
    if said and said not in BYTES_PER_STATE:
        raise text.wrong("unsupported", f"{name} is {said!r}, which is not modelled")
    return BYTES_PER_STATE.get(said, absent)


def _lengths(text: Fields) -> tuple[int, int, int]:
    """The longest request, that where nobody says one, and the positions that tables have."""
    found = text.number("max_position_embeddings", "n_positions", "max_seq_len", most=1 << 30)
    turnings = tuple(_turnings(text))
    positions = int(found * max(map(_factor, turnings), default=1.0))
    # Gemma 3's own number has been multiplied already, so the engine leaves it.
    longest = found if architecture_of(text).startswith("Gemma3") else positions
    if any(_kind_of(one) == "longrope" for one in turnings):
        return longest, text.maybe("original_max_position_embeddings") or longest, positions
    return longest, longest, positions


def _turnings(text: Fields) -> Iterator[Fields]:
    """How positions are turned: one table, or one for each kind of layers."""
    table = text.table("rope_scaling", "rope_parameters")
    if table is None:
        return
    inner = [table.table(name) for name in _KINDS]
    yield from [found for found in inner if found is not None] or [table]


def _kind_of(turning: Fields) -> str:
    return turning.word("rope_type", "type")


def _factor(turning: Fields) -> float:
    if _kind_of(turning) not in ("linear", "dynamic"):
        return 1.0
    factor = turning.values.get("factor", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor <= _TIMES:
        raise turning.wrong("absurd", f"factor is {factor!r}; it must be above 0, to {_TIMES}")
    return float(factor)


def _tied(fields: Fields, text: Fields) -> bool:
    """A config leaves out what its class assumes, and Gemma's assumes another thing than others."""
    for table in (text, fields):
        if (said := table.flag("tie_word_embeddings")) is not None:
            return said
    return architecture_of(fields).startswith("Gemma")


def _quantised(fields: Fields, text: Fields) -> Quantised | None:
    names = ("quantization_config", "compression_config")
    table = fields.table(*names) or text.table(*names)
    if table is None:
        return None
    method = table.word("quant_method").lower().replace("_", "-")
    if not method:
        raise table.wrong("incomplete", "has no quant_method")
    return Quantised(method, _form(table, method), _quantised_block(table))


def _form(table: Fields, method: str) -> str:
    if method in ("awq", "gptq"):
        bits = table.maybe("bits", "w_bit", least=1, most=16)
        return {4: method, 8: "fp8"}.get(bits or 4, "")
    if method in ("fp8", "mxfp4"):
        return method
    if method == "modelopt":
        algorithm = table.word("quant_algo").upper()
        return {"FP8": "fp8", "NVFP4": "nvfp4"}.get(algorithm, "")
    groups = table.table("config_groups")
    widths = {_bits(groups, name) for name in groups.values} if groups else set()
    # Where groups differ, how much is of which the config does not say.
    return {4: "gptq", 8: "fp8"}.get(widths.pop(), "") if len(widths) == 1 else ""


def _bits(groups: Fields, name: str) -> int:
    """Bits of the weights of one of several groups; 0 where it does not say."""
    group = groups.table(name)
    weights = group.table("weights") if group else None
    return (weights.maybe("num_bits") if weights else None) or 0


def _quantised_block(table: Fields) -> tuple[int, int] | None:
    block = table.values.get("weight_block_size")
    if block is not None:
        if not isinstance(block, list) or len(block) != 2 or not all(map(_is_size, block)):
            raise table.wrong("invalid", "weight_block_size is not two numbers above 0")
        return block[0], block[1]
    if group := table.maybe("group_size", least=-1):
        return (1, group) if group > 0 else None
    return None


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 1 << 16


def _cache_dtype(fields: Fields, text: Fields) -> str:
    """Whether the weights bring scales for a context in 8 bits, which the engine then uses."""
    names = ("quantization_config", "compression_config")
    table = fields.table(*names) or text.table(*names)
    if table is None:
        return ""
    scheme = table.table("kv_cache_scheme")
    if scheme is not None:
        floats = scheme.word("type") == "float" and scheme.maybe("num_bits") == 8
        return "fp8" if floats else ""
    return "fp8" if table.word("kv_cache_quant_algo").upper() == "FP8" else ""


def _experts(text: Fields) -> Experts | None:
    count = text.maybe(
        "num_experts", "num_local_experts", "n_routed_experts", least=0, most=1 << 16
    )
    if count is None:
        if text.maybe("moe_intermediate_size", "num_experts_per_tok", least=0):
            raise text.wrong("incomplete", "has experts and does not say how many (num_experts)")
        return None
    if count < 2:
        return None
    # Where experts are called local, the width of all is theirs.
    widths = ("moe_intermediate_size", "intermediate_size")
    width = text.number(*widths[: 2 if "num_local_experts" in text.values else 1], most=1 << 24)
    shared = text.maybe("shared_expert_intermediate_size", least=0, most=1 << 24)
    if shared is None:
        shared = width * (text.maybe("n_shared_experts", "num_shared_experts", least=0) or 0)
    chosen = text.number("num_experts_per_tok", "experts_per_token", "top_k_experts", most=count)
    return Experts(count, chosen, width, shared, _layers_with_experts(text))


def _layers_with_experts(text: Fields) -> int:
    count = text.number("num_hidden_layers", "num_layers", most=2000)
    if kinds := text.words("mlp_layer_types"):
        return sum(kind == "sparse" for kind in kinds)
    if pattern := text.word("hybrid_override_pattern"):
        return pattern.count("E")
    dense = text.maybe("first_k_dense_replace", "first_last_k_dense_replace", least=0) or 0
    listed = text.values.get("mlp_only_layers")
    return max(0, count - dense - (len(listed) if isinstance(listed, list) else 0))
