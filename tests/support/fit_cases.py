"""Cases that vLLM's own functions and ours compute alike: models, how they are cut, memory.

Their configs lie in tests/assets/fit/configs (the fields of public config.json files; where from
stands in docs/catalogue-sources.md), what vLLM 0.32.0 made of them in vllm-0.32.0.json beside.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aibox.fit import caches, fields, reading
from aibox.fit.blocks import Load, Pool
from aibox.fit.engine import GIB, Engine
from aibox.fit.reading import Family
from aibox.fit.shapes import Shape

ASSETS = Path(__file__).parents[1] / "assets" / "fit"
RECORDED = ASSETS / "vllm-0.32.0.json"


@dataclass(frozen=True)
class Case:
    """One model, cut so, with so many GiB for contexts on each GPU."""

    id: str
    config: str
    gib: float
    engine: Engine
    family: Family = Family.ATTENTION
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def available(self) -> int:
        """Bytes for contexts on each GPU."""
        return int(self.gib * GIB)

    @property
    def values(self) -> dict[str, Any]:
        """The fields of its config.json."""
        read = json.loads((ASSETS / "configs" / f"{self.config}.json").read_text())
        return {**read, **self.fields}

    @property
    def shape(self) -> Shape:
        """The model as we read it."""
        return reading.shape_of(
            fields.parse(json.dumps(self.values).encode(), self.config), self.family
        )

    @property
    def pool(self) -> Pool:
        """The pool as we compute it."""
        return caches.pool_of(self.shape, self.engine)

    @property
    def load(self) -> Load:
        """What a request can hold beside its tokens."""
        return caches.load_of(self.shape, self.engine)

    def for_vllm(self) -> dict[str, Any]:
        """The case as `fit_in_vllm` reads it."""
        engine = self.engine
        return {
            "id": self.id,
            "config": self.values,
            "available": self.available,
            "tensor_parallel": engine.tensor_parallel,
            "stages": engine.stages,
            "asynchronous": engine.asynchronous,
            "arguments": {
                "max_model_len": engine.context,
                "max_num_batched_tokens": engine.batched_tokens,
                "max_num_seqs": engine.sequences,
                "block_size": engine.block,
                "kv_cache_dtype": engine.cache_dtype,
                "enable_prefix_caching": engine.prefix_caching,
            },
        }

    def ours(self) -> dict[str, Any]:
        """What we compute, in the words of the recording."""
        assert self.engine.context is not None
        told: dict[str, Any] = {"in_flight": self.engine.in_flight}
        pool, load, context = self.pool, self.load, self.engine.context
        blocks = pool.count([self.available] * self.engine.stages)
        if not pool.starts(blocks, context, load):
            return {**told, "longest": pool.longest(blocks, context, load)}
        return {
            **told,
            "blocks": blocks,
            "groups": len(pool.groups),
            "tokens": pool.tokens(blocks, context, load),
            "concurrency": round(pool.concurrency(blocks, context, load), 6),
        }


def engine(context: int, **words: Any) -> Engine:
    """As the engine starts on a CPU, whose scheduler is not asynchronous.

    Its attention wants blocks of 32 tokens where layers differ, a GPU's 16.
    """
    words = {"batched_tokens": 4096, "sequences": 64, "asynchronous": False, **words}
    return Engine(context=context, **words)


CASES = (
    Case("full attention", "llama-3.1-8b", 4, engine(8192)),
    Case("full attention in FP8", "llama-3.1-8b", 4, engine(8192, cache_dtype="fp8")),
    Case("blocks of a CPU", "llama-3.1-8b", 4, engine(8192, block=128)),
    Case("two GPUs", "qwen3-32b", 30, engine(32768, tensor_parallel=2)),
    Case("four GPUs", "llama-3.1-70b", 40, engine(131072, tensor_parallel=4)),
    Case("more GPUs than heads of keys", "llama-3.1-70b", 10, engine(16384, tensor_parallel=16)),
    Case("two stages", "qwen3-32b", 20, engine(32768, stages=2)),
    Case("stages that do not divide", "qwen3-32b", 20, engine(32768, stages=3)),
    Case("too little memory", "llama-3.1-8b", 1, engine(131072)),
    Case("experts", "qwen3-235b-a22b", 8.11, engine(32768, tensor_parallel=4)),
    Case("every other layer slides", "gpt-oss-20b", 8, engine(32768, block=32)),
    Case("every other slides, long", "gpt-oss-120b", 50, engine(131072, block=32)),
    Case("slides over stages", "gpt-oss-120b", 10, engine(65536, stages=2, block=32)),
    Case("three of four slide", "exaone-4.0-32b", 30, engine(32768, tensor_parallel=2, block=32)),
    Case("three of four slide, too long", "exaone-4.0-32b", 3, engine(131072, block=32)),
    Case("five of six slide, of other width", "gemma-4-26b-a4b-text", 20, engine(32768, block=32)),
    Case("latent", "deepseek-v3", 20, engine(32768, batched_tokens=32768), Family.LATENT),
    Case(
        "latent on eight GPUs",
        "deepseek-v3",
        20,
        engine(65536, tensor_parallel=8, batched_tokens=65536),
        Family.LATENT,
    ),
    Case("delta nets", "qwen3-next-like", 10, engine(131072, block=32), Family.DELTA),
    Case(
        "delta nets without a prefix cache",
        "qwen3-next-like",
        10,
        engine(131072, prefix_caching=False, block=32),
        Family.DELTA,
    ),
    Case(
        "delta nets on two GPUs",
        "qwen3-next-like",
        10,
        engine(262144, tensor_parallel=2, block=32),
        Family.DELTA,
    ),
    Case("Mamba", "nemotron-h-like", 10, engine(131072, block=32), Family.MAMBA),
    Case(
        "Mamba on two GPUs",
        "nemotron-h-like",
        10,
        engine(131072, tensor_parallel=2, block=32),
        Family.MAMBA,
    ),
)
