"""Downloads over a server that breaks: what goes on, what is refused."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aibox.bundle.build import transfer
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import Request, fetch, read_small
from aibox.bundle.build.web import Trouble
from aibox.errors import (
    AiboxError,
    BadUsage,
    ExitCode,
    Failed,
    Fault,
    VerificationRefused,
)
from downloads import DATA, DIGEST, a_request, content, get, parts, silent
from flaky_server import Faults, FlakyServer, serving


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
