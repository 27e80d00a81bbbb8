"""The index: complete, cut at one size, no object twice, no size that cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle import index as indexes
from aibox.bundle.layout import CHUNK_BYTES
from aibox.bundle.manifest import Absent, Carried, Reason
from aibox.errors import VerificationRefused
from aibox.pins import Blob

A, B, C = "a" * 64, "b" * 64, "c" * 64


def blob(digest: str, size: int) -> Blob:
    return Blob(sha256=digest, size=size)


def carried(digest: str, *sizes: int) -> Carried:
    names = [digest] if len(sizes) == 1 else [f"{n:064x}" for n in range(len(sizes))]
    chunks = tuple(blob(name, size) for name, size in zip(names, sizes, strict=True))
    return Carried(sha256=digest, size=sum(sizes), chunks=chunks)


def absent(digest: str, size: int) -> Absent:
    return Absent(sha256=digest, size=size, reason=Reason.HELD)


def refusal(
    *items: Carried | Absent, needed: tuple[Blob, ...] = (), named: tuple[Blob, ...] = ()
) -> VerificationRefused:
    index = indexes.make(
        [item for item in items if isinstance(item, Carried)],
        [item for item in items if isinstance(item, Absent)],
    )
    with pytest.raises(VerificationRefused) as found:
        indexes.check(index, named, needed)
    return found.value


def test_what_is_carried_or_said_to_be_elsewhere_is_enough() -> None:
    index = indexes.make([carried(A, CHUNK_BYTES, 1), carried(C, 0)], [absent(B, 5)])
    needed = (blob(A, CHUNK_BYTES + 1), blob(B, 5), blob(C, 0), blob(A, CHUNK_BYTES + 1))
    indexes.check(index, (blob("d" * 64, 3),), needed)


def test_an_object_that_is_nowhere_is_named() -> None:
    found = refusal(carried(A, 5), needed=(blob(B, 7),))
    assert found.reference == "index-incomplete"
    assert B in found.context


@pytest.mark.parametrize(
    ("items", "facts"),
    [
        ([carried(A, 5), carried(A, 5)], "twice"),
        ([carried(A, 5), absent(A, 5)], "twice"),
        ([carried(A, CHUNK_BYTES + 1)], "not cut at"),
        ([carried(A, CHUNK_BYTES, CHUNK_BYTES + 1)], "not cut at"),
        ([carried(A, CHUNK_BYTES - 1, 5)], "not cut at"),
        ([carried(A, CHUNK_BYTES, 0)], "not cut at"),
        ([Carried(sha256=A, size=0, chunks=())], "not cut at"),
        ([carried(A, CHUNK_BYTES, 3), carried(B, CHUNK_BYTES, 4)], "two sizes"),
        ([absent(A, 9 << 40)], "cannot be"),
        ([absent(A, 999 << 40)], "cannot be"),
        ([absent(f"{n:064x}", 8 << 40) for n in range(9)], "cannot be"),
    ],
)
def test_an_index_that_contradicts_itself_is_refused(
    items: list[Carried | Absent], facts: str
) -> None:
    found = refusal(*items)
    assert found.reference == "index-invalid"
    assert facts in found.context


def test_a_size_that_a_release_does_not_say_is_refused() -> None:
    assert refusal(carried(A, 5), needed=(blob(A, 6),)).reference == "index-invalid"


def test_a_size_that_the_manifest_does_not_say_is_refused() -> None:
    assert "two sizes" in refusal(carried(A, 5), named=(blob(A, 6),)).context


def test_objects_may_share_chunks() -> None:
    index = indexes.make([carried(A, CHUNK_BYTES, 3), carried(B, CHUNK_BYTES, 3)])
    indexes.check(index, (), ())
    assert len(indexes.chunks(index)) == 2


@given(st.permutations(range(5)))
def test_one_index_has_one_spelling(order: list[int]) -> None:
    items = [carried(f"{n:064x}", n) for n in range(5)]
    data = indexes.dump(indexes.make([items[n] for n in order]))
    assert data == indexes.dump(indexes.make(items))
    assert indexes.parse(data) == indexes.make(items)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"format":2,"carried":[],"absent":[]}',
        b'{"format":1,"carried":[{"sha256":"../x","size":1,"chunks":[]}],"absent":[]}',
        b'{"format":1,"carried":[{"sha256":"%s","size":-1,"chunks":[]}],"absent":[]}' % (b"a" * 64),
    ],
)
def test_bytes_that_are_no_index_are_refused(data: bytes) -> None:
    with pytest.raises(VerificationRefused) as found:
        indexes.parse(data)
    assert found.value.reference == "index-invalid"
