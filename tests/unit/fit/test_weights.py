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
from aibox.fit import catalogue, files, models, parameters, weights
from aibox.fit.engine import Engine
from aibox.fit.shapes import Shape
from aibox.fit.weights import Weights

CATALOGUE = catalogue.load(content.find().catalogue)
GUESSING = Engine(draft_method="mtp", drafted=1)


def shape_of(name: str) -> Shape:
    entry = CATALOGUE.model(name)
    assert entry is not None
    return models.shape_of(CATALOGUE, entry)


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
    (tmp_path / files.INDEX).write_text(json.dumps({"metadata": {"total_size": 16_060_522_496}}))
    found = files.of_folder(tmp_path, PLAIN)
    assert found == Weights(16_060_522_496, f"total_size of {files.INDEX}")
    assert weights.per_gpu(PLAIN, found, Engine()) == 16_060_522_496


def test_a_folder_without_an_index_is_read_by_its_headers(tmp_path: Path) -> None:
    write(tmp_path / "model-1.safetensors", {"a": 1 << 30, "b": 1 << 31})
    write(tmp_path / "model-2.safetensors", {"c": 1 << 32})
    found = files.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.total == (1 << 30) + (1 << 31) + (1 << 32)


def test_a_folder_without_weights_has_none(tmp_path: Path) -> None:
    assert files.of_folder(tmp_path, PLAIN) is None


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"[]", struct.pack("<Q", 4) + b'{"a"']
)
@pytest.mark.parametrize("index", [False, True])
def test_weights_without_a_header_are_refused(tmp_path: Path, data: bytes, index: bool) -> None:
    (tmp_path / "model.safetensors").write_bytes(data)
    if index:
        (tmp_path / files.INDEX).write_text(json.dumps({"metadata": {"total_size": 16}}))
    with pytest.raises(BadUsage) as refused:
        files.of_folder(tmp_path, PLAIN)
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
        (tmp_path / files.INDEX).write_text(total)
    found = files.of_folder(tmp_path, WITH_DRAFTS)
    assert found is not None
    assert (found.total, found.drafts) == ((7 << 20) + (1 << 23), 1 << 23)
    held = weights.per_gpu(WITH_DRAFTS, found, Engine())
    assert weights.per_gpu(WITH_DRAFTS, found, GUESSING) == held + (1 << 23)
    assert weights.per_gpu(WITH_DRAFTS, replace(found, drafts=0), Engine()) == held + (1 << 23)


def test_a_model_without_layers_that_guess_has_no_such_tensors(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"model.layers.99.weight": 1 << 20})
    found = files.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.drafts == 0


def test_of_what_is_counted_the_layers_that_guess_are_known() -> None:
    found = weights.counted(WITH_DRAFTS)
    without = weights.counted(replace(WITH_DRAFTS, drafts=0))
    assert found is not None
    assert without is not None
    assert found.total - found.drafts == without.total
    assert found.drafts > 0


def sized(folder: Path, total: object, named: Mapping[str, str]) -> None:
    """An index of this total size whose tensors are in these files."""
    table = {"metadata": {"total_size": total}, "weight_map": named}
    (folder / files.INDEX).write_text(json.dumps(table))


def test_the_files_that_an_index_names_are_what_the_engine_loads(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"a": 1 << 30})
    write(tmp_path / "other.safetensors", {"b": 1 << 30})
    sized(tmp_path, 7, {"a": "model.safetensors"})
    assert files.of_folder(tmp_path, PLAIN) == Weights(
        1 << 30, "the headers of the safetensors files", wide=False
    )


