"""The gate and the speed of the release before. Engine and benchmark client are doubles."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

import measured_box
from aibox import measure, speed
from aibox.engine_kinds import KindName
from aibox.errors import Failed
from aibox.measuring import results
from aibox.record import Result
from aibox.verdict import Verdict
from measured_box import (
    CARD,
    HARDWARE,
    ON_GPU,
    SMALL_ON_GPU,
    TWO_ON_GPU,
    MeasuredBox,
    release,
)

BAD = Verdict(passed=False, reason="it cites another document")


def asks(policy: str, most: float = 10) -> str:
    return f'throughput_policy = "{policy}"\nthroughput_loss_max_percent = {most}\n'


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    """A box whose release of 100 tokens/s was measured."""
    made = measured_box.make(place / "box", monkeypatch)
    made.serve(release())
    measure.bench(made.place, [2, 4], quick=True)
    made.docker.commands.clear()
    return made


def upgrade(box: MeasuredBox, gate: str, before: Verdict = measured_box.GOOD, **more: Any) -> Any:
    return box.serve(
        release(gate=gate, **more), speed.guarded(box.place, box.store, lambda: before)
    )


def verdict(box: MeasuredBox) -> Verdict:
    found = [one.gate for one in box.store.history.read().entries if one.gate is not None]
    assert found[-1] is not None
    return found[-1]


def test_a_release_that_does_not_ask_is_not_measured(box: MeasuredBox) -> None:
    changed = {"vllm": {"reference": "r.example/vllm:2"}}
    upgrade(box, "", **changed)
    assert (box.store.current(), box.docker.benched) == (2, [])
    assert verdict(box).throughput == ""


@pytest.mark.parametrize("policy", ["warn", "roll-back"])
def test_what_is_fast_enough_serves_and_the_record_says_how_fast(
    box: MeasuredBox, policy: str
) -> None:
    box.docker.written_per_s = 91.0
    upgrade(box, asks(policy))
    assert box.store.current() == 2
    assert verdict(box).throughput == (
        "91.0 tokens/s written, 100.0 before (shared-prefix, 4 at once): 9 % less"
    )


def test_what_is_too_slow_is_rolled_back_where_the_release_says_so(box: MeasuredBox) -> None:
    box.docker.written_per_s = 80.0
    outcome = upgrade(box, asks("roll-back"))
    assert box.store.current() == 1
    assert "20 % less; 10 % is allowed" in str(outcome.error())
    failed, back = box.store.history.read().entries[-2:]
    assert (failed.outcome, back.outcome) == (Result.FAILED, Result.ROLLED_BACK)
    assert failed.reason.startswith("too slow: 80.0 tokens/s written")


def test_what_is_too_slow_serves_with_a_word_where_the_release_says_that(
    box: MeasuredBox,
) -> None:
    box.docker.written_per_s = 50.0
    upgrade(box, asks("warn"))
    assert box.store.current() == 2
    assert verdict(box).throughput.startswith("too slow: 50.0 tokens/s written")
    assert any("too slow" in line for line in box.said)


def test_one_load_is_asked_and_it_is_the_one_of_before(box: MeasuredBox) -> None:
    upgrade(box, asks("warn"))
    (words,) = box.docker.benched
    assert words[words.index("--max-concurrency") + 1] == "4"
    assert "prefix_repetition" in words


def test_what_the_gate_measured_is_what_the_next_upgrade_is_held_against(
    box: MeasuredBox,
) -> None:
    box.docker.written_per_s = 95.0
    upgrade(box, asks("warn"))
    box.docker.written_per_s = 90.0
    upgrade(box, asks("warn", 11))
    assert "95.0 before" in verdict(box).throughput


def test_a_gate_that_failed_already_asks_nothing_more(box: MeasuredBox) -> None:
    upgrade(box, asks("roll-back"), BAD)
    assert (box.store.current(), box.docker.benched) == (1, [])


def test_a_release_that_was_never_measured_is_no_reason_to_go_back(box: MeasuredBox) -> None:
    (box.root / measure.FOLDER / f"bench-{box.store.release(1)}.json").unlink()
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 2
    assert verdict(box).throughput == (
        "throughput not compared: the release before was not measured (aibox bench)"
    )


def test_other_hardware_is_not_compared(box: MeasuredBox) -> None:
    box.machine = dataclasses.replace(box.machine, memory_mib=64000)
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 2
    assert "on other hardware" in verdict(box).throughput


def test_a_first_installation_has_nothing_to_be_held_against(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured_box.make(place / "first", monkeypatch)
    upgrade(first, asks("roll-back"))
    assert (first.store.current(), verdict(first).throughput) == (1, "")


def test_a_load_that_the_new_engine_cannot_take_is_not_compared(box: MeasuredBox) -> None:
    serving = measured_box.CHAT.replace("16384", "256")
    upgrade(box, asks("roll-back"), serving=serving)
    assert (box.store.current(), box.docker.benched) == (2, [])
    assert "does not fit into 256 tokens" in verdict(box).throughput


def test_a_measurement_that_broke_is_no_reason_to_go_back(box: MeasuredBox) -> None:
    box.docker.ends = [1]
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 2
    assert verdict(box).throughput.startswith("throughput not measured: ")


def test_a_load_that_never_ends_is_too_slow(box: MeasuredBox) -> None:
    box.docker.ends = [124]
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 1


def test_an_engine_that_answers_nobody_under_load_is_too_slow(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_box.DoubleOfDocker, "answered", staticmethod(lambda _asked: 0))
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 1


@pytest.mark.parametrize(
    ("told", "serves", "says"),
    [
        ({"output_throughput": float("nan")}, 2, "throughput not measured: the result of"),
        ({"completed": 99}, 2, "throughput not measured: the result of"),
        ({"completed": 0}, 1, "too slow: none of 8 requests got an answer"),
        ({"output_throughput": 0}, 1, "too slow: none of 8 requests got an answer"),
        ({"completed": 7, "failed": 1}, 1, "1 of 8 requests got no answer; 100.0 tokens/s"),
        ({"completed": 7, "failed": 0}, 1, "1 of 8 requests got no answer; 100.0 tokens/s"),
    ],
)
def test_an_odd_result_of_the_client_is_told_as_what_it_is(
    box: MeasuredBox, told: dict[str, Any], serves: int, says: str
) -> None:
    box.docker.told = told
    upgrade(box, asks("roll-back"))
    assert box.store.current() == serves
    assert verdict(box).throughput.startswith(says)


@pytest.mark.parametrize(("written", "serves"), [(100.0, 2), (99.96, 2), (99.9, 1)])
def test_a_tolerance_of_nothing_forgives_a_twentieth_of_a_percent(
    box: MeasuredBox, written: float, serves: int
) -> None:
    box.docker.written_per_s = written
    upgrade(box, asks("roll-back", 0))
    assert box.store.current() == serves


def test_a_release_that_is_undone_is_no_measure_for_its_next_try(box: MeasuredBox) -> None:
    box.docker.written_per_s = 50.0
    upgrade(box, asks("roll-back"))
    undone = release(gate=asks("roll-back")).id
    assert (box.store.current(), measure.read_results(box.store, undone)) == (1, None)
    box.docker.written_per_s = 99.0
    upgrade(box, asks("roll-back"))
    kept = measure.read_results(box.store, undone)
    assert kept is not None
    assert kept.measured[0].written_per_s == 99.0


def test_a_disk_that_is_full_is_no_reason_to_go_back(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise Failed("disk-full", "the disk is full", hint="./aibox gc", fault=measure.Fault.HOST)

    monkeypatch.setattr(measure, "_publish", full)
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 2
    assert verdict(box).throughput.endswith(
        "as much; not kept for the next upgrade: the disk is full"
    )


TAKES_THREE = measured_box.CHAT.replace(
    "max-num-seqs = 4", "max-num-seqs = 2\nmax-num-queued-reqs = 3"
)


def test_an_engine_that_takes_fewer_at_once_is_asked_no_more(box: MeasuredBox) -> None:
    upgrade(box, asks("roll-back"), serving=TAKES_THREE)
    (words,) = box.docker.benched
    assert words[words.index("--max-concurrency") + 1] == "2"


def test_an_engine_that_takes_fewer_than_were_measured_is_not_compared(box: MeasuredBox) -> None:
    measure.bench(box.place, [4], quick=True)
    box.docker.commands.clear()
    upgrade(box, asks("roll-back"), serving=TAKES_THREE)
    assert (box.store.current(), box.docker.benched) == (2, [])
    assert "that both engines take" in verdict(box).throughput


def test_another_engine_is_told_to_end_the_calibration(box: MeasuredBox) -> None:
    measure.calibrate(box.place)
    upgrade(box, "", vllm={"digest": "9" * 64})
    assert any("the calibration of chat counts no more" in line for line in box.said)


def test_an_engine_of_another_kind_is_not_compared(box: MeasuredBox) -> None:
    made = release(gate=asks("roll-back"))
    other = made.serving["chat"].model_copy(update={"kind": KindName.NIM})
    made = made.model_copy(update={"serving": {"chat": other}})
    box.serve(made, speed.guarded(box.place, box.store, lambda: measured_box.GOOD))
    assert (box.store.current(), box.docker.benched) == (2, [])
    assert verdict(box).throughput == (
        "throughput not compared: only engines of the kind vllm are measured"
    )


def test_a_small_model_is_not_asked_how_fast_it_is(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = measured_box.make(place / "two", monkeypatch, services=("chat", "small"))
    serving = TWO_ON_GPU + SMALL_ON_GPU
    box.serve(release(serving, hardware=HARDWARE))
    for service in ("chat", "small"):
        measure.bench(box.place, [1], quick=True, service=service)
    box.docker.asked.clear()
    upgrade(box, asks("warn"), serving=serving, hardware=HARDWARE)
    assert box.docker.asked == {"of-chat"}


def test_one_that_cannot_be_read_is_none(box: MeasuredBox) -> None:
    path = box.root / measure.FOLDER / f"bench-{box.store.release(1)}.json"
    path.write_bytes(b"{")
    assert measure.read_results(box.store, box.store.release(1)) is None
    assert results.parse(b"{") is None
    upgrade(box, asks("roll-back"))
    assert box.store.current() == 2
    assert verdict(box).throughput == (
        "throughput not compared: what was measured of the release before cannot be read"
    )


def test_on_gpus_their_names_are_compared(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = measured_box.make(place / "gpus", monkeypatch)
    box.serve(release(ON_GPU, hardware=HARDWARE))
    measure.bench(box.place, [1], quick=True)
    other = dataclasses.replace(CARD, name="NVIDIA A100 80GB PCIe")
    box.machine = dataclasses.replace(box.machine, gpus=(other,))
    box.serve(
        release(ON_GPU, asks("warn"), HARDWARE),
        speed.guarded(box.place, box.store, lambda: measured_box.GOOD),
    )
    assert "on other hardware" in verdict(box).throughput
