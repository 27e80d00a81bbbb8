"""The strict reader of tar streams: what real tools write passes, what is ambiguous does not."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.bundle.images.limits import Limits
from aibox.bundle.images.problems import ProblemKind, Unfit
from aibox.bundle.images.tar import Member, Source, Type, members
from tar_maker import END, GNU, OLD, content, file, header, long_name, pax, raw_pax, record

LIMITS = Limits(layer_members=100, header_bytes=4096)


def read(data: bytes, piece: int = 700) -> list[Member]:
    pieces = (data[start : start + piece] for start in range(0, len(data), piece))
    return list(members(Source(pieces, "layer 1"), LIMITS))


def problem(data: bytes) -> ProblemKind:
    with pytest.raises(Unfit) as caught:
        read(data)
    return caught.value.problem.kind


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("piece", [1, 512, 1 << 20])
def test_what_pythons_writer_makes_is_read_back(kind: int, piece: int) -> None:
    names = ["etc/", "etc/hello", "opt/" + "d" * 90 + "/" + "f" * 60, "etc/link", "etc/hard"]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=kind) as archive:
        for name, letter in zip(names, [b"5", b"0", b"0", b"2", b"1"], strict=True):
            member = tarfile.TarInfo(name)
            member.type, member.mode = letter, 0o4755
            member.size = 1000 if letter == b"0" else 0
            member.linkname = "hello" if letter in (b"1", b"2") else ""
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    found = read(packed.getvalue(), piece)
    assert [one.name.decode().rstrip("/") for one in found] == [name.rstrip("/") for name in names]
    assert [one.type for one in found] == [
        Type.FOLDER,
        Type.REGULAR,
        Type.REGULAR,
        Type.SYMLINK,
        Type.HARD_LINK,
    ]
    assert [one.size for one in found] == [0, 1000, 1000, 0, 0]
    assert found[3].link == b"hello"
    assert all(one.mode == 0o4755 for one in found)


def test_names_of_every_kind_are_taken_as_go_takes_them() -> None:
    long = b"long/" * 40 + b"name"
    data = b"".join(
        [
            pax({b"path": "문서/설명.md".encode(), b"SCHILY.xattr.security.capability": b"\x01"}),
            file(b"short", b"x"),
            long_name(long),
            long_name(b"target" * 30, b"K"),
            header(b"cut", b"2", magic=GNU),
            file(b"name", prefix=b"pre/fix"),
            file(b"name", prefix=b"ignored", magic=GNU),
            file(b"old", magic=OLD),
            pax({b"size": b"5"}),
            header(b"big", size=0) + content(b"12345"),
            header(b"binary", size=b"\x80" + bytes(10) + b"\x03") + content(b"abc"),
            pax({b"comment": b"0" * 40}, b"g"),
            file(b"after a global header"),
            END,
        ]
    )
    found = read(data)
    assert [one.name for one in found] == [
        "문서/설명.md".encode(),
        long,
        b"pre/fix/name",
        b"name",
        b"old",
        b"big",
        b"binary",
        b"after a global header",
    ]
    assert found[0].attributes == (b"security.capability",)
    assert found[1].link == b"target" * 30
    assert [one.size for one in found] == [1, 0, 0, 0, 0, 5, 3, 0]


def test_an_archive_may_be_empty_padded_or_without_its_end() -> None:
    assert read(b"") == read(END) == read(END + bytes(8192)) == []
    assert [one.name for one in read(file(b"a", b"x"))] == [b"a"]


WRONG = {
    "cut in a header": (file(b"a")[:300], ProblemKind.TAR),
    "cut in a file": (header(b"a", size=2000) + bytes(512), ProblemKind.TAR),
    "cut in a pax header": (header(b"x", b"x", size=1000), ProblemKind.TAR),
    "ends after a pax header": (pax({b"path": b"a"}), ProblemKind.TAR),
    "text": (b"<html>" * 200, ProblemKind.TAR),
    "wrong checksum": (header(b"a", checksum=b"0000001\x00") + END, ProblemKind.TAR),
    "no checksum": (header(b"a", checksum=b"zz\x00     ") + END, ProblemKind.TAR),
    "one block of zeros": (bytes(512) + file(b"a") + END, ProblemKind.TAR),
    "members after the end": (file(b"a") + END + file(b"b") + END, ProblemKind.TAR),
    "star": (file(b"a", trailer=b"tar\x00"), ProblemKind.TAR),
    "size no number": (header(b"a", size=b"12 4") + END, ProblemKind.TAR),
    "size negative": (header(b"a", size=b"\xff" * 12) + END, ProblemKind.TAR),
    "size beyond all disks": (header(b"a", size=b"\x80" + b"\xff" * 11), ProblemKind.TAR),
    "pax size no number": (pax({b"size": b"-1"}) + file(b"a"), ProblemKind.TAR),
    "pax size with digits of another script": (
        pax({b"size": "٣".encode()}) + file(b"a"),
        ProblemKind.TAR,
    ),
    "folder with content": (header(b"d", b"5", size=512) + bytes(512), ProblemKind.TAR),
    "link with content": (header(b"l", b"2", size=1, link=b"x"), ProblemKind.TAR),
    "sparse by pax": (pax({b"GNU.sparse.major": b"1"}) + file(b"a"), ProblemKind.TAR),
    "sparse by type": (header(b"a", b"S"), ProblemKind.TYPE),
    "contiguous": (header(b"a", b"7"), ProblemKind.TYPE),
    "multi-volume": (header(b"a", b"M"), ProblemKind.TYPE),
    "unknown type": (header(b"a", b"\xff"), ProblemKind.TYPE),
    "two pax headers": (pax({b"path": b"a"}) * 2 + file(b"a"), ProblemKind.TAR),
    "two pax headers of other keys": (
        pax({b"comment": b"a"}) + pax({b"mtime": b"1"}) + file(b"a"),
        ProblemKind.TAR,
    ),
    "a pax path and a GNU name": (
        pax({b"path": b"a"}) + long_name(b"b") + file(b"c"),
        ProblemKind.TAR,
    ),
    "a path twice": (
        raw_pax(record(b"path", b"a") + record(b"path", b"b")) + file(b"c"),
        ProblemKind.TAR,
    ),
    "a global path": (pax({b"path": b"a"}, b"g") + file(b"b"), ProblemKind.TAR),
    "a global size": (pax({b"size": b"9"}, b"g") + file(b"b"), ProblemKind.TAR),
    "pax without length": (raw_pax(b"path=a\n") + file(b"b"), ProblemKind.TAR),
    "pax length too long": (raw_pax(b"99 path=a\n") + file(b"b"), ProblemKind.TAR),
    "pax length of nothing": (raw_pax(b"0 \n") + file(b"b"), ProblemKind.TAR),
    "pax length without end": (raw_pax(b"1" * 4000) + file(b"b"), ProblemKind.TAR),
    "pax header too large": (header(b"x", b"x", size=5000), ProblemKind.HEADER),
    "GNU name too large": (header(b"x", b"L", size=999 << 20), ProblemKind.HEADER),
    "too many members": (file(b"a") * 101, ProblemKind.MEMBERS),
    "a chain of headers": (
        pax({b"comment": b"x"}, b"g") * 101 + file(b"a"),
        ProblemKind.MEMBERS,
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_damaged_or_ambiguous_is_named(name: str) -> None:
    data, expected = WRONG[name]
    assert problem(data) is expected


def test_ten_million_members_are_refused_after_the_allowed_ones() -> None:
    read_blocks = 0

    def blocks() -> Iterator[bytes]:
        nonlocal read_blocks
        block = file(b"a")
        for _ in range(10_000_000):
            read_blocks += 1
            yield block

    with pytest.raises(Unfit):
        list(members(Source(blocks(), "layer 1"), LIMITS))
    assert read_blocks == LIMITS.layer_members + 1


blocks = st.one_of(
    st.binary(max_size=1024),
    st.builds(
        header,
        st.binary(max_size=20),
        st.binary(min_size=1, max_size=1) | st.sampled_from([b"0", b"x", b"g", b"L", b"K", b"5"]),
        size=st.integers(0, 2000) | st.binary(max_size=12),
    ),
    st.builds(raw_pax, st.binary(max_size=60)),
    st.just(END),
)


@given(st.lists(blocks, max_size=6).map(b"".join))
def test_any_bytes_are_members_or_a_problem(data: bytes) -> None:
    try:
        read(data)
    except Unfit as unfit:
        assert unfit.problem.where.startswith("layer 1")
