"""Downloads over a server that breaks: what goes on, what is refused, what is told."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibox.bundle.build import cache as cache_module
from aibox.bundle.build import download, transfer
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch, fetch_unknown, read_small
from aibox.bundle.build.tally import Tally
from aibox.bundle.build.web import Trouble
from aibox.errors import (
    AiboxError,
    BadUsage,
    ExitCode,
    Failed,
    Fault,
    PreflightVeto,
    VerificationRefused,
)
from aibox.progress import Progress
from flaky_server import Faults, FlakyServer, serving

DATA = hashlib.shake_256(b"a file").digest(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
OTHER = hashlib.shake_256(b"another file").digest(200_000)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[FlakyServer]:
    with serving(FlakyServer()) as server:
        yield server


@pytest.fixture
def cache(place: Path) -> BlobCache:
    return BlobCache(place / "cache")


def silent(_progress: Progress) -> None:
    pass


def a_request(server: FlakyServer, data: bytes = DATA, path: str = "/a") -> Request:
    return Request(server.put(path, data), hashlib.sha256(data).hexdigest(), len(data), path)


def get(server: FlakyServer, cache: BlobCache, **options: int) -> None:
    fetch([a_request(server)], cache, silent, step="fetch", **options)


def parts(cache: BlobCache) -> list[str]:
    return sorted(path.name for path in (cache.folder / "parts").iterdir())


def content(cache: BlobCache, data: bytes = DATA) -> bytes:
    found = BlobCache(cache.folder).find(hashlib.sha256(data).hexdigest(), len(data))
    return found.read_bytes() if found else b""


def test_files_come_into_the_cache(server: FlakyServer, cache: BlobCache) -> None:
    files = [hashlib.shake_256(bytes([n])).digest(50_000 + n) for n in range(9)]
    requests = [a_request(server, data, f"/{n}") for n, data in enumerate(files)]
    fetch(requests, cache, silent, step="fetch")
    assert [content(cache, data) for data in files] == files
    assert parts(cache) == []
    assert {asked.headers["Accept-Encoding"] for asked in server.asked} == {"identity"}


def test_what_is_there_is_not_fetched(server: FlakyServer, cache: BlobCache) -> None:
    cache.put(DATA)
    get(server, BlobCache(cache.folder))
    assert server.asked == []


def test_one_digest_is_fetched_once(server: FlakyServer, cache: BlobCache) -> None:
    fetch([a_request(server), a_request(server, path="/b")], cache, silent, step="fetch")
    assert [asked.path for asked in server.asked] == ["/a"]


def test_an_empty_file_needs_no_server(cache: BlobCache) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    fetch([Request("http://127.0.0.1:1/", empty, 0, "empty")], cache, silent, step="fetch")
    assert cache.find(empty, 0) is not None


def test_a_broken_connection_goes_on_where_it_stopped(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=1)
    get(server, cache)
    assert server.ranges() == ["", "bytes=70000-"]
    assert content(cache) == DATA


@pytest.mark.parametrize("reset", [False, True])
def test_connections_may_break_more_often_than_attempts_are_allowed(
    server: FlakyServer, cache: BlobCache, reset: bool
) -> None:
    server.faults = Faults(drop_after=20_000, drops=10, reset=reset)
    get(server, cache, attempts=3)
    assert content(cache) == DATA


def test_attempts_that_bring_nothing_are_counted(server: FlakyServer, cache: BlobCache) -> None:
    server.faults = Faults(drop_after=70_000, drops=100, ignore_range=True)
    with pytest.raises(Failed) as caught:
        get(server, cache, attempts=3)
    assert caught.value.reference == "download-broken"
    assert caught.value.fault is Fault.UPSTREAM
    assert "goes on where it stopped: ./aibox bundle build" in caught.value.hint
    assert len(server.asked) == 3


def test_a_part_of_an_earlier_process_is_hashed_and_completed(
    server: FlakyServer, cache: BlobCache
) -> None:
    cache.part(DIGEST).write_bytes(DATA[:123_456])
    get(server, cache)
    assert server.ranges() == ["bytes=123456-"]
    assert server.sent == len(DATA) - 123_456
    assert content(cache) == DATA


def test_a_whole_part_needs_no_server(server: FlakyServer, cache: BlobCache) -> None:
    cache.part(DIGEST).write_bytes(DATA)
    get(server, cache)
    assert server.asked == []
    assert content(cache) == DATA


@pytest.mark.parametrize(
    ("left", "asked"),
    [
        (bytes(1000), ["bytes=1000-", ""]),
        (bytes(len(DATA)), [""]),
        (bytes(len(DATA) + 1), [""]),
    ],
)
def test_a_part_of_wrong_bytes_costs_one_more_download_and_no_blame(
    server: FlakyServer, cache: BlobCache, left: bytes, asked: list[str]
) -> None:
    cache.part(DIGEST).write_bytes(left)
    get(server, cache)
    assert server.ranges() == asked
    assert content(cache) == DATA


def test_a_server_that_ignores_ranges_sends_all_anew(server: FlakyServer, cache: BlobCache) -> None:
    cache.part(DIGEST).write_bytes(DATA[:1000])
    server.faults = Faults(ignore_range=True)
    get(server, cache)
    assert content(cache) == DATA


def test_a_part_that_begins_elsewhere_is_not_appended(
    server: FlakyServer, cache: BlobCache
) -> None:
    cache.part(DIGEST).write_bytes(DATA[:1000])
    server.faults = Faults(shift_range=1)
    get(server, cache)
    assert server.ranges() == ["bytes=1000-", ""]
    assert content(cache) == DATA


def test_a_changed_entity_tag_does_not_matter_where_the_digest_is_known(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=1, new_tag_each_time=True)
    get(server, cache)
    assert server.ranges() == ["", "bytes=70000-"]
    assert content(cache) == DATA


def test_a_file_that_shrank_is_refused(server: FlakyServer, cache: BlobCache) -> None:
    cache.part(DIGEST).write_bytes(DATA[:150_000])
    request = a_request(server)
    server.put("/a", DATA[:100_000])
    with pytest.raises(VerificationRefused) as caught:
        fetch([request], cache, silent, step="fetch")
    assert server.ranges() == ["bytes=150000-", ""]  # 416, then the whole file
    assert "100000 bytes" in caught.value.context


def test_other_bytes_are_refused_and_removed(server: FlakyServer, cache: BlobCache) -> None:
    server.faults = Faults(wrong_bytes=True)
    with pytest.raises(VerificationRefused) as caught:
        get(server, cache)
    assert caught.value.reference == "download-refused"
    assert caught.value.exit_code is ExitCode.VERIFICATION_REFUSED
    assert "/a" in caught.value.message
    assert server.address("/a") in caught.value.context
    assert len(server.asked) == 1
    assert parts(cache) == []
    assert content(cache) == b""


def test_other_bytes_in_several_answers_are_refused_after_a_whole_one(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=1, wrong_bytes=True)
    with pytest.raises(VerificationRefused):
        get(server, cache)
    assert server.ranges() == ["", "bytes=70000-", ""]
    assert parts(cache) == []


@pytest.mark.parametrize("hide_length", [False, True])
def test_more_bytes_than_pinned_are_refused(
    server: FlakyServer, cache: BlobCache, hide_length: bool
) -> None:
    server.faults = Faults(extra_bytes=1, hide_length=hide_length)
    with pytest.raises(VerificationRefused) as caught:
        get(server, cache)
    assert caught.value.reference == "download-refused"
    assert parts(cache) == []


def test_fewer_bytes_without_a_length_count_as_broken(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=2, hide_length=True)
    get(server, cache)
    assert content(cache) == DATA


@pytest.mark.parametrize("status", [429, 500, 502, 503, 408])
def test_a_busy_server_is_asked_again(server: FlakyServer, cache: BlobCache, status: int) -> None:
    server.faults = Faults(statuses=[status, status])
    get(server, cache)
    assert content(cache) == DATA


def test_a_server_that_names_a_time_is_not_asked_before(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(transfer.Stop, "pause", lambda _self, seconds: waited.append(seconds))
    server.faults = Faults(statuses=[429, 503], retry_after="17")
    get(server, cache)
    assert waited == [17.0, 17.0]


def test_pauses_grow_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.5)
    trouble = Trouble("busy", fault=Fault.UPSTREAM)
    assert [transfer.delay(trouble, n) for n in (1, 2, 3, 7, 5000)] == [0.5, 1, 2, 30, 30]


@pytest.mark.parametrize(
    ("status", "reference"),
    [
        (401, "download-denied"),
        (403, "download-denied"),
        (404, "download-missing"),
        (410, "download-missing"),
        (418, "download-unexpected"),
    ],
)
def test_a_clear_answer_is_not_asked_for_again(
    server: FlakyServer, cache: BlobCache, status: int, reference: str
) -> None:
    server.faults = Faults(statuses=[status])
    with pytest.raises(Failed) as caught:
        get(server, cache)
    assert caught.value.reference == reference
    assert str(status) in caught.value.context
    assert len(server.asked) == 1


def test_nobody_there_is_the_hosts_fault(server: FlakyServer, cache: BlobCache) -> None:
    request = Request("http://127.0.0.1:1/x?key=secret", DIGEST, len(DATA), "weights")
    with pytest.raises(Failed) as caught:
        fetch([request], cache, silent, step="fetch", attempts=2)
    assert caught.value.reference == "download-unreachable"
    assert caught.value.fault is Fault.HOST
    assert "127.0.0.1:1/x" in caught.value.context


def test_credentials_go_to_their_own_host_alone_and_are_asked_for_each_time(
    server: FlakyServer, cache: BlobCache
) -> None:
    made: list[str] = []

    def authorize() -> dict[str, str]:
        made.append(f"Bearer {len(made)}")
        return {"Authorization": made[-1], "X-Key": "secret"}

    with serving(FlakyServer()) as store:
        store.put("/lfs", DATA)
        store.faults = Faults(drop_after=70_000, drops=1)
        server.moved["/a"] = store.address("/lfs?Signature=x")
        request = Request(server.address("/a"), DIGEST, len(DATA), "a", authorize)
        fetch([request], cache, silent, step="fetch")
        assert [asked.headers["Authorization"] for asked in server.asked] == made
        assert len(made) == 2
        for asked in store.asked:
            assert "Authorization" not in asked.headers
            assert "X-Key" not in asked.headers
        assert store.ranges() == ["", "bytes=70000-"]
    assert content(cache) == DATA


def test_no_message_shows_what_an_address_hides(server: FlakyServer, cache: BlobCache) -> None:
    address = server.address("/gone?Signature=hidden").replace("//", "//user:hidden@")
    with pytest.raises(Failed) as caught:
        fetch([Request(address, DIGEST, 1, "a")], cache, silent, step="fetch")
    assert "hidden" not in str(caught.value)
    assert server.address("/gone") in caught.value.context


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://h/x", "http://", "x", "http://h:x/"]
)
def test_only_web_addresses_are_fetched(cache: BlobCache, address: str) -> None:
    with pytest.raises(BadUsage) as caught:
        fetch([Request(address, DIGEST, 1, "a")], cache, silent, step="fetch")
    assert caught.value.reference == "address-invalid"


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://h.example/x"])
def test_redirects_lead_to_no_weaker_place(cache: BlobCache, target: str) -> None:
    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": target})

    request = Request("https://h.example/a", DIGEST, len(DATA), "a")
    client = httpx.Client(transport=httpx.MockTransport(answer))
    with client, pytest.raises(Failed) as caught:
        fetch([request], cache, silent, step="fetch", client=client)
    assert caught.value.reference == "download-misdirected"


def test_redirects_in_a_circle_end(server: FlakyServer, cache: BlobCache) -> None:
    server.moved["/a"] = "/a"
    with pytest.raises(Failed) as caught:
        fetch([Request(server.address("/a"), DIGEST, 1, "a")], cache, silent, step="fetch")
    assert caught.value.reference == "download-loops"


def test_large_files_are_asked_for_in_windows(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 128_000)
    get(server, cache)
    assert server.ranges() == ["bytes=0-127999", "bytes=128000-255999", "bytes=256000-"]
    assert content(cache) == DATA


def test_a_server_that_knows_no_windows_sends_all(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 128_000)
    server.faults = Faults(ignore_range=True)
    get(server, cache)
    assert len(server.asked) == 1
    assert content(cache) == DATA


def test_a_window_that_is_answered_by_less_than_all_counts_as_broken(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "WINDOW_BYTES", 128_000)
    server.faults = Faults(drop_after=200_000, drops=50, ignore_range=True, hide_length=True)
    with pytest.raises(Failed) as caught:
        get(server, cache, attempts=3)
    assert caught.value.reference == "download-broken"


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


def test_the_proxy_of_the_machine_is_used(
    server: FlakyServer, cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.address())
    server.files["http://files.example/a"] = DATA
    request = Request("http://files.example/a", DIGEST, len(DATA), "a")
    fetch([request], cache, silent, step="fetch")
    assert content(cache) == DATA


def test_a_certificate_nobody_trusts_is_named_and_a_trusted_one_works(
    server: FlakyServer, cache: BlobCache, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = a_certificate(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.put("/a", DATA)
    address = server.address("/a").replace("http:", "https:")
    request = Request(address, DIGEST, len(DATA), "a")
    with pytest.raises(Failed) as caught:
        fetch([request], cache, silent, step="fetch")
    assert caught.value.reference == "download-not-trusted"
    assert "SSL_CERT_FILE" in caught.value.hint
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    fetch([request], cache, silent, step="fetch")
    assert content(cache) == DATA


def a_certificate(folder: Path) -> tuple[Path, Path]:
    """Self-signed, for loopback; certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "certificate.pem", folder / "key.pem"