def test_an_index_tells_of_files_that_are_not_there_yet(tmp_path: Path) -> None:
    write(tmp_path / "model-1.safetensors", {"a": 1 << 30})
    sized(tmp_path, 3 << 30, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert files.of_folder(tmp_path, PLAIN) == Weights(3 << 30, f"total_size of {files.INDEX}")


def test_a_part_of_the_files_is_not_taken_for_all_of_them(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00004.safetensors", {"a": 1 << 30})
    with pytest.raises(BadUsage, match="1 of the 4 files") as refused:
        files.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-incomplete"


def test_weights_that_are_there_twice_count_once(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00001.safetensors", {"a": 1 << 30})
    write(tmp_path / "consolidated.safetensors", {"a": 1 << 30})
    found = files.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.total == 1 << 30


@pytest.mark.parametrize("name", ["model-Q4_K_M.gguf", "pytorch_model.bin"])
def test_weights_in_another_format_are_not_counted_as_if_they_were_not_there(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(BadUsage) as refused:
        files.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-format"


@pytest.mark.parametrize("total", ["NaN", "Infinity", "1e400", "-1", "0", "true", '"16"', "1e30"])
def test_an_index_of_an_absurd_size_is_refused(tmp_path: Path, total: str) -> None:
    (tmp_path / files.INDEX).write_text(f'{{"metadata": {{"total_size": {total}}}}}')
    with pytest.raises(BadUsage) as refused:
        files.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-invalid"


@pytest.mark.parametrize("text", ["[]", "{}", '{"metadata": 1}', '{"weight_map": {"a": "../b"}}'])
def test_an_index_that_says_nothing_of_a_folder_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / files.INDEX).write_text(text)
    with pytest.raises(BadUsage) as refused:
        files.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-invalid"


def test_files_that_hold_more_than_their_index_says_contradict_it(tmp_path: Path) -> None:
    write(tmp_path / "model-1.safetensors", {"a": 1 << 30})
    sized(tmp_path, 1 << 20, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    with pytest.raises(BadUsage, match="files beside it hold"):
        files.of_folder(tmp_path, PLAIN)


@pytest.mark.parametrize(
    "offsets", [[16, 0], [0, 16.5], ["0", "16"], [0, 1 << 60], [0, 1, 2], [8, 16], [-8, 8], None]
)
def test_a_header_of_absurd_offsets_is_refused(tmp_path: Path, offsets: object) -> None:
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": offsets}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(BadUsage) as refused:
        files.of_folder(tmp_path, PLAIN)
    assert refused.value.reference == "model-weights-invalid"


def test_files_without_a_tensor_are_no_weights(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {})
    with pytest.raises(BadUsage, match="hold 0 bytes"):
        files.of_folder(tmp_path, PLAIN)


def test_files_say_themselves_whether_their_numbers_are_wide() -> None:
    told_wide = replace(PLAIN, dtype="float32")
    narrow, wide = (Weights(1 << 34, "files", wide=one) for one in (False, True))
    assert weights.per_gpu(told_wide, narrow, Engine()) == 1 << 34
    assert weights.per_gpu(PLAIN, wide, Engine()) == 1 << 33
    assert weights.per_gpu(told_wide, Weights(1 << 34, "nobody"), Engine()) == 1 << 33


def test_weights_in_32_bits_are_known_by_their_headers(tmp_path: Path) -> None:
    header = {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}
    data = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(data)) + data)
    found = files.of_folder(tmp_path, PLAIN)
    assert found is not None
    assert found.wide is True


def test_slots_for_adapters_are_those_of_every_matrix_and_table() -> None:
    shape = shape_of("qwen3-8b")
    slots = 4 * 16 * 2
    # Query, key, value, output, gate, up and down of 36 layers, and two tables.
    widths = 3 * 4096 + 4096 + 2 * 1024 + 4096 + 4096 + 2 * (4096 + 12288) + 12288 + 4096
    tables = 2 * (151_936 + 4096)
    one = weights.adapters(shape, Engine(adapters=4, rank=16))
    assert one == slots * (36 * widths + tables)
    # Cut in two, what is beside the uncut side of each matrix stays whole.
    halves = 3 * 4096 + 2048 + 2 * 512 + 2048 + 4096 + 2 * (4096 + 6144) + 6144 + 4096
    two = weights.adapters(shape, Engine(tensor_parallel=2, adapters=4, rank=16))
    assert two == slots * (36 * halves + tables)
    assert weights.adapters(shape, Engine(adapters=4, rank=64)) == 4 * one
    assert weights.adapters(shape, Engine()) == 0


def test_slots_for_adapters_of_a_mixture_are_those_of_every_expert() -> None:
    shape = shape_of("qwen3-30b-a3b")
    layer = 3 * 2048 + 4096 + 2 * 512 + 4096 + 2048 + 2048 + 128
    layer += 128 * (2 * (2048 + 768) + 768 + 2048)
    found = weights.adapters(shape, Engine(adapters=1, rank=16))
    assert found == 16 * 2 * (48 * layer + 2 * (151_936 + 2048))


def test_slots_for_adapters_that_nobody_modelled_are_unknown() -> None:
    with pytest.raises(BadUsage) as refused:
        weights.adapters(WITH_DRAFTS, Engine(adapters=1, rank=16))
    assert refused.value.reference == "fit-adapters-not-modelled"


def test_what_gpus_hold_alike_is_on_each_of_them() -> None:
    shape = shape_of("a.x-k1")
    found = Weights(parameters.bytes_of(shape, "none") or 0, "counted")
    one, eight = (weights.per_gpu(shape, found, Engine(tensor_parallel=cut)) for cut in (1, 8))
    assert shape.experts is not None
    narrow = sum(layer.whole for layer in shape.layers)
    chooses = shape.experts.layers * shape.experts.count * shape.hidden
    assert eight - one // 8 == pytest.approx(2 * (narrow + chooses) * 7 / 8, rel=0.001)
    assert narrow > 0
