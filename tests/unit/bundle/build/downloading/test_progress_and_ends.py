"""What is told of a download, and what an interrupt, a kill or a full disk leaves of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from aibox.bundle.build import cache as cache_module
from aibox.bundle.build import download
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import fetch
from aibox.bundle.build.tally import Tally
from aibox.errors import (
    Failed,
    PreflightVeto,
    VerificationRefused,
)
from aibox.progress import Progress
from downloads import DATA, DIGEST, OTHER, a_request, content, get
from flaky_server import Faults, FlakyServer, serving


def test_progress_counts_bytes_and_never_runs_backwards(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.001)
    lines: list[str] = []
    server.faults = Faults(drop_after=150_000, drops=3, ignore_range=True)
    fetch(
        [a_request(server), a_request(server, OTHER, "/b")],
        cache,
        lambda progress: lines.append(progress.message),
        step="fetch",
    )
    done = [
        float(found[1]) for line in lines if (found := re.search(r": ([\d.]+) of 0\.5 MiB", line))
    ]
    assert done == sorted(done)
    assert lines[-1].startswith("2 files: 0.5 of 0.5 MiB")
    assert lines[-1].endswith("0 s left")


def test_a_file_that_starts_anew_takes_nothing_back() -> None:
    lines: list[str] = []
    tally = Tally("fetch", "a", 4 << 20, lambda line: lines.append(line.message), lambda: 0.0)
    for position in (2 << 20, 0, 1 << 20, 3 << 20):
        tally.reach("a", position)
        tally.tell()
    assert [line.split()[1] for line in lines] == ["2.0", "2.0", "2.0", "3.0"]


def test_the_time_left_follows_the_rate_of_the_last_seconds() -> None:
    now = [0.0]
    lines: list[str] = []
    tally = Tally("fetch", "a", 100 << 20, lambda line: lines.append(line.message), lambda: now[0])
    tally.reach("a", 50 << 20)  # Held by a part: no bytes that moved.
    for _ in range(20):
        now[0] += 1
        tally.reach("a", (50 << 20) + int(now[0]) * (1 << 20), 1 << 20)
        tally.tell()
    assert lines[-1] == "a: 70.0 of 100.0 MiB, 1.0 MiB/s, 30 s left"
    now[0] += 100
    tally.note("a", "a: nothing came for a while")
    tally.tell()
    tally.tell()
    assert lines[-1] == "a: 70.0 of 100.0 MiB, 0.0 MiB/s, stalled; a: nothing came for a while"


def test_a_silent_server_does_not_silence_us(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.01)
    server.faults = Faults(stop_after=70_000)
    heard: list[Progress] = []

    def report(progress: Progress) -> None:
        heard.append(progress)
        if server.faults.stopped.is_set() and len(heard) > 20:
            server.faults.go_on.set()

    fetch([a_request(server)], cache, report, step="fetch")
    assert len(heard) > 20
    assert content(cache) == DATA


def test_the_first_failure_ends_the_others_at_once(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.01)
    server.faults = Faults(stop_after=70_000)
    with serving(FlakyServer()) as liar:
        liar.faults = Faults(wrong_bytes=True, stop_after=1)
        requests = [a_request(server), a_request(liar, OTHER, "/b")]

        def report(_progress: Progress) -> None:
            if server.faults.stopped.is_set() and cache.part(DIGEST).stat().st_size == 70_000:
                liar.faults.go_on.set()

        started = time.monotonic()
        with pytest.raises(VerificationRefused):
            fetch(requests, cache, report, step="fetch")
        assert time.monotonic() - started < 20  # The one that waits would wait for 30.
    assert not server.faults.go_on.is_set()
    assert cache.part(DIGEST).stat().st_size == 70_000


def test_an_interrupt_keeps_what_came(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.01)
    server.faults = Faults(stop_after=70_000)

    def report(_progress: Progress) -> None:
        if server.faults.stopped.is_set() and cache.part(DIGEST).stat().st_size == 70_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch([a_request(server)], cache, report, step="fetch")
    server.faults = Faults()
    get(server, cache)
    assert server.ranges() == ["", "bytes=70000-"]


FETCHER = """
import sys
from pathlib import Path
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch
cache = BlobCache(Path(sys.argv[1]))
fetch([Request(sys.argv[2], sys.argv[3], int(sys.argv[4]), "a")], cache, lambda _: None, step="f")
"""


def test_a_killed_process_leaves_a_part_that_the_next_one_completes(
    server: FlakyServer, cache: BlobCache
) -> None:
    request = a_request(server)
    server.faults = Faults(stop_after=200_000)
    child = subprocess.Popen(
        [sys.executable, "-c", FETCHER, str(cache.folder), request.address, DIGEST, str(len(DATA))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert server.faults.stopped.wait(30)
    part = cache.part(DIGEST)
    while part.stat().st_size < 200_000:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    server.faults.go_on.set()
    server.faults = Faults()
    get(server, cache)
    assert server.ranges() == ["", "bytes=200000-"]
    assert content(cache) == DATA


def test_two_processes_fetch_a_file_once(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "REPORT_S", 0.01)
    server.faults = Faults(stop_after=70_000)
    first = threading.Thread(target=get, args=(server, cache))
    first.start()
    assert server.faults.stopped.wait(20)

    def report(progress: Progress) -> None:
        if "another process" in progress.message:
            server.faults.go_on.set()

    other = BlobCache(cache.folder)
    fetch([a_request(server)], other, report, step="fetch")
    first.join(20)
    assert len(server.asked) == 1
    assert content(cache) == DATA


def test_a_disk_that_fills_up_keeps_what_came(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = os.write, [100_000]

    def write(descriptor: int, data: memoryview) -> int:
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(cache_module.os, "write", write)
        with pytest.raises(Failed) as caught:
            get(server, cache)
    assert caught.value.reference == "cache-full"
    assert 0 < cache.part(DIGEST).stat().st_size <= 100_000
    get(server, cache)
    assert content(cache) == DATA


def test_no_room_is_said_before_the_first_byte(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.part(DIGEST).write_bytes(DATA[:100_000])
    monkeypatch.setattr(BlobCache, "free_bytes", lambda _self: len(DATA) - 100_001)
    with pytest.raises(PreflightVeto) as caught:
        get(server, cache)
    assert caught.value.reference == "download-no-room"
    assert server.asked == []
    monkeypatch.setattr(BlobCache, "free_bytes", lambda _self: len(DATA) - 100_000)
    get(server, cache)
