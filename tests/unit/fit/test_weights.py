"""The bytes of weights in a folder: by its index, by the headers of its files, by its shape."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from aibox import content
from aibox.errors import BadUsage
from aibox.fit import catalogue, question, weights
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights

CATALOGUE = catalogue.load(content.find().catalogue)
GUESSING = Engine(draft_method="mtp", drafted=1)


def shape_of(name: str) -> Shape:
    entry = CATALOGUE.model(name)
    assert entry is not None
    return question.shape_of(CATALOGUE, entry)


PLAIN = shape_of("llama-3.1-8b-instruct")
WITH_DRAFTS = shape_of("qwen3.6-27b")


def write(path: Path, sizes: Mapping[str, int]) -> None:
    """A file of weights whose header names tensors of these bytes; the bytes are not there."""
    table, end = {}, 0
    for name, size in sizes.items():
        table[name] = {"dtype": "BF16", "shape": [size // 2], "data_offsets": [end, end + size]}
        end += size
    header = json.dumps({"__metadata__": {"format": "pt"}, **table}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def test_a_folder_is_read_by_its_index(tmp_path: Path) -> None:
    (tmp_path / weights.INDEX).write_text(json.dumps({"metadata": {"total_size": 16_060_522_496}}))
    found = weights.of_folder(tmp_path, PLAIN)
    assert found == Weights(16_060_522_496, f"total_size of {weights.INDEX}")
    assert weights.per_gpu(PLAIN, found, Engine()) == 16_060_522_496


def test_a_folder_without_an_index_is_read_by_its_headers(tmp_path: Path) -> None:
    write(tmp_path / "model-1.safetensors", {"a": 1 << 30, "b": 1 << 31})
    write(tmp_path / "model-2.safetensors", {"c": 1 << 32})
    found = weights.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.total == (1 << 30) + (1 << 31) + (1 << 32)


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    assert weights.of_folder(tmp_path, PLAIN) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b'{"a"']
)
@pytest.mark.parametrize("index", [False, True])
def test_weights_without_a_header_are_refused(tmp_path: Path, data: bytes, index: bool) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    if index:
        (tmp_path / weights.INDEX).write_text(json.dumps({"metadata": {"total_size": 16}}))
    with pytest.raises(BadUsage) as refused:
        weights.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-invalid"


OWN = {
    "model.embed_tokens.weight": 1 << 20,
    "model.language_model.layers.63.mlp.up_proj.weight": 1 << 21,
    "model.visual.encoder.layers.99.mlp.weight": 1 << 22,
}


@pytest.mark.parametrize(
    "name",
    [
        "mtp.layers.0.mlp.up_proj.weight",
        "model.mtp_block.0.weight",
        "model.layers.64.eh_proj.weight",
        "model.language_model.layers.64.eh_proj.weight",
    ],
)
@pytest.mark.parametrize("index", [False, True])
def test_layers_that_guess_are_weights_only_where_the_engine_guesses(
    tmp_path: Path, name: str, index: bool
) -> None:
    write(tmp_path / "model.safetensors", {**OWN, name: 1 << 23})
    if index:
        total = json.dumps({"metadata": {"total_size": (7 << 20) + (1 << 23)}})
        (tmp_path / weights.INDEX).write_text(total)
    found = weights.of_folder(tmp_path, WITH_DRAFTS)
    assert found is not None
    assert (found.total, found.drafts) == ((7 << 20) + (1 << 23), 1 << 23)
    held = weights.per_gpu(WITH_DRAFTS, found, Engine())
    assert weights.per_gpu(WITH_DRAFTS, found, GUESSING) == held + (1 << 23)
    assert weights.per_gpu(WITH_DRAFTS, replace(found, drafts=0), Engine()) == held + (1 << 23)


def test_a_model_without_layers_that_guess_has_no_such_tensors(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"model.layers.99.weight": 1 << 20})
    found = weights.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.drafts == 0


def test_of_what_is_counted_the_layers_that_guess_are_known() -> None:
    found = weights.counted(WITH_DRAFTS)
    without = weights.counted(replace(WITH_DRAFTS, drafts=0))
    assert found is not None
    assert without is not None
    assert found.total - found.drafts == without.total
    assert found.drafts > 0
