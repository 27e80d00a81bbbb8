"""`aibox bench` and `aibox calibrate` as they are typed. Engine and client are doubles."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import measured_box
from aibox import measure, pipeline
from boxes import RuntimeDouble
from measured_box import MeasuredBox, release

Types = Callable[..., Any]


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    made = measured_box.make(place / "box", monkeypatch)
    made.serve(release())
    return made


def test_json_of_a_benchmark_is_one_document(types: Types, box: MeasuredBox) -> None:
    ended = types("bench", "--quick", "--concurrency", "2,1,2", "--json")
    assert ended.code == 0
    told = ended.json
    assert set(told) >= {"made", "release", "generation", "basis", "measured"}
    assert [one["load"]["concurrency"] for one in told["measured"]] == [1, 2, 1, 2]
    assert told["measured"][0]["written_per_s"] == 100.0


def test_people_read_a_table(types: Types, box: MeasuredBox) -> None:
    lines = types("bench", "--quick").out.splitlines()
    assert lines[0].split()[:5] == ["load", "at_once", "requests", "failed", "tokens_per_s"]
    assert [line.split()[:2] for line in lines[1:]] == [
        *(["fresh", "1"], ["fresh", "4"]),
        *(["shared-prefix", "1"], ["shared-prefix", "4"]),
    ]


def test_requests_without_an_answer_are_pointed_out(types: Types, box: MeasuredBox) -> None:
    assert "got no answer" not in types("bench", "--quick").err
    box.docker.told = {"completed": 3, "failed": 1}
    assert "failed requests got no answer" in types("bench", "--quick").err


def test_a_calibration_says_how_fast_the_engine_was(types: Types, box: MeasuredBox) -> None:
    assert "throughput  not measured for this engine yet: ./aibox bench" in types("calibrate").out
    types("bench", "--quick")
    told = "throughput  up to 100.0 tokens/s written (fresh, 1 at once)"
    assert told in types("calibrate").out


def test_without_a_word_it_goes_from_1_to_64(types: Types, box: MeasuredBox) -> None:
    told = types("bench", "--json").json["measured"]
    assert [one["load"]["concurrency"] for one in told[:7]] == [1, 2, 4, 8, 16, 32, 64]


@pytest.mark.parametrize("text", ["", "0", "1,,2", "x", "-1", "1025", "1.5"])
def test_what_is_no_list_of_numbers_is_wrong_usage(types: Types, text: str) -> None:
    ended = types("bench", f"--concurrency={text}", "--json")
    assert (ended.code, ended.json["reference"]) == (2, "bench-usage")


@pytest.mark.parametrize("command", ["bench", "calibrate"])
def test_without_a_box_it_is_wrong_usage_and_none_is_made(
    types: Types, place: Path, command: str
) -> None:
    ended = types(command, "--json")
    assert ended.code == 2
    assert not (place / "box").exists()


def test_a_calibration_says_what_is_as_computed(types: Types, box: MeasuredBox) -> None:
    out = types("calibrate").out
    assert "tokens of context: computed 524,288, measured 524,288  as computed" in out
    assert "to freeze   nothing: on a processor" in out
    assert str(box.root / measure.calibration_of("chat")) in out
    told = types("calibrate", "--json").json
    assert set(told) >= {"basis", "rows", "freeze", "why_not", "file", "was_stale", "throughput"}


def test_one_that_counts_no_more_is_said(types: Types, box: MeasuredBox) -> None:
    types("calibrate")
    box.serve(release(vllm={"digest": "9" * 64}))
    ended = types("calibrate")
    assert "the calibration before this one counted no more: the engine is another" in ended.out
    assert types("calibrate", "--json").json["was_stale"] == []


@pytest.fixture
def two(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    """A box with a large and a small model on one card."""
    made = measured_box.make(place / "box", monkeypatch, services=("chat", "small"), metrics="")
    monkeypatch.setattr(pipeline, "runtime_of", lambda where, _store: RuntimeDouble(where.root))
    serving = measured_box.TWO_ON_GPU + measured_box.SMALL_ON_GPU
    made.serve(release(serving, hardware=measured_box.HARDWARE))
    return made


def test_an_engine_is_measured_by_its_name(types: Types, two: MeasuredBox) -> None:
    told = types("bench", "--service", "small", "--quick", "--json").json
    assert (told["service"], two.docker.asked) == ("small", {"of-small"})
    told = types("calibrate", "--service", "small", "--json").json
    assert (told["service"], Path(told["file"]).name) == ("small", "calibration-small.json")
    assert types("calibrate", "--json").json["service"] == "chat"
    assert types("calibrate", "--service", "small").out.startswith("engine      small, vLLM")
    ended = types("bench", "--service", "embedding", "--json")
    assert (ended.code, ended.json["context"]) == (2, "can be measured: chat, small")


def test_status_has_a_line_for_each_engine(types: Types, two: MeasuredBox) -> None:
    types("calibrate", "--service", "small")
    lines = types("status").out.splitlines()
    start = lines.index("calibration none")
    assert lines[start + 1].startswith("            small: valid, of 20")
    told = types("status", "--json").json
    assert told["calibration"] == told["calibrations"]["chat"] == "none"


def test_something_is_said_every_five_seconds(
    types: Types, box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    double, slow = measured_box.DoubleOfDocker, box.docker.execute

    def execute(*words: Any) -> Any:
        time.sleep(4.5 if "bench" in words[1] else 0)
        return slow(*words)

    monkeypatch.setattr(box.docker, "execute", execute)
    assert isinstance(box.docker, double)
    ended = types("bench", "--quick", "--concurrency", "1")
    assert "4 requests (4 s)" in ended.err
