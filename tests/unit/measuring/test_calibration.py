"""What is proposed to be frozen, and how computed and measured values are compared."""

from __future__ import annotations

from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.measuring import calibration
from aibox.measuring.calibration import Room
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
    found, why_not = calibration.to_freeze(
        started, gpus=gpus, frozen=frozen, rooms=[Room(1 << 40)], first="./aibox bench"
    )
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


@pytest.mark.parametrize(
    ("gib", "shown"), [(None, None), (1.0, 1.0), (40.01, 40.01), (40.0, 40 + 1 / (1 << 10))]
)
def test_what_a_profile_fixes_is_not_called_measured(
    gib: float | None, shown: float | None
) -> None:
    given = (40 << 30) + (1 << 20)
    row = calibration.compare(None, Started(cache_gib=gib), Metrics(), given)[1]
    assert row.what == "memory for contexts, GiB a GPU"
    assert row.measured == (None if shown is None else round(shown, 2))


def test_an_engine_of_another_release_proposes_nothing() -> None:
    def asked(held: int | None) -> tuple[int | None, str]:
        return calibration.to_freeze(
            Started(), gpus=True, frozen=4 << 30, rooms=[Room(8 << 30)], held=held
        )

    assert asked(None) == asked(4 << 30) == (11 << 30, "")
    freeze, why_not = asked(1 << 30)
    assert (freeze, "runs with 1073741824: it is of another release" in why_not) == (None, True)


def test_what_engines_beside_need_has_to_be_known() -> None:
    rooms = [Room(5 << 30, 0), Room(5 << 30, None)]
    found, why_not = calibration.to_freeze(Started(), gpus=True, frozen=1 << 30, rooms=rooms)
    assert (found, "could not be computed" in why_not) == (None, True)


@given(
    st.integers(1, 10**12),
    st.lists(st.integers(0, 10**11), min_size=1, max_size=8),
    st.lists(st.integers(0, 10**10), min_size=1, max_size=8),
)
def test_a_gpu_keeps_its_spare_and_what_others_need_whatever_is_proposed(
    frozen: int, free: list[int], needed: list[int]
) -> None:
    rooms = [Room(*one) for one in zip(free, cycle(needed), strict=False)]
    found, why_not = calibration.to_freeze(Started(), gpus=True, frozen=frozen, rooms=rooms)
    if found is None:
        assert why_not
    else:
        kept = [max(calibration.SPARE, need) for _, need in zip(free, cycle(needed), strict=False)]
        left = [one - (found - frozen) - keep for one, keep in zip(free, kept, strict=True)]
        assert 0 <= min(left) < 64 << 20
