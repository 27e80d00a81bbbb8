"""The model with weights set by hand (`hand_made_model`) as one GGUF file, for llama-server.

Names of keys and tensors are those of GGUF's specification for the architecture `llama`.
"""

from __future__ import annotations

import json
import struct

import numpy
from safetensors.numpy import load

import hand_made_model as model
from weight_files import array, gguf, pair, string, tensor_info, text

NAME = "hand-made-F32.gguf"
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
NORMAL, CONTROL = 1, 3
ALIGNMENT = 32
_OUTER = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
}
_INNER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def file() -> bytes:
    """The whole file; 32-bit floats."""
    made = model.files()
    infos, data = [], b""
    for name, tensor in sorted(load(made["model.safetensors"]).items()):
        infos.append(tensor_info(_renamed(name), tensor.shape[::-1], 0, len(data)))
        data += tensor.astype(numpy.float32).tobytes()
        data += bytes(-len(data) % ALIGNMENT)
    vocabulary = json.loads(made["tokenizer.json"])["model"]["vocab"]
    return gguf([*_shape(len(vocabulary)), *_words(vocabulary)], infos, data)


def _renamed(name: str) -> str:
    plain = name.removesuffix(".weight")
    if plain in _OUTER:
        return f"{_OUTER[plain]}.weight"
    number, _, inner = plain.removeprefix("model.layers.").partition(".")
    return f"blk.{number}.{_INNER[inner]}.weight"


def _shape(vocabulary: int) -> list[bytes]:
    counts = {
        "context_length": model.CONTEXT,
        "embedding_length": model.HIDDEN,
        "block_count": model.LAYERS,
        "feed_forward_length": model.INNER,
        "attention.head_count": model.HEADS,
        "attention.head_count_kv": model.KV_HEADS,
        "attention.key_length": model.HEAD_SIZE,
        "attention.value_length": model.HEAD_SIZE,
        "rope.dimension_count": model.HEAD_SIZE,
        "vocab_size": vocabulary,
    }
    return [
        string("general.architecture", "llama"),
        string("general.name", "hand made"),
        *(pair(f"llama.{key}", UINT32, struct.pack("<I", n)) for key, n in counts.items()),
        pair("llama.attention.layer_norm_rms_epsilon", FLOAT32, struct.pack("<f", 1e-6)),
        pair("llama.rope.freq_base", FLOAT32, struct.pack("<f", 10000.0)),
    ]


def _words(vocabulary: dict[str, int]) -> list[bytes]:
    tokens = sorted(vocabulary, key=lambda token: vocabulary[token])
    kinds = [CONTROL if token in model.SPECIAL else NORMAL for token in tokens]
    return [
        string("tokenizer.ggml.model", "gpt2"),
        string("tokenizer.ggml.pre", "gpt-2"),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, len(tokens), _texts(tokens))),
        pair(
            "tokenizer.ggml.token_type",
            ARRAY,
            array(INT32, len(kinds), struct.pack(f"<{len(kinds)}i", *kinds)),
        ),
        # A merge of two bytes that no text of the tests has side by side.
        pair("tokenizer.ggml.merges", ARRAY, array(STRING, 1, text("~ ~"))),
        pair("tokenizer.ggml.bos_token_id", UINT32, struct.pack("<I", vocabulary[model.START])),
        pair("tokenizer.ggml.eos_token_id", UINT32, struct.pack("<I", vocabulary[model.END])),
        pair("tokenizer.ggml.add_bos_token", BOOL, b"\0"),
        string("tokenizer.chat_template", model.TEMPLATE),
    ]


def _texts(items: list[str]) -> bytes:
    return b"".join(text(item) for item in items)