def test_unusable_network_settings_are_named(
    cache: BlobCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://x")
    with pytest.raises(BadUsage) as caught:
        fetch([Request("http://127.0.0.1:1/", DIGEST, 1, "a")], cache, silent, step="fetch")
    assert caught.value.reference == "network-settings-invalid"


def test_a_file_of_unknown_digest_is_hashed_on_its_way(
    server: FlakyServer, cache: BlobCache
) -> None:
    found = fetch_unknown(
        server.put("/a", DATA), cache, silent, step="lock", what="a", limit=len(DATA)
    )
    assert found == (DIGEST, len(DATA))
    assert content(cache) == DATA
    assert parts(cache) == []


def test_a_file_of_unknown_digest_goes_on_while_it_is_the_same(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=1)
    address = server.put("/a", DATA)
    assert fetch_unknown(address, cache, silent, step="lock", what="a", limit=1 << 20)[0] == DIGEST
    assert server.ranges() == ["", "bytes=70000-"]
    assert "If-Range" in server.asked[1].headers


def test_a_file_of_unknown_digest_that_changed_is_fetched_anew(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(drop_after=70_000, drops=1, new_tag_each_time=True)
    address = server.put("/a", DATA)
    assert fetch_unknown(address, cache, silent, step="lock", what="a", limit=1 << 20)[0] == DIGEST
    assert server.sent == 70_000 + len(DATA)


def test_a_file_of_unknown_digest_and_length_is_not_believed(
    server: FlakyServer, cache: BlobCache
) -> None:
    server.faults = Faults(hide_length=True)
    with pytest.raises(Failed) as caught:
        fetch_unknown(server.put("/a", DATA), cache, silent, step="l", what="a", limit=1 << 20)
    assert caught.value.reference == "download-broken"
    assert parts(cache) == []


def test_a_file_of_unknown_digest_has_a_limit(server: FlakyServer, cache: BlobCache) -> None:
    with pytest.raises(VerificationRefused):
        fetch_unknown(
            server.put("/a", DATA), cache, silent, step="lock", what="a", limit=len(DATA) - 1
        )
    assert parts(cache) == []


def test_metadata_is_read_up_to_its_limit(server: FlakyServer) -> None:
    address = server.put("/m", b"{}")
    server.faults = Faults(statuses=[503])
    assert read_small(address, 2, {"Authorization": "Bearer x"}) == b"{}"
    assert server.asked[0].headers["Authorization"] == "Bearer x"
    with pytest.raises(VerificationRefused):
        read_small(address, 1)


FAULTS = st.builds(
    Faults,
    drop_after=st.integers(1, 290_000),
    drops=st.integers(0, 3),
    reset=st.booleans(),
    statuses=st.lists(st.sampled_from([429, 500, 503, 404, 204, 301]), max_size=2),
    ignore_range=st.booleans(),
    shift_range=st.integers(0, 1),
    wrong_bytes=st.booleans(),
    extra_bytes=st.integers(0, 1),
    hide_length=st.booleans(),
    new_tag_each_time=st.booleans(),
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(faults=FAULTS, left=st.binary(max_size=40))
def test_whatever_happens_the_cache_holds_right_bytes_or_none(
    server: FlakyServer, place: Path, faults: Faults, left: bytes
) -> None:
    cache = BlobCache(place / os.urandom(8).hex())
    cache.part(DIGEST).write_bytes(left)
    server.faults = faults
    try:
        get(server, cache, attempts=3)
    except AiboxError:
        assert content(cache) == b""
    else:
        assert content(cache) == DATA
