"""What is proposed to be frozen, and how computed and measured values are compared."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.measuring import calibration
from aibox.measuring.metrics import Metrics
from aibox.measuring.start_log import Started

numbers = st.none() | st.integers(0, 10**13)


@pytest.mark.parametrize(
    ("gpus", "frozen", "suggested", "freeze", "why"),
    [
        (True, None, 29_407_858_586, 29_407_858_586, ""),
        (True, 5, 29_407_858_586, None, "fixes kv-cache-memory-bytes = 5"),
        (True, None, None, None, "does not say"),
        (True, None, -3, None, "does not say"),
        (False, None, 29_407_858_586, None, "kv_cache_gib"),
    ],
)
def test_only_what_the_engine_itself_said_is_proposed(
    gpus: bool, frozen: int | None, suggested: int | None, freeze: int | None, why: str
) -> None:
    started = Started(suggested=suggested)
    found, why_not = calibration.to_freeze(started, gpus=gpus, frozen=frozen, free=None)
    assert found == freeze
    assert why in why_not
    assert bool(why_not) == (freeze is None)


@given(numbers, numbers, numbers, st.none() | st.floats(0, 1e4))
def test_without_a_computation_nothing_is_judged(
    tokens: int | None, frozen: int | None, given_: int | None, gib: float | None
) -> None:
    started, told = Started(tokens=tokens, cache_gib=gib), Metrics(cache_bytes=frozen)
    rows = calibration.compare(None, started, told, given_)
    assert len({row.what for row in rows}) == 6
    assert all(row.within is None and row.low is None for row in rows)


@given(st.integers(1, 10**12), st.lists(st.integers(0, 10**11), min_size=1, max_size=8))
def test_a_gpu_keeps_its_spare_whatever_is_proposed(frozen: int, free: list[int]) -> None:
    found, why_not = calibration.to_freeze(Started(), gpus=True, frozen=frozen, free=free)
    if found is None:
        assert why_not
    else:
        left = min(free) - (found - frozen)
        assert calibration.SPARE <= left < calibration.SPARE + (64 << 20)
