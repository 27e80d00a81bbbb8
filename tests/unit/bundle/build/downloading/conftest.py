"""A server that breaks at will and a cache; pauses between attempts take no time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aibox.bundle.build import transfer
from aibox.bundle.build.cache import BlobCache
from flaky_server import FlakyServer, serving


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
