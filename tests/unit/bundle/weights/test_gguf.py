"""GGUF: what the real package writes passes; counts, lengths and offsets that lie do not."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.weights import check_file
from aibox.bundle.weights import gguf as rules
from weight_files import array, gguf, pair, string, tensor_info, text

FLOATS = bytes(16)


def problem(data: bytes, said: str = "") -> str:
    found = check_file(
        "model.gguf", io.BytesIO(data), len(data), try_template=lambda template: said
    )
    return found[0].what if found else ""


def a_real_file(path: Path, template: str = "") -> bytes:
    writer = GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 1)
    writer.add_bool("tokenizer.ggml.add_bos_token", True)
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "한글", "c"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.0, 2.0])
    writer.add_array("general.flags", [True, False])
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", numpy.ones((3, 32), dtype=numpy.float32))
    writer.add_tensor("norm.weight", numpy.ones(5, dtype=numpy.float16))
    writer.add_tensor(
        "q.weight",
        numpy.zeros((2, 34), dtype=numpy.uint8),
        raw_dtype=GGMLQuantizationType.Q8_0,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


def test_what_the_package_writes_is_sound(tmp_path: Path) -> None:
    assert problem(a_real_file(tmp_path / "a.gguf")) == ""


def test_every_tensor_type_of_the_package_is_known() -> None:
    assert {int(kind): size for kind, size in GGML_QUANT_SIZES.items()} == dict(rules.BLOCKS)


def test_a_template_inside_is_read_and_judged(tmp_path: Path) -> None:
    sound = a_real_file(tmp_path / "a.gguf", "{{ messages[0].content }}")
    assert problem(sound) == ""
    assert "stopped" in problem(sound, "it was stopped")
    evil = a_real_file(tmp_path / "b.gguf", "{{ messages.__class__ }}")
    assert "__class__" in problem(evil)
    named = gguf([string("tokenizer.chat_template.tool_use", "{% include 'x' %}")])
    assert "Include" in problem(named)


def test_a_file_without_tensors_is_a_vocabulary() -> None:
    assert problem(gguf([string("general.name", "x")])) == ""


HUGE = (1 << 64) - 1
CASES = [
    (b"", "beyond the end"),
    (b"GGML" + bytes(40), "does not begin"),
    (b"\x80\x02}q\x00." + bytes(40), "does not begin"),
    (gguf(version=1), "version is 1"),
    (gguf(version=4), "version is 4"),
    (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "little-endian"),
    (gguf(counts=(HUGE, 0)), "absurd"),
    (gguf(counts=(0, HUGE)), "absurd"),
    (gguf(counts=(1, 0)), "beyond the end"),
    (gguf(counts=(0, 1)), "beyond the end"),
    (gguf([struct.pack("<Q", HUGE)]), "a key says it is"),
    (gguf([struct.pack("<Q", 1000)]), "beyond the end"),
    (gguf([pair(b"\xff", 4, bytes(4))]), "not UTF-8"),
    (gguf([pair("", 4, bytes(4))]), "odd characters"),
    (gguf([pair("a b", 4, bytes(4))]), "odd characters"),
    (gguf([pair("a", 4, bytes(4))] * 2), "twice"),
    (gguf([pair("a", 13, bytes(4))]), "type 13"),
    (gguf([pair("a", 8, struct.pack("<Q", HUGE))]), "absurd"),
    (gguf([pair("a", 7, b"\x02")]), "neither 0 nor 1"),
    (gguf([pair("a", 9, array(7, 3, b"\0\1\2"))]), "neither 0 nor 1"),
    (gguf([pair("a", 9, array(8, HUGE, b""))]), "absurd"),
    (gguf([pair("a", 9, array(12, 1 << 22, b""))]), "beyond the end"),
    (gguf([pair("a", 9, array(9, 1, b"") * 9)]), "nested"),
    (gguf([pair("a", 9, array(99, 1, b""))]), "type 99"),
    (gguf([pair("general.alignment", 4, struct.pack("<I", 0))]), "power of two"),
    (gguf([pair("general.alignment", 4, struct.pack("<I", 48))]), "power of two"),
    (gguf([pair("general.alignment", 4, struct.pack("<I", 1 << 31))]), "power of two"),
    (gguf([pair("general.alignment", 10, struct.pack("<Q", 32))]), "power of two"),
    (gguf([pair("tokenizer.chat_template", 4, bytes(4))]), "is not text"),
    (gguf([], [tensor_info("a", shape=())], FLOATS), "dimensions"),
    (gguf([], [tensor_info("a", shape=(1,) * 5)], FLOATS), "dimensions"),
    (gguf([], [text("a") + struct.pack("<I", 1 << 31)], FLOATS), "dimensions"),
    (gguf([], [tensor_info("a", kind=4)], FLOATS), "tensor type 4"),
    (gguf([], [tensor_info("a", shape=(5,), kind=8)], FLOATS), "whole number of blocks"),
    (gguf([], [tensor_info("a"), tensor_info("a", offset=32)], bytes(48)), "twice"),
    (gguf([], [tensor_info("a", offset=32)], bytes(48)), "hole"),
    (gguf([], [tensor_info("a", offset=HUGE)], FLOATS), "hole"),
    (gguf([], [tensor_info("a"), tensor_info("b")], bytes(48)), "overlap"),
    (gguf([], [tensor_info("a"), tensor_info("b", offset=8)], bytes(48)), "overlap"),
    (gguf([], [tensor_info("a"), tensor_info("b", offset=64)], bytes(99)), "hole"),
    (gguf([], [tensor_info("a", shape=(1 << 62, 4))], FLOATS), "end at byte"),
    (gguf([], [tensor_info("a")], FLOATS[:-1]), "end at byte"),
    (gguf([], [tensor_info("a")], FLOATS + bytes(32)), "after its last tensor"),
    (gguf([], [], bytes(64)), "after its last tensor"),
]


@pytest.mark.parametrize(("file", "said"), CASES)
def test_a_header_that_lies_is_refused(file: bytes, said: str) -> None:
    assert said in problem(file)


def test_a_sound_hand_made_file_passes_so_that_the_others_mean_something() -> None:
    infos = [tensor_info("a"), tensor_info("b", offset=32)]
    assert problem(gguf([string("general.name", "x")], infos, bytes(48))) == ""
    other = [pair("general.alignment", 4, struct.pack("<I", 8))]
    infos = [tensor_info("a"), tensor_info("b", offset=16)]
    assert problem(gguf(other, infos, bytes(32), alignment=8)) == ""


def test_a_header_has_a_limit_though_the_file_is_larger() -> None:
    values = b"".join(text(b"x" * (1 << 20)) for _ in range(65))
    assert "longer than" in problem(gguf([pair("a", 9, array(8, 65, values))]))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_check(data: bytes) -> None:
    problem(b"GGUF" + data)


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_is_a_problem_or_nothing(data: st.DataObject) -> None:
    infos = [tensor_info("a"), tensor_info("b", offset=32)]
    pairs = [string("general.name", "x"), pair("a", 9, array(4, 2, bytes(8)))]
    file = bytearray(gguf(pairs, infos, bytes(48)))
    place = data.draw(st.integers(0, len(file) - 1))
    file[place] ^= 1 << data.draw(st.integers(0, 7))
    problem(bytes(file))
