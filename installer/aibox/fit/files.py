"""The bytes of weights in a folder: by the headers of its files, else by its index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from aibox.errors import BadUsage, Fault
from aibox.fit import fields
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights

INDEX = "model.safetensors.index.json"
MOST_BYTES = 1 << 46
"""More than any model has: 64 TiB."""
_HEADER_LIMIT = 100_000_000
"""The format's own limit of a header, in bytes."""
# The names of layers and of what guesses, in all the families of vLLM's models.
_LAYER = re.compile(r"(?:model\.|language_model\.)*layers\.(\d+)\.")
_GUESSING = re.compile(r"(?:model\.)?mtp(?:_[a-z]+)?\.")
_SHARD = re.compile(r"(?P<start>.*)-\d{5}-of-(?P<count>\d{5})\.safetensors")
_SECOND = "consolidated*.safetensors"
"""The same weights again, as Mistral also publishes them."""
_OTHER_FORMATS = {
    "*.gguf": "GGUF, which this engine does not take (llama.cpp and Ollama do)",
    "*.bin": "pickled files, which can run code when they are read",
    "*.pt": "pickled files, which can run code when they are read",
    "*.pth": "pickled files, which can run code when they are read",
}


@dataclass(frozen=True, slots=True)
class _Tensor:
    name: str
    bytes: int
    wide: bool


def of_folder(folder: Path, shape: Shape) -> Weights | None:
    """The weights in a folder: by the headers of all files the engine loads, else by the index.

    Where only the index is there, layers that guess count as if they were always loaded. None
    when there is neither, nor weights in another format. Raises `BadUsage` (`model-weights-…`).
    """
    named = _Index.of(folder / INDEX)
    files = _safetensors(folder)
    if named is None and not files:
        _refuse_other_formats(folder)
        return None
    if named is None:
        _refuse_missing_shards(folder, [file.name for file in files])
    elif named.files:
        files = [file for file in files if file.name in named.files]
    tensors = [found for file in files for found in _of_header(file)]
    total, drafts = _sum(tensors), _sum(one for one in tensors if _guesses(one.name, shape))
    if named is None or (named.files and len(files) == len(named.files)):
        if not 0 < total <= MOST_BYTES:
            raise _invalid(folder, f"has files that say they hold {total:,} bytes of weights")
        wide = 2 * _sum(one for one in tensors if one.wide) > total
        return Weights(total, "the headers of the safetensors files", drafts, wide=wide)
    if named.total is None:
        raise _invalid(folder / INDEX, "has no total_size, and files that it names are not there")
    if named.total < total:
        told = f"has a total_size of {named.total:,}, and files beside it hold {total:,} bytes"
        raise _invalid(folder / INDEX, told)
    return Weights(named.total, f"total_size of {INDEX}", drafts)


@dataclass(frozen=True, slots=True)
class _Index:
    """What an index says: bytes in all (None where it does not say), and the files of weights."""

    total: int | None
    files: frozenset[str]

    @classmethod
    def of(cls, path: Path) -> _Index | None:
        if not path.is_file():
            return None
        try:
            table = json.loads(path.read_bytes(), parse_constant=fields.no_number)
            metadata, names = table.get("metadata") or {}, table.get("weight_map") or {}
            total, files = metadata.get("total_size"), frozenset(names.values())
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise _invalid(path, f"is no index: {_reason(error)}") from error
        if not all(isinstance(name, str) and Path(name).name == name for name in files):
            raise _invalid(path, "names files that are not in its folder")
        if total is None and "total_size" not in metadata:
            return cls(None, files)
        # Some write 1.6e10.
        if isinstance(total, bool) or not isinstance(total, int | float):
            raise _invalid(path, f"has a total_size of {total!r}")
        if not 0 < total <= MOST_BYTES:
            raise _invalid(path, f"has a total_size of {total!r}; it must be 1 to {MOST_BYTES}")
        return cls(int(total), files)


def _safetensors(folder: Path) -> list[Path]:
    found, second = set(folder.glob("*.safetensors")), set(folder.glob(_SECOND))
    return sorted(found - second or found)


def _refuse_other_formats(folder: Path) -> None:
    for pattern, told in _OTHER_FORMATS.items():
        if any(folder.glob(pattern)):
            raise BadUsage(
                "model-weights-format",
                f"{folder} has weights in {told}",
                hint="take the model's safetensors files, then: "
                "./aibox fit --model FOLDER --gpu GPU",
                fault=Fault.YOU,
            )


def _refuse_missing_shards(folder: Path, names: Sequence[str]) -> None:
    found = [match for name in names if (match := _SHARD.fullmatch(name))]
    for start, count in sorted({(one["start"], int(one["count"])) for one in found}):
        there = sum((one["start"], int(one["count"])) == (start, count) for one in found)
        if there != count:
            raise BadUsage(
                "model-weights-incomplete",
                f"{folder} has {there} of the {count} files {start}-….safetensors",
                hint=f"download the others, or {INDEX}, which says how large all are, then: "
                "./aibox fit --model FOLDER --gpu GPU",
                fault=Fault.YOU,
            )


def _guesses(name: str, shape: Shape) -> bool:
    """Whether a tensor is of a layer that guesses: `mtp.…`, or a layer beyond the model's own."""
    if not shape.drafts:
        return False
    layer = _LAYER.match(name)
    return bool(_GUESSING.match(name) or (layer and int(layer[1]) >= len(shape.layers)))


def _sum(tensors: Iterator[_Tensor] | Sequence[_Tensor]) -> int:
    return sum(one.bytes for one in tensors)


def _of_header(path: Path) -> list[_Tensor]:
    """The tensors of a file."""
    try:
        with path.open("rb") as file:
            return list(_tensors(file))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _invalid(path, f"has no header that can be read: {_reason(error)}") from error


def _tensors(file: BinaryIO) -> Iterator[_Tensor]:
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= _HEADER_LIMIT:
        raise _Absurd("it says that it has a length no header has")
    table = json.loads(file.read(length), parse_constant=fields.no_number)
    if not isinstance(table, dict):
        raise _Absurd("it is no table of tensors")
    last = total = 0
    for name, tensor in table.items():
        if name != "__metadata__":
            start, end = _offsets(tensor)
            last, total = max(last, end), total + end - start
            yield _Tensor(name, end - start, tensor.get("dtype") == "F32")
    if total != last:
        raise _Absurd("its tensors overlap or leave gaps")


def _offsets(tensor: dict[str, Any]) -> tuple[int, int]:
    start, end = tensor["data_offsets"]
    if type(start) is not int or type(end) is not int or not 0 <= start <= end <= MOST_BYTES:
        raise _Absurd("a tensor lies where none can")
    return start, end


class _Absurd(ValueError):
    """A header that is JSON and cannot be; its text says why."""


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    if isinstance(error, _Absurd):
        return str(error)
    if isinstance(error, ValueError | RecursionError):
        return "it is no JSON, or cut off"
    return "it says something other than it must"


def _invalid(path: Path, told: str) -> BadUsage:
    return BadUsage(
        "model-weights-invalid",
        f"{path} {told}",
        hint="download it again, then: ./aibox fit --model FOLDER --gpu GPU",
        fault=Fault.UPSTREAM,
    )
