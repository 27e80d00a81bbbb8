"""Nobody has credentials here, nothing waits, and what is fetched has a place."""

from __future__ import annotations

from pathlib import Path

import pytest

from aibox.bundle.build import registry_client, transfer
from aibox.bundle.build.cache import BlobCache


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests has no credentials, and nothing waits."""
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "no auth.json"))
    monkeypatch.setattr(registry_client, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(transfer, "FIRST_DELAY_S", 0.0)


@pytest.fixture
def cache(tmp_path: Path) -> BlobCache:
    return BlobCache(tmp_path / "cache")
