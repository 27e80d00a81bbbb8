"""The download cache: what is believed, what several writers leave, what a full disk says."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aibox.bundle.build import cache as cache_module
from aibox.bundle.build.cache import BlobCache, default_folder, write_all
from aibox.errors import BadUsage, Failed, VerificationRefused

DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def cache(place: Path) -> BlobCache:
    return BlobCache(place / "cache")


def blob(cache: BlobCache) -> Path:
    return cache.folder / "sha256" / DIGEST


def parts(cache: BlobCache) -> list[str]:
    return sorted(path.name for path in (cache.folder / "parts").iterdir())


def test_what_is_put_is_found_by_digest_and_cannot_be_written(cache: BlobCache) -> None:
    assert cache.put(DATA) == DIGEST
    found = cache.find(DIGEST, len(DATA))
    assert found == blob(cache)
    assert found.read_bytes() == DATA
    assert found.stat().st_mode & 0o777 == 0o444
    assert parts(cache) == []


def test_an_empty_file_is_a_file(cache: BlobCache) -> None:
    assert cache.find(cache.put(b""), 0) is not None


def test_another_process_hashes_before_it_believes(cache: BlobCache) -> None:
    cache.put(DATA)
    heard: list[int] = []
    assert BlobCache(cache.folder).find(DIGEST, len(DATA), heard.append) == blob(cache)
    assert sum(heard) == len(DATA)


@pytest.mark.parametrize("damage", [b"", DATA[:-1], DATA[:-1] + b"\0"])
def test_a_damaged_file_is_removed_and_taken_in_anew(cache: BlobCache, damage: bytes) -> None:
    cache.put(DATA)
    blob(cache).chmod(0o644)
    blob(cache).write_bytes(damage)
    other = BlobCache(cache.folder)
    assert other.find(DIGEST, len(DATA)) is None
    assert not blob(cache).exists()
    other.put(DATA)
    assert other.find(DIGEST, len(DATA)) is not None


def test_a_file_that_changes_within_one_process_is_hashed_again(cache: BlobCache) -> None:
    cache.put(DATA)
    blob(cache).chmod(0o644)
    blob(cache).write_bytes(DATA[:-1] + b"\0")
    assert cache.find(DIGEST, len(DATA)) is None


def test_a_right_file_is_kept_though_somebody_asks_for_another_size(cache: BlobCache) -> None:
    cache.put(DATA)
    assert cache.find(DIGEST, len(DATA) + 1) is None
    assert cache.find(DIGEST, len(DATA)) is not None


def test_a_link_in_the_place_of_a_file_is_not_followed(cache: BlobCache, place: Path) -> None:
    (place / "elsewhere").write_bytes(DATA)
    blob(cache).symlink_to(place / "elsewhere")
    with pytest.raises(Failed) as caught:
        cache.find(DIGEST, len(DATA))
    assert caught.value.reference == "cache-refused"


@pytest.mark.parametrize("name", ["../" + "a" * 61, "A" * 64, "a" * 63, ""])
def test_only_digests_become_paths(cache: BlobCache, name: str) -> None:
    with pytest.raises(BadUsage):
        cache.find(name, 1)
    with pytest.raises(BadUsage):
        cache.part(name)


def test_a_part_of_other_bytes_is_not_published(cache: BlobCache) -> None:
    cache.part(DIGEST).write_bytes(DATA + b"x")
    with pytest.raises(VerificationRefused) as caught:
        cache.publish(cache.part(DIGEST), DIGEST)
    assert caught.value.reference == "cache-refused-bytes"
    assert parts(cache) == []
    assert not cache.has(DIGEST)


def test_a_file_is_adopted_by_copy(cache: BlobCache, place: Path) -> None:
    source = place / "source"
    source.write_bytes(DATA)
    heard: list[int] = []
    assert cache.adopt(source, DIGEST, len(DATA), heard.append) == blob(cache)
    assert sum(heard) == len(DATA)
    source.write_bytes(b"changed")
    assert cache.find(DIGEST, len(DATA)) is not None
    assert cache.adopt(source, DIGEST, len(DATA)) == blob(cache)


@pytest.mark.parametrize("content", [DATA[:-1], DATA + b"x", DATA[:-1] + b"\0", b""])
def test_a_file_of_other_bytes_is_not_adopted(
    cache: BlobCache, place: Path, content: bytes
) -> None:
    (place / "source").write_bytes(content)
    with pytest.raises(VerificationRefused):
        cache.adopt(place / "source", DIGEST, len(DATA))
    assert parts(cache) == []
    assert not cache.has(DIGEST)


def test_no_more_than_the_size_is_copied(cache: BlobCache, place: Path) -> None:
    (place / "source").write_bytes(bytes(8 << 20))
    heard: list[int] = []
    with pytest.raises(VerificationRefused):
        cache.adopt(place / "source", DIGEST, len(DATA), heard.append)
    assert sum(heard) <= 1 << 20


def test_a_part_belongs_to_one_writer_and_the_next_one_sees_the_result(cache: BlobCache) -> None:
    waits = threading.Event()
    found: list[Path | None] = []
    held: list[int] = []

    def second() -> None:
        other = BlobCache(cache.folder)
        with other.claim(DIGEST, waits.set) as descriptor:
            found.append(other.find(DIGEST, len(DATA)))
            held.append(os.fstat(descriptor).st_size)

    thread = threading.Thread(target=second)
    with cache.claim(DIGEST) as descriptor:
        thread.start()
        assert waits.wait(10)
        write_all(descriptor, DATA)
        cache.publish(cache.part(DIGEST), DIGEST)
    thread.join(10)
    assert found == [blob(cache)]
    assert held == [0]  # A part of its own, not the file that has its name by now.
    assert blob(cache).read_bytes() == DATA
    assert parts(cache) == []


WRITER = """
import sys, time
from pathlib import Path
from aibox.bundle.build.cache import BlobCache, write_all
cache = BlobCache(Path(sys.argv[1]))
with cache.claim(sys.argv[2]) as descriptor:
    write_all(descriptor, b"begun")
    sys.stdout.write("writing\\n"); sys.stdout.flush()
    time.sleep(60)
"""


def test_a_killed_writer_leaves_a_part_and_no_lock(cache: BlobCache) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(cache.folder), DIGEST],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert parts(cache) == [DIGEST]
    assert not cache.has(DIGEST)
    with cache.claim(DIGEST) as descriptor:
        assert os.pread(descriptor, 10, 0) == b"begun"


def test_a_part_left_empty_is_removed(cache: BlobCache) -> None:
    with cache.claim(DIGEST):
        assert parts(cache) == [DIGEST]
    assert parts(cache) == []


def test_a_full_disk_says_so_and_keeps_what_came(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(cache_module.os, "write", full)
    with pytest.raises(Failed) as caught:
        cache.put(DATA)
    assert caught.value.reference == "cache-full"
    assert "AIBOX_CACHE" in caught.value.hint
    assert parts(cache) == []


def test_a_folder_that_cannot_be_made_is_a_failure_with_its_path(place: Path) -> None:
    (place / "file").write_bytes(b"")
    with pytest.raises(Failed) as caught:
        BlobCache(place / "file" / "cache")
    assert str(place / "file") in caught.value.context


def test_the_folder_is_the_users_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIBOX_CACHE", "/somewhere/else")
    assert default_folder() == Path("/somewhere/else")
    monkeypatch.delenv("AIBOX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert default_folder() == Path("/var/cache/me/aibox")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert default_folder() == Path.home() / ".cache" / "aibox"
