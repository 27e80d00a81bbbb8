"""JSON files of a model: no pointer to code, no absurd shape, and the chat templates in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from aibox.bundle.weights.problem import Unsound, printable

LIMIT = 4 << 20
"""Bytes of a configuration at the most; engines read pointers to code from these alone."""

INDEX_LIMIT = 20 << 20
"""Bytes of an index of shards: room for about 200,000 tensors."""

VOCABULARY_LIMIT = 128 << 20
"""Bytes of a vocabulary; it is parsed here only if it is small."""

DEPTH_LIMIT = 32
_VOCABULARIES = frozenset({"tokenizer.json", "vocab.json", "added_tokens.json"})
_TEMPLATES = frozenset({"chat_template", "chat_templates"})


def is_index(name: str) -> bool:
    """Whether a file name is that of an index of shards."""
    return name.endswith(".index.json")


def size_limit(name: str) -> int:
    """Bytes that a JSON file of this name may have."""
    if name in _VOCABULARIES:
        return VOCABULARY_LIMIT
    return INDEX_LIMIT if is_index(name) else LIMIT


def check(data: bytes) -> tuple[list[str], dict[str, str]]:
    """What is wrong with a JSON file, and the chat templates in it by their place.

    Raises `Unsound` for what is no JSON or too deeply nested.
    """
    problems, templates = [], {}
    for place, key, value in _pairs(_parse(data)):
        if key == "auto_map":
            problems.append(f"{place} points to code (auto_map)")
        elif key == "trust_remote_code" and value is not False:
            problems.append(f"{place} asks for trust in code (trust_remote_code)")
        elif key in _TEMPLATES:
            templates.update(_texts(place, value))
    return problems, templates


def check_index(data: bytes) -> list[str]:
    """What is wrong with an index of shards: its file names must stay in their folder."""
    found = _parse(data)
    shards = found.get("weight_map", {}) if isinstance(found, dict) else None
    if not isinstance(shards, dict):
        return ["its weight_map is not an object"]
    odd = {str(value) for value in shards.values() if not _is_shard(value)}
    return [f"names the shard {printable(value)}" for value in sorted(odd)[:4]]


def _is_shard(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\w[\w.-]*\.safetensors", value) is not None


def _parse(data: bytes) -> object:
    try:
        return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise Unsound(f"is not JSON: {printable(str(error))}") from error


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Unsound("has a key twice, which readers understand differently")
    return found


def _pairs(value: object) -> Iterator[tuple[str, str, object]]:
    """Place, key and value of everything below, without recursion."""
    left: list[tuple[str, object, int]] = [("", value, 0)]
    while left:
        place, current, depth = left.pop()
        if depth > DEPTH_LIMIT:
            raise Unsound("is nested too deeply")
        for key, below in _below(current):
            where = f"{place}.{printable(key, 40)}".lstrip(".")
            yield where, key, below
            left.append((where, below, depth + 1))


def _below(value: object) -> Sequence[tuple[str, object]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list):
        return [(str(number), item) for number, item in enumerate(value)]
    return []


def _texts(place: str, value: object) -> dict[str, str]:
    """A template, or several by name as tokenizers keep them (`{name, template}`)."""
    found = {place: value} if isinstance(value, str) else {}
    for where, _, below in _pairs(value):
        if isinstance(below, str):
            found[f"{place}.{where}"] = below
    return found
