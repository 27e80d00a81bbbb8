"""The engine's flags that decide about memory, with the defaults of vLLM 0.32."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aibox.errors import BadUsage, Fault

ARITHMETIC = "0.32.0"
"""The version of vLLM whose rules are computed."""
FOLLOWED = "0.26.0"
"""An older one that was seen to count the same blocks on a real card (tests/assets/h200)."""

GIB = 1 << 30
MIB = 1 << 20
UTILIZATION = 0.92
BLOCK = {True: 128, False: 16}
"""Tokens of a block, on the CPU and on GPUs."""

STAGES = "pipeline-parallel-size"


@dataclass(frozen=True, slots=True)
class Engine:
    """How a model is served. Memory in bytes, lengths in tokens.

    `context` None is the model's own length; `cache_memory` freezes what contexts get, per GPU.
    `draft_method` is "" without speculation; `adapters` and `rank` are LoRA slots.
    """

    tensor_parallel: int = 1
    stages: int = 1
    context: int | None = None
    sequences: int = 256
    batched_tokens: int = 2048
    utilization: float = UTILIZATION
    cache_memory: int | None = None
    cache_dtype: str = "auto"
    block: int = BLOCK[False]
    prefix_caching: bool = True
    asynchronous: bool = True
    eager: bool = False
    draft_method: str = ""
    draft_model: str = ""
    drafted: int = 0
    adapters: int = 0
    rank: int = 0
    cpu: bool = False

    @property
    def gpus(self) -> int:
        """How many GPUs it takes."""
        return self.tensor_parallel * self.stages

    @property
    def in_flight(self) -> int:
        """Tokens that are scheduled and not yet settled: a batch for each step under way."""
        return (self.stages + (1 if self.asynchronous else 0)) * self.batched_tokens


def batch_defaults(memory_mib: int, name: str) -> tuple[int, int]:
    """Sequences and tokens of a step where nobody says: by the memory and the name of a card."""
    if memory_mib * MIB >= 160 * GIB:
        return 1024, 16384
    if memory_mib * MIB >= 70 * GIB and "a100" not in name.lower():
        return 1024, 8192
    return 256, 2048


def from_arguments(
    arguments: Mapping[str, Any],
    *,
    tensor_parallel: int,
    memory_mib: int,
    name: str,
    cpu: bool = False,
) -> Engine:
    """The engine that a profile's arguments describe; `name` and `memory_mib` are the card's.

    Raises `BadUsage` (`fit-argument-invalid`).
    """
    read = _Arguments(arguments)
    sequences, batched = (128, 2048) if cpu else batch_defaults(memory_mib, name)
    speculation = read.table("speculative-config")
    adapters = read.flag("enable-lora", default=False)
    context = read.number("max-model-len", least=-1)
    return Engine(
        tensor_parallel=tensor_parallel,
        stages=read.number(STAGES) or 1,
        context=context if context and context > 0 else None,
        sequences=read.number("max-num-seqs") or sequences,
        batched_tokens=read.number("max-num-batched-tokens") or batched,
        utilization=read.share("gpu-memory-utilization") or UTILIZATION,
        cache_memory=read.number("kv-cache-memory-bytes"),
        cache_dtype=read.word("kv-cache-dtype") or "auto",
        block=read.number("block-size") or BLOCK[cpu],
        prefix_caching=read.flag("enable-prefix-caching", default=True),
        asynchronous=read.flag("async-scheduling", default=True),
        eager=read.flag("enforce-eager", default=False),
        draft_method=str(speculation.get("method", "")),
        draft_model=str(speculation.get("model", "")),
        drafted=int(speculation.get("num_speculative_tokens", 0) or 0),
        adapters=(read.number("max-loras") or 1) if adapters else 0,
        rank=(read.number("max-lora-rank") or 16) if adapters else 0,
        cpu=cpu,
    )


@dataclass(frozen=True, slots=True)
class _Arguments:
    values: Mapping[str, Any]

    def number(self, key: str, least: int = 1) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise _wrong(key, value, f"a whole number from {least}")
        return value

    def share(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise _wrong(key, value, "a share, above 0 and at most 1")
        return float(value)

    def word(self, key: str) -> str:
        value = self.values.get(key, "")
        if not isinstance(value, str):
            raise _wrong(key, value, "a word")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise _wrong(key, value, "true or false")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        value = self.values.get(key) or {}
        if not isinstance(value, Mapping):
            raise _wrong(key, value, "a table")
        return value


def _wrong(key: str, value: object, wanted: str) -> BadUsage:
    return BadUsage(
        "fit-argument-invalid",
        f"the engine's argument {key} is {value!r}; it must be {wanted}",
        hint="correct it, then run: ./aibox fit",
        fault=Fault.YOU,
    )
