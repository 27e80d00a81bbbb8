"""What an engine takes beside weights and contexts: a range, because nobody can compute it.

The engine measures it when it starts. Each part says between which values it was seen or is
estimated, and by whom; after a first start the log of the engine replaces all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aibox.fit.blocks import Kind
from aibox.fit.engine import GIB, MIB, Engine
from aibox.fit.shapes import Shape, State

# What a token takes on its way through a layer, in numbers: the inner width so often, and the
# outer width at least and at most so often (seen were 3 to 5; of mixtures 3 to 15). Of a mixture
# the experts that it chooses count.
_INNER = 3
_OUTER = (2, 6)
_OUTER_OF_MIXTURE = (2, 17)
_OF_STATES = 8
"""Recurrent layers: copies of what goes into a state, at most (one model was measured)."""
_WORKSPACE = 32 * MIB
"""What multiplying matrices keeps for itself."""
_COMPILING = 640 * MIB
"""A start that compiles measures its own trials too; one that finds its caches does not."""
_READ_AGAIN = 64 * 1024
"""Tokens of a context that latent attention unfolds at once (vLLM's mla_attention.py)."""
PROCESS = "process"
"""Not counted by the engine in its share of a card."""
_SORTS = 9.65
"""Copies of the scores of every word that sorting them was seen to take (V1 model runner)."""

_SOURCES = {
    "activations": "14 starts of vLLM 0.26 on one H200; high also: sampling over the whole "
    "vocabulary, fitted to llm-d-planner's measured constants (vLLM's V1 runner; V2 measures less)",
    "graphs": "vLLM start logs, up to 1.5 GiB, and 0.23 and 0.39 GiB on an H200; the V2 runner of "
    "vLLM 0.26 does not count them",
    "reserved": "what programs are offered of a card, against what nvidia-smi reports of it, in "
    "public messages: 0.34 GiB less on an RTX 4090, 0.47 on an H100, 0.6 on an L40S, 0.85 on an "
    "A100; measured: 0.60 on an H200",
    "driver": "llm-d-planner: 0.15 GiB on one GPU, 0.6 GiB on more; aiconfigurator: NCCL 342 MiB; "
    "measured: 0.22 GiB on one H200",
    PROCESS: "what CUDA takes of a card for a process: 0.51 GiB on an H200 (driver 580); the "
    "engine does not count it in its share",
    "positions": "their tables, by the longest context and the width of heads; measured: four such "
    "models on an H200, of which two mix windows and took more",
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


def of_share(found: Sequence[Part], utilization: float) -> tuple[int, int]:
    """What is taken from the engine's share of a card, low and high.

    The share is one of what programs are offered, so what the card keeps back counts by as much;
    what CUDA takes for the process is not counted in it.
    """
    weighed = [
        (one, utilization if one.name == "reserved" else 1.0)
        for one in found
        if one.name != PROCESS
    ]
    low = sum(int(one.low * weight) for one, weight in weighed)
    return low, sum(int(one.high * weight) for one, weight in weighed)


def parts(shape: Shape, engine: Engine) -> tuple[Part, ...]:
    """What an engine with this model takes on each GPU beside weights and contexts."""
    if engine.cpu:
        low = _least(shape, engine)
        return (Part("activations", low, low + GIB), Part("compiled", GIB // 2, 2 * GIB))
    return tuple(_on_gpus(shape, engine))


def _on_gpus(shape: Shape, engine: Engine) -> Iterator[Part]:
    most = _most(shape, engine) + (0 if engine.eager else _COMPILING)
    yield Part("activations", _least(shape, engine), max(most, _sampling(shape, engine)))
    if not engine.eager and shape.attends:
        yield Part("graphs", 0, 1536 * MIB)
    yield Part("reserved", 340 * MIB, 900 * MIB)
    alone = engine.gpus == 1
    yield Part("driver", 150 * MIB if alone else 342 * MIB, (256 if alone else 614) * MIB)
    yield Part(PROCESS, 256 * MIB, 640 * MIB)
    if shape.attends:
        table = 2 * shape.positions * shape.head_width
        mixed = any(layer.kind is Kind.SLIDING for layer in shape.layers)
        yield Part("positions", table, 2 * table + 128 * MIB if mixed else table)
    if shape.vision:
        yield Part("vision", 0, 2560 * MIB)
    if engine.draft_method and engine.draft_method not in ("ngram", "suffix"):
        yield Part("drafts", 0, GIB)


def _least(shape: Shape, engine: Engine) -> int:
    outer, mixture, cut = shape.hidden, shape.experts, engine.tensor_parallel
    numbers = _INNER * shape.intermediate // cut + _OUTER[0] * outer
    if mixture is not None:
        chosen = mixture.chosen * (mixture.intermediate // cut + outer)
        numbers = chosen + _OUTER_OF_MIXTURE[0] * outer
    return 2 * engine.batched_tokens * numbers + _unfolded(shape, engine)


def _most(shape: Shape, engine: Engine) -> int:
    outer, mixture, cut = shape.hidden, shape.experts, engine.tensor_parallel
    numbers = _INNER * shape.intermediate // cut + _OUTER[1] * outer
    if mixture is not None:
        chosen = mixture.chosen * (_INNER * mixture.intermediate // cut + outer)
        numbers = chosen + _OUTER_OF_MIXTURE[1] * outer
    numbers += _OF_STATES * max((_into(layer.state) for layer in shape.layers), default=0) // cut
    return 2 * engine.batched_tokens * numbers + _WORKSPACE + _unfolded(shape, engine)


def _into(state: State | None) -> int:
    """The numbers that go into a recurrent state, of one token."""
    if state is None:
        return 0
    return state.heads * state.head_width + 2 * state.groups * state.key_width


def _unfolded(shape: Shape, engine: Engine) -> int:
    """Keys and values of earlier tokens, for latent attention."""
    width = shape.unfolded // engine.tensor_parallel
    longest = engine.context or shape.untold
    tokens = min(_READ_AGAIN, max(8 * longest, 4 * engine.sequences * engine.block))
    return 2 * width * max(tokens, engine.sequences * engine.block) if width else 0


def _sampling(shape: Shape, engine: Engine) -> int:
    return int(_SORTS * 4 * engine.sequences * shape.vocabulary) if shape.attends else 0
