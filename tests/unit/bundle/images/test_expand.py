"""Expansion of layers: bounded chunks, and zstd where this Python can read it."""

from __future__ import annotations

import gzip
import importlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.images import expand as module
from aibox.bundle.images.expand import CHUNK_BYTES, compression_of, expand
from aibox.bundle.images.problems import ProblemKind, Unfit

CONTENT = random.Random(1).randbytes(1 << 20) + bytes(5 << 20)
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.fixture
def zstd() -> Any:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return pytest.skip("no zstd in this Python: use 3.14, or pip install backports.zstd")


@pytest.mark.parametrize("size", [1000, 1 << 20, 1 << 30])
def test_chunks_are_bounded_whatever_the_input_is(size: int) -> None:
    chunks = list(expand(pieces(gzip.compress(CONTENT), size), "gzip", "layer 1"))
    assert b"".join(chunks) == CONTENT
    assert max(map(len, chunks)) <= CHUNK_BYTES


@given(st.binary(max_size=3000), st.integers(1, 200), st.integers(1, 3))
def test_any_content_comes_back(content: bytes, size: int, members: int) -> None:
    packed = gzip.compress(content) * members
    assert b"".join(expand(pieces(packed, size), "gzip", "here")) == content * members


def test_zstd_frames_are_one_content_and_chunks_are_bounded(zstd: Any) -> None:
    packed = zstd.compress(CONTENT) + SKIPPABLE + zstd.compress(CONTENT)
    for size in (1000, 1 << 30):
        chunks = list(expand(pieces(packed, size), "zstd", "layer 1"))
        assert b"".join(chunks) == CONTENT * 2
        assert max(map(len, chunks)) <= CHUNK_BYTES


@pytest.mark.parametrize("how", ["cut", "rest"])
def test_damaged_zstd_is_named(zstd: Any, how: str) -> None:
    packed = zstd.compress(CONTENT)
    damaged = packed[:-5] if how == "cut" else packed + b"no frame at all"
    with pytest.raises(Unfit) as caught:
        list(expand(pieces(damaged, 1 << 20), "zstd", "layer 1"))
    assert caught.value.problem.kind is ProblemKind.COMPRESSION


def test_without_a_library_zstd_is_refused_and_not_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_ZSTD_MODULES", ("no_such_module_zstd",))
    with pytest.raises(Unfit, match=r"use 3\.14 or newer") as caught:
        expand(iter([]), "zstd", "layer 1")
    assert caught.value.problem.kind is ProblemKind.COMPRESSION


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (SKIPPABLE, "zstd"),
        (b"etc/", ""),
        (b"", ""),
        (b"\x1f", ""),
    ],
)
def test_the_first_bytes_tell_the_compression(start: bytes, expected: str) -> None:
    assert compression_of(start) == expected
