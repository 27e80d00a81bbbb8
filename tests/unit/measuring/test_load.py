"""The loads of a benchmark: shapes from tuning, the client's words, its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aibox.errors import Failed
from aibox.measuring import load
from aibox.measuring.load import Kind, Load, Shape
from aibox.profile import Tuning
from examples import profile

RESULT = Path(__file__).parents[2] / "assets/engine/bench-0.32.0.json"
TUNING = profile().tuning
SHARED = Shape(kind=Kind.SHARED, shared=1800, own=64, answer=100)
FRESH = Shape(kind=Kind.FRESH, shared=0, own=1024, answer=100)


def of(shape: Shape, concurrency: int = 4, requests: int = 32) -> Load:
    return Load(shape=shape, concurrency=concurrency, requests=requests)


def words_after(flag: str, command: tuple[str, ...]) -> str:
    return command[command.index(flag) + 1]


def test_the_shared_beginning_is_as_long_as_the_passages_that_the_release_gives() -> None:
    fresh, shared = load.shapes(TUNING, None)
    assert shared.shared == TUNING.top_k * TUNING.chunk_size // load.CHARACTERS_PER_TOKEN
    assert (fresh.shared, fresh.answer) == (0, TUNING.max_answer_tokens)


@given(
    st.integers(256, 200_000),
    st.booleans(),
    st.builds(dict, top_k=st.integers(1, 50), chunk_size=st.integers(100, 8000)),
    st.integers(1, 100_000),
)
def test_every_request_fits_the_context(
    context: int, quick: bool, changes: dict[str, int], answer: int
) -> None:
    tuning = Tuning(**{**TUNING.model_dump(), **changes, "max_answer_tokens": answer})
    for shape in load.shapes(tuning, context, quick=quick):
        assert shape.longest <= context


@given(st.none() | st.integers(1, 1024), st.booleans())
def test_nobody_is_measured_to_be_refused(most: int | None, quick: bool) -> None:
    found = load.concurrencies(most, quick=quick)
    usual = load.QUICK if quick else load.CONCURRENCIES
    assert found == usual[: len(found)]
    assert found
    assert most is None or found[-1] <= most
    assert len(found) == len(usual) or usual[len(found)] > (most or 0)


@given(st.integers(1, 1024), st.booleans())
def test_passages_are_asked_about_in_whole_sets(many: int, quick: bool) -> None:
    (one,) = load.loads([SHARED], [many], quick=quick)
    command = load.command(one, "m", 1, "/tmp", "r.json")
    sets = int(words_after("--prefix-repetition-num-prefixes", command))
    assert one.requests % sets == 0, "the client drops what does not fit"
    assert one.requests >= many


def test_the_client_is_told_everything_in_words_without_a_secret() -> None:
    command = load.command(of(SHARED), "the-model", 42, "/tmp", "r.json")
    assert command[:3] == ("vllm", "bench", "serve")
    assert words_after("--dataset-name", command) == "prefix_repetition"
    assert words_after("--prefix-repetition-prefix-len", command) == "1800"
    assert words_after("--max-concurrency", command) == "4"
    assert words_after("--seed", command) == "42"
    assert "--ignore-eos" in command, "a model that ends early is not measured"
    assert not {"--header", "--extra-body"} & set(command)
    assert words_after("--random-input-len", load.command(of(FRESH), "m", 1, "/t", "r")) == "1024"


def test_a_real_result_is_read() -> None:
    found = load.parse(of(SHARED, 2, 4), RESULT.read_text())
    assert (found.completed, found.failed) == (4, 0)
    assert found.written_per_s == pytest.approx(172.166, abs=0.001)
    assert found.first_token.p95 == pytest.approx(231.37, abs=0.01)


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(RESULT.read_text()), **values})


def test_requests_without_an_answer_are_counted() -> None:
    found = load.parse(of(SHARED, 2, 4), changed(completed=3, failed=1))
    assert found.failed == 1
    told = json.loads(RESULT.read_text())
    del told["failed"]
    assert load.parse(of(SHARED, 2, 6), json.dumps(told)).failed == 2


def test_what_the_client_does_not_account_for_has_failed() -> None:
    assert load.parse(of(SHARED, 2, 6), changed(completed=4, failed=0)).failed == 2


@pytest.mark.parametrize("changes", [{"completed": 0, "failed": 32}, {"output_throughput": 0.0}])
def test_a_load_that_nobody_answered_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(Failed) as caught:
        load.parse(of(SHARED), changed(**changes))
    assert caught.value.reference == "bench-no-answer"


@pytest.mark.parametrize(
    "changes",
    [
        {"completed": 5},
        {"completed": 3, "failed": 2},
        {"completed": -1},
        {"completed": True},
        {"completed": "4"},
        {"failed": None},
        {"output_throughput": float("nan")},
        {"output_throughput": -1.0},
        {"output_throughput": float("inf")},
        {"total_token_throughput": 0},
        {"duration": -0.5},
        {"p95_ttft_ms": float("nan")},
        {"p50_e2el_ms": None},
        {"p50_tpot_ms": -1.0},
    ],
)
def test_a_result_that_cannot_be_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(Failed) as caught:
        load.parse(of(SHARED, 2, 4), changed(**changes))
    assert caught.value.reference == "bench-not-understood"


def test_a_result_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(Failed) as caught:
        load.parse(of(SHARED, 2, 4), RESULT.read_text()[:-200])
    assert caught.value.reference == "bench-not-understood"


@given(st.text() | st.sampled_from(["{}", "[]", "null", "1", '{"completed": "x"}', "[" * 9999]))
def test_another_result_is_an_error_and_no_traceback(text: str) -> None:
    with pytest.raises(Failed) as caught:
        load.parse(of(SHARED), text)
    assert caught.value.reference == "bench-not-understood"
