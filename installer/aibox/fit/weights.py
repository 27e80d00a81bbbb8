"""The bytes of weights: all of them, by whoever says so, and those on one GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aibox.errors import BadUsage, Fault
from aibox.fit import parameters
from aibox.fit.blocks import Kind, ceil_of
from aibox.fit.caches import stages_of
from aibox.fit.engine import Engine
from aibox.fit.shapes import Layer, Shape

_PLAIN = (Kind.FULL, Kind.SLIDING, Kind.CHUNKED)


@dataclass(frozen=True, slots=True)
class Weights:
    """All bytes of a model's weights, and who says so.

    `drafts` are those of layers that guess (MTP): the engine loads them only where it guesses.
    `wide` says whether the numbers are of 32 bits, None as the config says.
    """

    total: int
    source: str
    drafts: int = 0
    wide: bool | None = None


def counted(shape: Shape, form: str = "") -> Weights | None:
    """The weights by the shape, in its own format or another; None where they cannot be counted."""
    own = form or (shape.quantised.form if shape.quantised else "none")
    total, without = (parameters.bytes_of(one, own) for one in (shape, replace(shape, drafts=0)))
    if total is None or without is None:
        return None
    # Counted are 16 bits a number, meant are files.
    wide = 2 if shape.dtype == "float32" and own == "none" else 1
    return Weights(wide * total, "counted from its shape", wide * (total - without))


def is_wide(shape: Shape, found: Weights) -> bool:
    """Whether the files hold numbers of 32 bits, which the engine loads as 16."""
    if shape.quantised is not None:
        return False
    return shape.dtype == "float32" if found.wide is None else found.wide


def share_of_counted(shape: Shape, found: Weights) -> float:
    """Bytes that are there, as a share of those the shape has; 1 where these cannot be counted."""
    expected = counted(shape)
    if expected is None:
        return 1.0
    narrow, meant = (one.total / (1 + is_wide(shape, one)) for one in (found, expected))
    return narrow / meant


def per_gpu(shape: Shape, weights: Weights, engine: Engine) -> int:
    """Bytes on the GPU that holds most: layers and tables are cut, but for what GPUs hold alike."""
    narrow = 2 if is_wide(shape, weights) else 1
    guessing = weights.drafts // narrow if engine.draft_method == "mtp" else 0
    total = (weights.total - weights.drafts) // narrow
    table = parameters.words_bytes(shape)
    tables = min(total, table * (1 if shape.tied else 2))
    layer = (total - tables) / len(shape.layers)
    stages = stages_of(len(shape.layers), engine.stages)
    held = [layer * len(stage) for stage in stages]
    held[0] += min(table, tables)
    held[-1] += tables - min(table, tables)
    if shape.tied and len(held) > 1:
        held[-1] += tables
    held[-1] += guessing
    linear = parameters.count(shape).linear
    each = (total - tables) / linear if linear else 0.0
    return int(max(held) / engine.tensor_parallel) + _repeated(shape, engine, each)


def _repeated(shape: Shape, engine: Engine, each: float) -> int:
    """What GPUs hold alike, beyond the share of each; `each` is the bytes of a number.

    A head of keys where there are more GPUs than heads, narrow matrices of latent attention
    (`whole`), and what chooses experts, which stays in 16 bits.
    """
    cut, total = engine.tensor_parallel, 0.0
    for layer in shape.layers:
        total += layer.whole * (1 - 1 / cut) * each
        if layer.kind in _PLAIN and layer.heads < cut:
            total += shape.hidden * layer.width * (1 - layer.heads / cut) * each
    if mixture := shape.experts:
        chooses = mixture.count * shape.hidden * shape.number_bytes
        total += mixture.layers * chooses * (1 - 1 / cut)
    return int(total / engine.stages)


def adapters(shape: Shape, engine: Engine) -> int:
    """Bytes of LoRA slots on each GPU, for every matrix and table of words (vLLM's lora/layers).

    Of each pair the half beside the side that is cut is cut with it, the other whole. Raises
    `BadUsage` (`fit-adapters-not-modelled`) for layers that are no plain attention.
    """
    if not engine.adapters:
        return 0
    if any(layer.kind not in _PLAIN for layer in shape.layers):
        raise BadUsage(
            "fit-adapters-not-modelled",
            f"what LoRA slots of a {shape.architecture} take is not computed here",
            hint="leave enable-lora out: ./aibox fit --model NAME --gpu GPU",
            fault=Fault.US,
        )
    cut, mixture = engine.tensor_parallel, shape.experts
    with_experts = mixture.layers if mixture else 0
    numbers = sum(_pairs_of_attention(shape, layer, cut) for layer in shape.layers)
    numbers += (len(shape.layers) - with_experts) * _pairs(shape.hidden, shape.intermediate // cut)
    if mixture:
        each = _pairs(shape.hidden, mixture.intermediate // cut)
        shared = mixture.shared_intermediate
        always = _pairs(shape.hidden, shared // cut) if shared else 0
        chooses = shape.hidden + mixture.count
        numbers += with_experts * (mixture.count * each + always + chooses)
    tables = (1 if shape.tied else 2) * (shape.vocabulary + shape.hidden)
    slots = engine.adapters * engine.rank * shape.number_bytes
    return slots * (ceil_of(numbers, engine.stages) + tables)


def _pairs(hidden: int, inner: int) -> int:
    """Numbers a rank of a gate, a way in (both cut by what comes out) and a way out takes."""
    return 2 * (hidden + inner) + inner + hidden


def _pairs_of_attention(shape: Shape, layer: Layer, cut: int) -> int:
    """As `_pairs`, of queries, keys, values and the way out."""
    wide = shape.heads * layer.width // 2 // cut
    keys = max(1, layer.heads // cut) * layer.width // 2
    return 3 * shape.hidden + wide + 2 * keys + wide + shape.hidden
