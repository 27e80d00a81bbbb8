"""What tests of imports share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from aibox.box import importing, intake, worker_threads
from import_cases import CHUNK, DIRECT, LARGE, SEGMENT


@pytest.fixture(scope="module")
def small_steps() -> Iterator[None]:
    """Chunks and segments of kilobytes, so that small blobs meet all their edges."""
    steps = {"CHUNK_BYTES": CHUNK, "SEGMENT_BYTES": SEGMENT, "DIRECT_BYTES": DIRECT}
    steps["LARGE_BYTES"] = LARGE
    with pytest.MonkeyPatch.context() as patch:
        for name, value in steps.items():
            patch.setattr(intake, name, value)
        patch.setattr(importing, "LARGE_BYTES", LARGE)
        patch.setattr(importing, "DIRECT_BYTES", DIRECT)
        patch.setattr(worker_threads, "TICK_S", 0.01)
        yield


@pytest.fixture(params=[1, 1000], ids=["tiny ones together", "each for itself"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whether tiny blobs are made durable together."""
    monkeypatch.setattr(importing, "MANY", request.param)
    return "tiny ones together" if request.param == 1 else "each for itself"
