"""The engine's flags that decide about memory, with the defaults of vLLM 0.32."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aibox.errors import BadUsage, Fault

_Known = TypeVar("_Known", str, int)

ARITHMETIC = "0.32.0"
"""The version of vLLM whose rules are computed."""
FOLLOWED = "0.26.0"
"""An older one that was seen to count the same blocks on a real card (tests/assets/h200)."""

GIB = 1 << 30
MIB = 1 << 20
UTILIZATION = 0.92
BLOCK = {True: 128, False: 16}
"""Tokens of a block, on the CPU and on GPUs."""

STAGES, CUT = "pipeline-parallel-size", "tensor-parallel-size"
DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
"""What the engine can be told to compute in; `auto` is what the weights are in, at most 16 bits."""
COMPUTED = (
    *("max-model-len", "max-num-seqs", "max-num-batched-tokens", "gpu-memory-utilization"),
    *("kv-cache-memory-bytes", "kv-cache-dtype", "block-size", "enable-prefix-caching"),
    *("async-scheduling", "enforce-eager", "speculative-config", "enable-lora", "max-loras"),
    *("max-lora-rank", "dtype", STAGES, CUT),
)
"""Arguments that decide about memory, and are computed with."""
_NOT_MODELLED = (
    *("quantization", "cpu-offload-gb", "rope-scaling", "rope-theta", "hf-overrides"),
    *("num-gpu-blocks-override", "data-parallel-size", "decode-context-parallel-size"),
    *("prefill-context-parallel-size", "disable-hybrid-kv-cache-manager", "mamba-cache-mode"),
)
"""Arguments that decide about memory, and are not."""
_GUESSES_ALONE = ("ngram", "suffix", "mtp")
"""Speculation without a model beside it."""
_METHODS = (*_GUESSES_ALONE, "draft_model", "eagle", "eagle3")
_MOST = 1 << 20
_BLOCKS = (16, 1024)
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


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
    dtype: str = "auto"
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

    Raises `BadUsage` (`fit-argument-…`).
    """
    read = _Arguments(arguments)
    read.refuse(_NOT_MODELLED)
    sequences, batched = (128, 2048) if cpu else batch_defaults(memory_mib, name)
    return Engine(
        tensor_parallel=tensor_parallel,
        stages=read.number(STAGES) or 1,
        context=read.number("max-model-len", most=1 << 30),
        sequences=read.number("max-num-seqs") or sequences,
        batched_tokens=read.number("max-num-batched-tokens") or batched,
        utilization=read.share("gpu-memory-utilization") or UTILIZATION,
        cache_memory=read.number("kv-cache-memory-bytes", most=1 << 46),
        cache_dtype=read.word("kv-cache-dtype") or "auto",
        block=read.step("block-size", *_BLOCKS) or BLOCK[cpu],
        prefix_caching=read.flag("enable-prefix-caching", default=True),
        asynchronous=read.flag("async-scheduling", default=True),
        eager=read.flag("enforce-eager", default=False),
        dtype=read.one_of("dtype", DTYPES) or "auto",
        cpu=cpu,
        **_speculation(_Arguments(read.table("speculative-config"), "speculative-config.")),
        **_adapters(read),
    )


def cut_in(arguments: Mapping[str, Any]) -> int | None:
    """Over how many GPUs the arguments cut each layer; None where they do not say."""
    return _Arguments(arguments).number(CUT)


def _speculation(read: _Arguments) -> dict[str, Any]:
    if not read.values:
        return {}
    model = read.word("model")
    method = read.one_of("method", _METHODS) or ("draft_model" if model else "")
    drafted = read.number("num_speculative_tokens", most=1 << 10) or 0
    if not method or (not model and method not in _GUESSES_ALONE):
        raise _wrong("speculative-config", dict(read.values), "a table with a method or a model")
    if not drafted and method != "mtp":
        raise _wrong("speculative-config.num_speculative_tokens", None, "a whole number from 1")
    return {"draft_method": method, "draft_model": model, "drafted": drafted}


def _adapters(read: _Arguments) -> dict[str, Any]:
    slots, rank = read.number("max-loras"), read.one_of("max-lora-rank", _RANKS)
    if not read.flag("enable-lora", default=False):
        if slots or rank:
            raise _wrong("enable-lora", None, "true where slots for adapters are asked for")
        return {}
    return {"adapters": slots or 1, "rank": rank or 16}


@dataclass(frozen=True, slots=True)
class _Arguments:
    """Arguments, read strictly; `inside` names the table that they are in."""

    values: Mapping[str, Any]
    inside: str = ""

    def refuse(self, keys: Sequence[str]) -> None:
        for key in keys:
            if key in self.values:
                raise BadUsage(
                    "fit-argument-not-modelled",
                    f"the engine's argument {key} changes what fits, and is not computed here",
                    hint="leave it out; what is computed says: ./aibox fit --help",
                    fault=Fault.YOU,
                )

    def number(self, key: str, most: int = _MOST) -> int | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= most:
            raise _wrong(self.inside + key, value, f"a whole number from 1 to {most}")
        return value

    def step(self, key: str, step: int, most: int) -> int | None:
        value = self.number(key)
        if value is not None and (value % step or value > most):
            raise _wrong(self.inside + key, value, f"a multiple of {step}, to {most}")
        return value

    def one_of(self, key: str, known: Sequence[_Known]) -> _Known | None:
        value = self.values.get(key)
        if value is None:
            return None
        found = next((one for one in known if type(one) is type(value) and one == value), None)
        if found is None:
            raise _wrong(self.inside + key, value, f"one of {', '.join(map(str, known))}")
        return found

    def share(self, key: str) -> float | None:
        value = self.values.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise _wrong(self.inside + key, value, "a share, above 0 and at most 1")
        return float(value)

    def word(self, key: str) -> str:
        value = self.values.get(key, "")
        if not isinstance(value, str):
            raise _wrong(self.inside + key, value, "a word")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise _wrong(self.inside + key, value, "true or false")
        return value

    def table(self, key: str) -> Mapping[str, Any]:
        value = self.values.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise _wrong(key, value, "a table")
        return value


def _wrong(key: str, value: object, wanted: str) -> BadUsage:
    return BadUsage(
        "fit-argument-invalid",
        f"the engine's argument {key} is {'missing' if value is None else repr(value)[:60]}; "
        f"it must be {wanted}",
        hint="for example: ./aibox fit --model NAME --gpu GPU --set max-num-seqs=64",
        fault=Fault.YOU,
    )
