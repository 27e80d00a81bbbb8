"""Real small encoders for a real engine: of the classes of bge-m3 and bge-reranker-v2-m3.

Their weights are drawn from a fixed seed, so what they say means nothing and is always the same.
Files, names and settings are those of the real repositories.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy
from numpy.typing import NDArray
from safetensors.numpy import save

import hand_made_model

Tensor = NDArray[numpy.float32]

DIMENSION, LAYERS, HEADS, INNER, CONTEXT = 128, 2, 2, 128, 8192  # 64 wide heads, as the real ones
# Positions are counted from the one after the padding token's number.
POSITIONS = CONTEXT + 2
_SEED = 20261125
_POOLING = "1_Pooling/config.json"


def embedding() -> dict[str, bytes]:
    """The repository of an embedding model, by path."""
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {
            "idx": number,
            "name": str(number),
            "path": "" if kind == "Transformer" else f"{number}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for number, kind in enumerate(kinds)
    ]
    pooling = {"word_embedding_dimension": DIMENSION, "pooling_mode_cls_token": True}
    return {
        **_files("XLMRobertaModel", dict(_encoder("")) | dict(_dense("pooler.dense"))),
        "modules.json": _json(modules),
        "sentence_bert_config.json": _json({"max_seq_length": CONTEXT, "do_lower_case": False}),
        _POOLING: _json(pooling),
    }


def reranking() -> dict[str, bytes]:
    """The repository of a reranking model, by path."""
    head = dict(_dense("classifier.dense")) | dict(_dense("classifier.out_proj", out=1))
    labels = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    weights = dict(_encoder("roberta.")) | head
    return _files("XLMRobertaForSequenceClassification", weights, labels)


def _files(
    architecture: str, weights: dict[str, Tensor], more: dict[str, object] | None = None
) -> dict[str, bytes]:
    # The tokenizer of the hand-made language model: every byte is a token.
    written = hand_made_model.files()
    return {
        "config.json": _json(_config(architecture) | (more or {})),
        "model.safetensors": save(weights, {"format": "pt"}),
        "tokenizer.json": written["tokenizer.json"],
        "tokenizer_config.json": written["tokenizer_config.json"],
    }


def _config(architecture: str) -> dict[str, object]:
    return {
        "architectures": [architecture],
        "model_type": "xlm-roberta",
        "hidden_size": DIMENSION,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "vocab_size": _vocabulary(),
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 1,
        "position_embedding_type": "absolute",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": "float32",
    }


def _vocabulary() -> int:
    read = json.loads(hand_made_model.files()["tokenizer.json"])
    return len(read["model"]["vocab"])


def _encoder(prefix: str) -> Iterator[tuple[str, Tensor]]:
    tables = {"word": _vocabulary(), "position": POSITIONS, "token_type": 1}
    for name, rows in tables.items():
        yield f"{prefix}embeddings.{name}_embeddings.weight", _drawn(name, rows, DIMENSION)
    yield from _norm(f"{prefix}embeddings.LayerNorm")
    for number in range(LAYERS):
        layer = f"{prefix}encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            yield from _dense(f"{layer}.attention.{part}")
        yield from _norm(f"{layer}.attention.output.LayerNorm")
        yield from _dense(f"{layer}.intermediate.dense", out=INNER)
        yield from _dense(f"{layer}.output.dense", into=INNER)
        yield from _norm(f"{layer}.output.LayerNorm")


def _dense(
    name: str, *, into: int = DIMENSION, out: int = DIMENSION
) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", _drawn(name, out, into)
    yield f"{name}.bias", numpy.zeros(out, numpy.float32)


def _norm(name: str) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", numpy.ones(DIMENSION, numpy.float32)
    yield f"{name}.bias", numpy.zeros(DIMENSION, numpy.float32)


def _drawn(name: str, *shape: int) -> Tensor:
    seed = [_SEED, *name.encode()]
    drawn = numpy.random.default_rng(seed).standard_normal(shape) / shape[-1] ** 0.5
    return drawn.astype(numpy.float32)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
