"""Safetensors: what the real library writes passes; headers that lie do not."""

from __future__ import annotations

import io
import json
import struct
from typing import cast

import numpy
import pytest
import safetensors as library
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from aibox.bundle.weights import check_file
from aibox.bundle.weights.safetensors import BITS, HEADER_LIMIT
from weight_files import safetensors, tensors

SOUND = tensors(a=("F32", [2, 3], [0, 24]), b=("U8", [4], [24, 28]))
DATA = bytes(range(28))


def problem(data: bytes, size: int | None = None) -> str:
    found = check_file("model.safetensors", io.BytesIO(data), size or len(data))
    return found[0].what if found else ""


def test_what_the_library_writes_is_sound() -> None:
    arrays = {
        "a.weight": numpy.arange(600, dtype=numpy.float32).reshape(20, 30),
        "b": numpy.zeros((0, 4), dtype=numpy.int64),
        "c": numpy.array(3.5, dtype=numpy.float16),
        "한": numpy.ones(7, dtype=numpy.bool_),
    }
    assert problem(save(arrays, metadata={"format": "pt"})) == ""
    assert problem(save({})) == ""


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_every_type_has_the_librarys_width(dtype: str) -> None:
    length = 8 * BITS[dtype] // 8
    file = safetensors(tensors(a=(dtype, [8], [0, length])), bytes(length))
    assert problem(file) == ""
    library.deserialize(file)


def test_a_header_may_end_in_blanks() -> None:
    file = safetensors(json.dumps(SOUND).encode() + b"   ", DATA)
    assert problem(file) == ""
    library.deserialize(file)


CASES = [
    (b"", "beyond the end"),
    (b"\x01\x00\x00", "beyond the end"),
    (struct.pack("<Q", 100), "beyond the end"),
    (struct.pack("<Q", 1 << 63) + b"{}", "at most"),
    (struct.pack("<Q", HEADER_LIMIT + 1) + b"{}", "at most"),
    (safetensors(b""), "does not begin with {"),
    (safetensors(b" {}"), "does not begin with {"),
    (safetensors(b"[]"), "does not begin with {"),
    (safetensors(b"{"), "not JSON"),
    (safetensors(b"{}x"), "not JSON"),
    (safetensors(b"{\xff}"), "not JSON"),
    (safetensors(b"{}" + b"\0"), "not JSON"),
    (safetensors(b'{"a":' + b"[" * 50_000), "not JSON"),
    (safetensors(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    (safetensors(b'{"a":1,"a":2}'), "twice"),
    (safetensors(b'{"a":{"dtype":"U8","dtype":"F32"}}'), "twice"),
    (safetensors(b'{"a":NaN}'), "NaN"),
    (safetensors({"__metadata__": {"format": 1}}), "__metadata__"),
    (safetensors({"__metadata__": "x"}), "__metadata__"),
    (safetensors({"a": 1}), "nothing else"),
    (safetensors({"a": {"dtype": "U8", "shape": [1]}}, b"x"), "nothing else"),
    (
        safetensors({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1], "x": 1}}, b"x"),
        "nothing else",
    ),
    (safetensors(tensors(a=("OBJECT", [1], [0, 1])), b"x"), "dtype OBJECT"),
    (safetensors(tensors(a=("U8", [-1], [0, 1])), b"x"), "shape"),
    (safetensors(tensors(a=("U8", [1 << 63], [0, 1])), b"x"), "shape"),
    (safetensors(tensors(a=("U8", cast("list[int]", [True]), [0, 1])), b"x"), "shape"),
    (safetensors(tensors(a=("U8", cast("list[int]", [1.0]), [0, 1])), b"x"), "shape"),
    (safetensors(tensors(a=("U8", [1] * 17, [0, 1])), b"x"), "shape"),
    (safetensors(tensors(a=("U8", [1], [0, 1, 2])), b"x"), "two positions"),
    (safetensors(tensors(a=("U8", [1], [-1, 0])), b"x"), "two positions"),
    (safetensors(tensors(a=("U8", [2], [3, 1])), b"x"), "do not make"),
    (safetensors(tensors(a=("F32", [2], [0, 4])), b"xxxx"), "do not make"),
    (safetensors(tensors(a=("F4", [3], [0, 2])), b"xx"), "do not make"),
    (safetensors(tensors(a=("U8", [1 << 40, 1 << 40], [0, 0]))), "do not make"),
    (safetensors(tensors(a=("U8", [4], [0, 4]), b=("U8", [4], [2, 6])), b"x" * 6), "overlap"),
    (safetensors(tensors(a=("U8", [4], [0, 4]), b=("U8", [4], [0, 4])), b"x" * 4), "overlap"),
    (safetensors(tensors(a=("U8", [4], [0, 4]), b=("U8", [4], [5, 9])), b"x" * 9), "hole"),
    (safetensors(tensors(a=("U8", [4], [1, 5])), b"x" * 5), "hole"),
    (safetensors(SOUND, DATA + b"x"), "cover 28 bytes, but 29"),
    (safetensors(SOUND, DATA[:-1]), "cover 28 bytes, but 27"),
    (b"\x80\x02}q\x00X\x05\x00\x00\x00a" * 9, "at most"),
    (b"PK\x03\x04" + bytes(60), "at most"),
]


@pytest.mark.parametrize(("file", "said"), CASES)
def test_a_header_that_lies_is_refused(file: bytes, said: str) -> None:
    assert said in problem(file)


def test_a_stream_that_ends_before_its_size_is_refused() -> None:
    assert problem(safetensors(SOUND, DATA)[:20], 1000) == "the file ends early"


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_no_bytes_break_the_check(data: bytes) -> None:
    problem(data)


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_refused_or_the_library_agrees(data: st.DataObject) -> None:
    file = bytearray(safetensors({**SOUND, "__metadata__": {"format": "pt"}}, DATA))
    place = data.draw(st.integers(0, len(file) - len(DATA) - 1))
    file[place] ^= 1 << data.draw(st.integers(0, 7))
    if problem(bytes(file)) == "":
        library.deserialize(bytes(file))


NUMBERS = st.integers(0, 40)
ANY_TENSOR = st.tuples(
    st.sampled_from(["U8", "F16", "F32", "F4"]),
    st.lists(st.integers(0, 4), max_size=3),
    st.lists(NUMBERS, min_size=2, max_size=2),
)


@settings(max_examples=300)
@given(named=st.dictionaries(st.text(max_size=3), ANY_TENSOR, max_size=3), length=NUMBERS)
def test_what_is_sound_here_is_sound_for_the_library(
    named: dict[str, tuple[str, list[int], list[int]]], length: int
) -> None:
    file = safetensors(tensors(**named), bytes(length))
    if problem(file) == "":
        library.deserialize(file)
