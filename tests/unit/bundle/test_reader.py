"""The bytes of an object over its chunks are the bytes of the object, wherever one looks."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aibox.bundle.checking import locate_damage
from aibox.bundle.finding import Status
from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.errors import Failed, VerificationRefused
from bundle_media import CHUNK, VOLUME, SmallBundle, content, write_bundle

DATA = next(iter(content([7 * CHUNK + 1234]).values()))


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> SmallBundle:
    folder = tmp_path_factory.mktemp("media") / "box"
    return write_bundle(folder, [len(DATA), 12 * CHUNK], volume_bytes=VOLUME)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 3 * CHUNK)),
        st.tuples(st.sampled_from(["set", "cur", "end"]), st.integers(-len(DATA), len(DATA) + 99)),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(STEPS)
def test_it_reads_and_seeks_like_the_bytes_themselves(
    split: SmallBundle, steps: list[tuple[str, int]]
) -> None:
    whence = {"set": os.SEEK_SET, "cur": os.SEEK_CUR, "end": os.SEEK_END}
    plain = io.BytesIO(DATA)
    with Media.open(split.folders) as media, media.open_object(split.carried(DATA)) as stream:
        for step, number in steps:
            if step == "read":
                assert stream.read(number) == plain.read(number)
            else:
                base = {"set": 0, "cur": plain.tell(), "end": len(DATA)}[step]
                if base + number >= 0:
                    assert stream.seek(number, whence[step]) == plain.seek(base + number)
            assert stream.tell() == plain.tell()


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_one_file_is_open_at_a_time(split: SmallBundle) -> None:
    with Media.open(split.folders) as media, media.open_object(split.carried(DATA)) as stream:
        stream.read()
        stream.seek(0)
        counts = set()
        while stream.read(CHUNK):
            counts.add(open_files())
        assert len(counts) == 1


def test_it_is_a_raw_stream_that_can_be_sought(split: SmallBundle) -> None:
    with Media.open(split.folders) as media, media.open_object(split.carried(DATA)) as stream:
        assert stream.readable()
        assert stream.seekable()
        assert not stream.writable()
        buffer = bytearray(CHUNK + 5)
        assert stream.readinto(buffer) > 0
        with pytest.raises(ValueError, match="before the start"):
            stream.seek(-1)


def test_an_empty_object_is_empty(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "box", [0])
    with Media.open(bundle.folders) as media, media.open_object(bundle.carried(b"")) as stream:
        assert stream.read() == b""


@pytest.fixture
def fresh(tmp_path: Path) -> SmallBundle:
    return write_bundle(tmp_path / "box", [len(DATA)])


def chunk(bundle: SmallBundle, number: int) -> Path:
    return bundle.folders[0] / BLOBS / bundle.carried(DATA).chunks[number].sha256


def test_a_chunk_of_another_size_is_refused_by_name(fresh: SmallBundle) -> None:
    os.truncate(chunk(fresh, 2), 100)
    with Media.open(fresh.folders) as media, media.open_object(fresh.carried(DATA)) as stream:
        assert stream.read(2 * CHUNK) == DATA[: 2 * CHUNK]
        with pytest.raises(VerificationRefused) as found:
            stream.read(1)
    assert found.value.reference == "bundle-blob-damaged"
    assert chunk(fresh, 2).name in found.value.message


def test_a_chunk_that_shrinks_while_it_is_read_is_a_failing_medium(fresh: SmallBundle) -> None:
    with Media.open(fresh.folders) as media, media.open_object(fresh.carried(DATA)) as stream:
        stream.seek(2 * CHUNK + 10)
        stream.read(10)
        os.truncate(chunk(fresh, 2), 5)
        stream.seek(2 * CHUNK)
        with pytest.raises(Failed) as found:
            stream.read(CHUNK)
    assert found.value.reference == "source-unreadable"
    assert chunk(fresh, 2).name in found.value.message


def test_a_chunk_that_is_gone_is_named(fresh: SmallBundle) -> None:
    chunk(fresh, 1).unlink()
    with (
        Media.open(fresh.folders) as media,
        media.open_object(fresh.carried(DATA)) as stream,
        pytest.raises(VerificationRefused) as found,
    ):
        stream.read()
    assert found.value.reference == "bundle-blob-missing"
    assert chunk(fresh, 1).name in found.value.context


def test_an_error_of_the_medium_is_no_verdict_on_the_bundle(
    fresh: SmallBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with Media.open(fresh.folders) as media, media.open_object(fresh.carried(DATA)) as stream:
        monkeypatch.setattr("aibox.bundle.reader.os.preadv", failing)
        with pytest.raises(Failed) as found:
            stream.read(10)
    assert found.value.reference == "source-unreadable"
    assert "Input/output error" in found.value.context


def test_damage_is_located_to_chunk_and_volume(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "box", [len(DATA), 12 * CHUNK], volume_bytes=VOLUME)
    carried = bundle.carried(DATA)
    with Media.open(bundle.folders) as media:
        assert locate_damage(media, carried) == ()
        places = [media.volume_of(item.sha256) for item in carried.chunks]
        flipped, missing = carried.chunks[1].sha256, carried.chunks[4].sha256
        for digest, place in zip((flipped, missing), (places[1], places[4]), strict=True):
            assert place is not None
            path = place.folder.path / BLOBS / digest
            if digest == flipped:
                path.write_bytes(b"x" + path.read_bytes()[1:])
            else:
                path.unlink()
        found = locate_damage(media, carried)
        assert [item.status for item in found] == [Status.DIGEST_DIFFERS, Status.MISSING]
        assert [Path(item.path).name for item in found] == [flipped, missing]
        assert [item.volume for item in found] == [media.place_of(d) for d in (flipped, missing)]
