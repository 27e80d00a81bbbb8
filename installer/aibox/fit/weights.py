"""The bytes of weights: all of them, by whoever says so, and those on one GPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aibox.fit import parameters
from aibox.fit.blocks import Kind
from aibox.fit.caches import stages_of
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape


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
    """Bytes on the GPU that holds most: layers and tables are cut, heads that are few repeated."""
    guessing = weights.drafts if engine.draft_method == "mtp" else 0
    total = weights.total - weights.drafts
    if is_wide(shape, weights):
        total //= 2
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
    return int(max(held) / engine.tensor_parallel) + _repeated(shape, engine)


def adapters(shape: Shape, engine: Engine) -> int:
    """Bytes of LoRA slots on each GPU: the inner half is whole on every GPU, the outer half cut."""
    if not engine.adapters:
        return 0
    inner = outer = 0
    for layer in shape.attends:
        width, keys = shape.heads * shape.head_width, layer.heads * layer.width // 2
        pairs = [(shape.hidden, width), (shape.hidden, keys), (shape.hidden, keys)]
        pairs += [(width, shape.hidden)]
        if shape.experts is None:
            pairs += [(shape.hidden, shape.intermediate)] * 2
            pairs += [(shape.intermediate, shape.hidden)]
        inner += sum(into for into, _out in pairs)
        outer += sum(out for _into, out in pairs)
    slots = engine.adapters * engine.rank * shape.number_bytes
    return slots * (inner + outer // engine.tensor_parallel)


def _repeated(shape: Shape, engine: Engine) -> int:
    """More GPUs than heads of keys: each holds one head, so some hold the same."""
    number = 2 * shape.hidden * shape.head_width * shape.number_bytes
    total = 0.0
    for layer in shape.attends:
        if layer.kind is not Kind.LATENT and layer.heads < engine.tensor_parallel:
            total += number * (1 - layer.heads / engine.tensor_parallel)
    return int(total / engine.stages)
