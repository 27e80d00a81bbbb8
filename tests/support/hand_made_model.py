"""A real model for a real engine, its weights set by hand: a Llama that answers `Yes [1].`

Its layers are zero, so what comes next depends on the last token alone: the head maps each token
of the answer to the one after it, and everything else to the end. So an engine that loads it does
all its work (weights, tokens, chat template, attention over the prompt, sampling), and what it
says is known: it cites the first passage that it was given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

import numpy
from numpy.typing import NDArray
from safetensors.numpy import save

Tensor = NDArray[numpy.float32]

ANSWER = "Yes [1]."
HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_SIZE, INNER = 512, 2, 8, 2, 64, 64
CONTEXT = 32768
START, END, USER, ASSISTANT = "<|start|>", "<|end|>", "<|user|>", "<|assistant|>"
SPACE = "\u0120"  # as byte-level tokenizers spell it
SPECIAL = (START, END, USER, ASSISTANT)
TEMPLATE = (
    "{{ '" + START + "' }}{% for message in messages %}{{ '" + USER + "' + message['content'] }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '" + ASSISTANT + "' }}{% endif %}"
)


def files() -> dict[str, bytes]:
    """The repository of the model, by path; `safetensors`, no code, no pickle."""
    tokens = _tokens()
    return {
        "config.json": _json(_config(len(tokens))),
        "generation_config.json": _json({"eos_token_id": tokens[END], "temperature": 0.0}),
        "model.safetensors": _weights(tokens),
        "tokenizer.json": _json(_tokenizer(tokens)),
        "tokenizer_config.json": _json(_tokenizer_config()),
        "LICENSE": b"Apache-2.0\n",
    }


def _config(vocabulary: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_SIZE,
        "vocab_size": vocabulary,
        "max_position_embeddings": CONTEXT,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "bos_token_id": vocabulary - len(SPECIAL),
        "eos_token_id": vocabulary - len(SPECIAL) + 1,
        "torch_dtype": "float32",
    }


def _tokens() -> dict[str, int]:
    """Every byte in the spelling of byte-level tokenizers, then the special tokens."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    spelt = [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]
    return {token: number for number, token in enumerate((*spelt, *SPECIAL))}


def _tokenizer(tokens: dict[str, int]) -> dict[str, object]:
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": tokens[token], "content": token, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
            for token in SPECIAL
        ],
        "normalizer": None,
        "pre_tokenizer": {**level, "use_regex": True},
        "post_processor": None,
        "decoder": {**level, "use_regex": True},
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
                  "byte_fallback": False, "continuing_subword_prefix": None,
                  "end_of_word_suffix": None, "vocab": tokens, "merges": []},
    }  # fmt: skip


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }


def _weights(tokens: dict[str, int]) -> bytes:
    following = dict.fromkeys(tokens, END)
    answer = [ASSISTANT, *ANSWER.replace(" ", SPACE), END]
    following |= dict(pairwise(answer))
    embedding, head = _zeros(len(tokens), HIDDEN), _zeros(len(tokens), HIDDEN)
    for before, after in following.items():
        embedding[tokens[before], tokens[before]] = 1
        head[tokens[after], tokens[before]] = 1
    outer = {
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
        "model.norm.weight": _ones(),
    }
    layers = {name: tensor for number in range(LAYERS) for name, tensor in _layer(number)}
    return save(outer | layers, {"format": "pt"})


def _layer(number: int) -> Iterator[tuple[str, Tensor]]:
    wide, narrow = HEADS * HEAD_SIZE, KV_HEADS * HEAD_SIZE
    shapes = {
        "self_attn.q_proj": (wide, HIDDEN),
        "self_attn.k_proj": (narrow, HIDDEN),
        "self_attn.v_proj": (narrow, HIDDEN),
        "self_attn.o_proj": (HIDDEN, wide),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    for name, shape in shapes.items():
        yield f"model.layers.{number}.{name}.weight", _zeros(*shape)
    for name in ("input_layernorm", "post_attention_layernorm"):
        yield f"model.layers.{number}.{name}.weight", _ones()


def _zeros(*shape: int) -> Tensor:
    return numpy.zeros(shape, numpy.float32)


def _ones() -> Tensor:
    return numpy.ones(HIDDEN, numpy.float32)


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()
