"""Files whose digest nobody knew before: hashed on their way, up to a limit."""

from __future__ import annotations

import pytest

from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.download import fetch_unknown
from aibox.errors import (
    Failed,
    VerificationRefused,
)
from downloads import DATA, DIGEST, content, parts, silent
from flaky_server import Faults, FlakyServer


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
