"""The bytes of weights: what a lock, an index, the headers of the files or a count say of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from aibox.errors import BadUsage, Fault
from aibox.fit import parameters
from aibox.fit.blocks import Kind
from aibox.fit.caches import stages_of
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape

INDEX = "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000
"""The format's own limit of a header, in bytes."""
# The names of layers and of what guesses, in all the families of vLLM's models.
_LAYER = re.compile(r"(?:model\.|language_model\.)*layers\.(\d+)\.")
_GUESSING = re.compile(r"(?:model\.)?mtp(?:_[a-z]+)?\.")


@dataclass(frozen=True, slots=True)
class Weights:
    """All bytes of a model's weights, and who says so.

    `drafts` are those of layers that guess (MTP): the engine loads them only where it guesses.
    """

    total: int
    source: str
    drafts: int = 0


def of_folder(folder: Path, shape: Shape) -> Weights | None:
    """The weights in a folder: by the index's total, else by the files' headers.

    What layers that guess take is read from the headers; where the files are not there, it counts
    as if it were always loaded. None when there are none at all. Raises `BadUsage`
    (`model-weights-invalid`).
    """
    index = folder / INDEX
    files = sorted(folder.glob("*.safetensors"))
    if not index.is_file() and not files:
        return None
    tensors = [found for file in files for found in _of_header(file)]
    drafts = sum(size for name, size in tensors if _guesses(name, shape))
    if index.is_file():
        return Weights(_of_index(index), f"total_size of {INDEX}", drafts)
    total = sum(size for _name, size in tensors)
    return Weights(total, "the headers of the safetensors files", drafts)


def counted(shape: Shape, form: str = "") -> Weights | None:
    """The weights by the shape, in its own format or another; None where they cannot be counted."""
    own = form or (shape.quantised.form if shape.quantised else "none")
    total, without = (parameters.bytes_of(one, own) for one in (shape, replace(shape, drafts=0)))
    if total is None or without is None:
        return None
    # Counted are 16 bits a number, meant are files.
    wide = 2 if shape.dtype == "float32" and own == "none" else 1
    return Weights(wide * total, "counted from its shape", wide * (total - without))


def _guesses(name: str, shape: Shape) -> bool:
    """Whether a tensor is of a layer that guesses: `mtp.…`, or a layer beyond the model's own."""
    if not shape.drafts:
        return False
    layer = _LAYER.match(name)
    return bool(_GUESSING.match(name) or (layer and int(layer[1]) >= len(shape.layers)))


def per_gpu(shape: Shape, weights: Weights, engine: Engine) -> int:
    """Bytes on the GPU that holds most: layers and tables are cut, heads that are few repeated."""
    guessing = weights.drafts if engine.draft_method == "mtp" else 0
    total = weights.total - weights.drafts
    if shape.dtype == "float32" and shape.quantised is None:
        # Files of 32 bits; the engine loads them as 16.
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


def _of_index(path: Path) -> int:
    try:
        total = json.loads(path.read_bytes())["metadata"]["total_size"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _invalid(path, f"is no index with a total_size ({type(error).__name__})") from error
    if isinstance(total, bool) or not isinstance(total, int | float) or total <= 0:
        raise _invalid(path, f"has a total_size of {total!r}")
    return int(total)


def _of_header(path: Path) -> list[tuple[str, int]]:
    """The tensors of a file, each with its bytes."""
    try:
        with path.open("rb") as file:
            return list(_tensors(file))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _invalid(path, f"has no readable header ({type(error).__name__})") from error


def _tensors(file: BinaryIO) -> Iterator[tuple[str, int]]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= _HEADER_LIMIT:
        raise ValueError("length of header")
    table = json.loads(file.read(length))
    if not isinstance(table, dict):
        raise ValueError("kind of header")
    for name, tensor in table.items():
        if name != "__metadata__":
            start, end = tensor["data_offsets"]
            yield name, int(end) - int(start)


def _invalid(path: Path, told: str) -> BadUsage:
    return BadUsage(
        "model-weights-invalid",
        f"{path} {told}",
        hint="download the file again, then: ./aibox fit --model DIR",
        fault=Fault.UPSTREAM,
    )
