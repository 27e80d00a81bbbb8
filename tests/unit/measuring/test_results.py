"""What an upgrade is held against, and what it may lose."""

from __future__ import annotations

import datetime
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.measuring import results
from aibox.measuring.basis import Basis
from aibox.measuring.load import Kind, Load, Measured, Shape, Spread
from aibox.measuring.results import Results

BASIS = Basis(engine="e" * 64, model="d" * 64, hardware=("a card",), arguments={})
MIDDLE = Spread(p50=1.0, p95=2.0)


def measured(per_s: float, many: int = 4, kind: Kind = Kind.SHARED, failed: int = 0) -> Measured:
    shape = Shape(kind=kind, shared=100, own=10, answer=10)
    return Measured(
        load=Load(shape=shape, concurrency=many, requests=32),
        completed=32 - failed,
        failed=failed,
        seconds=1.0,
        written_per_s=per_s,
        all_per_s=per_s,
        answers_per_s=1.0,
        first_token=MIDDLE,
        token=MIDDLE,
        answer=MIDDLE,
    )


def of(*found: Measured) -> Results:
    return Results(
        version=1,
        made=datetime.datetime(2026, 11, 25, tzinfo=datetime.UTC),
        release="f" * 64,
        generation=1,
        profile="cpu",
        basis=BASIS,
        measured=found,
    )


def test_the_file_gives_back_what_was_written() -> None:
    assert results.parse(results.dump(of(measured(5.0)))) == of(measured(5.0))


@given(st.binary() | st.sampled_from([b"{}", b"[]", b"null", b"[" * 9999]))
def test_a_file_that_is_no_result_is_none(data: bytes) -> None:
    assert results.parse(data) is None


def test_a_result_of_a_newer_program_is_none() -> None:
    assert results.parse(results.dump(of().model_copy(update={"version": 3}))) is None


def test_a_result_of_before_is_of_the_engine_that_everybody_asks() -> None:
    told = json.loads(results.dump(of()))
    del told["service"], told["basis"]["beside"]
    found = results.parse(json.dumps(told).encode())
    assert found is not None
    assert (found.version, found.service, found.basis.beside) == (1, "chat", None)


@pytest.mark.parametrize(
    ("many", "chosen"), [((1, 4, 16, 64), 16), ((1, 4), 4), ((32, 64), 32), ((), None)]
)
def test_the_gate_repeats_the_largest_load_that_does_not_take_long(
    many: tuple[int, ...], chosen: int | None
) -> None:
    fresh = measured(1.0, 8, Kind.FRESH)
    found = results.to_repeat(of(fresh, *(measured(1.0, one) for one in many)))
    assert (found.load.concurrency if found else None) == chosen


@given(st.floats(1, 1e6), st.floats(0.001, 1e6), st.integers(0, 99))
def test_what_is_told_of_a_loss_is_what_decides(before: float, now: float, most: int) -> None:
    enough, told = results.judged(measured(before), measured(now), most)
    assert abs(results.loss_percent(measured(before), measured(now)) - 100 * (1 - now / before)) < (
        0.051
    )
    assert f"{before:.1f}" in told
    less = re.search(r"([0-9.e+-]+) % less", told)
    assert enough == (less is None or float(less[1]) <= most)
    assert enough != told.startswith("too slow: ")


def test_a_request_without_an_answer_is_never_enough_and_not_called_slow() -> None:
    enough, told = results.judged(measured(10.0), measured(20.0, failed=2), 10)
    assert not enough
    assert told.startswith("2 of 32 requests got no answer; 20.0 tokens/s written")


@pytest.mark.parametrize(
    ("now", "told"), [(15.0, "50 % more"), (10.001, "as much"), (9.95, "0.5 % less; 0 % is")]
)
def test_a_gain_and_a_loss_are_called_what_they_are(now: float, told: str) -> None:
    assert told in results.judged(measured(10.0), measured(now), 0)[1]


def test_a_load_of_which_requests_failed_is_none_to_repeat() -> None:
    found = results.to_repeat(of(measured(1.0, 4), measured(1.0, 16, failed=1)))
    assert found == measured(1.0, 4)
    assert results.to_repeat(of(measured(1.0, 16, failed=1))) is None


@pytest.mark.parametrize(("most", "chosen"), [(None, 16), (16, 16), (15, 4), (3, None)])
def test_no_more_are_asked_at_once_than_the_new_engine_takes(
    most: int | None, chosen: int | None
) -> None:
    found = results.to_repeat(of(*(measured(1.0, one) for one in (4, 16, 64))), most)
    assert (found.load.concurrency if found else None) == chosen
