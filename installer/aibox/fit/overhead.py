"""What an engine takes beside weights and contexts: a range, because nobody can compute it.

The engine measures it when it starts. Each part says between which values it was seen or is
estimated, and by whom; after a first start the log of the engine replaces all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aibox.fit.engine import GIB, MIB, Engine
from aibox.fit.shapes import Shape

# Width of all heads, times this, times two bytes, is what a token takes on its way through a
# layer; by how many GPUs share it. Dense models and mixtures of experts.
_PER_TOKEN = {False: (10, 6, 5, 5), True: (22, 13, 10, 10)}
_SORTS = 9.65
"""Copies of the scores of every word that sorting them was seen to take (V1 model runner)."""

_SOURCES = {
    "activations": "low: aiconfigurator's memory model; high: sampling over the whole vocabulary, "
    "fitted to llm-d-planner's measured constants (vLLM's V1 runner; V2 measures less of it)",
    "graphs": "vLLM start logs, 0.2 to 1.5 GiB",
    "reserved": "what programs are offered of a card, against what nvidia-smi reports of it, in "
    "public messages: 0.34 GiB less on an RTX 4090, 0.47 on an H100, 0.6 on an L40S, 0.85 on an "
    "A100",
    "driver": "llm-d-planner: 0.15 GiB on one GPU, 0.6 GiB on more; aiconfigurator: NCCL 342 MiB",
    "vision": "llm-d-planner: 2.5 GiB for models that see, unless pictures are refused",
    "drafts": "not measured by anybody we know of",
    "compiled": "vLLM start logs of the CPU build",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that takes memory on each GPU, between `low` and `high` bytes."""

    name: str
    low: int
    high: int

    @property
    def source(self) -> str:
        """Where the two values come from."""
        return _SOURCES[self.name]


def of_engine(found: Sequence[Part]) -> tuple[int, int]:
    """What an engine itself takes, low and high: what a card keeps back is kept back once."""
    own = [one for one in found if one.name != "reserved"]
    return sum(one.low for one in own), sum(one.high for one in own)


def parts(shape: Shape, engine: Engine) -> tuple[Part, ...]:
    """What an engine with this model takes on each GPU beside weights and contexts."""
    if engine.cpu:
        return (
            Part("activations", _activations(shape, engine), _activations(shape, engine) + GIB),
            Part("compiled", GIB // 2, 2 * GIB),
        )
    return tuple(_on_gpus(shape, engine))


def _on_gpus(shape: Shape, engine: Engine) -> Iterator[Part]:
    low = _activations(shape, engine)
    yield Part("activations", low, max(low + GIB // 2, _sampling(shape, engine)))
    if not engine.eager and shape.attends:
        yield Part("graphs", 200 * MIB, 1536 * MIB)
    yield Part("reserved", 340 * MIB, 900 * MIB)
    alone = engine.gpus == 1
    yield Part("driver", 150 * MIB if alone else 342 * MIB, (256 if alone else 614) * MIB)
    if shape.vision:
        yield Part("vision", 0, 2560 * MIB)
    if engine.draft_method and engine.draft_method not in ("ngram", "suffix"):
        yield Part("drafts", 0, GIB)


def _activations(shape: Shape, engine: Engine) -> int:
    factors = _PER_TOKEN[shape.experts is not None]
    factor = factors[min(engine.tensor_parallel, 8).bit_length() - 1]
    return 2 * engine.batched_tokens * shape.heads * shape.head_width * factor


def _sampling(shape: Shape, engine: Engine) -> int:
    return int(_SORTS * 4 * engine.sequences * shape.vocabulary) if shape.attends else 0
