"""Calibration and benchmark of a box. Docker is a double that answers as a real engine did."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

import measured_box
import pin_examples
from aibox import measure
from aibox.errors import AiboxError, BadUsage, Failed
from aibox.fit import question
from aibox.measuring import calibration
from aibox.measuring.load import Kind
from aibox.preflight import Status
from measured_box import ENGINE, HARDWARE, ON_GPU, MeasuredBox, release


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    return measured_box.make(place / "box", monkeypatch)


def on_gpu(box: MeasuredBox, log: str = "16gb") -> None:
    box.docker.log = (ENGINE / f"{log}.log").read_text()
    box.docker.metrics = ""
    box.serve(release(ON_GPU, hardware=HARDWARE))


def test_a_real_start_on_the_cpu_is_as_computed(box: MeasuredBox) -> None:
    box.serve(release())
    found = measure.calibrate(box.place).calibration
    rows = {row.what: row for row in found.rows}
    assert found.predicted == ""
    tokens = rows["tokens of context, from the memory that was found"]
    assert (tokens.low, tokens.high, tokens.measured) == (524_288, 524_288, 524_288)
    assert rows["requests of full length at once"].within
    assert (found.freeze, found.throughput) == (None, ())
    assert "kv_cache_gib" in found.why_not


def test_on_gpus_it_proposes_what_the_engine_would_freeze(box: MeasuredBox) -> None:
    on_gpu(box)
    done = measure.calibrate(box.place)
    assert done.calibration.freeze == 3_031_561_913
    assert done.calibration.basis.hardware == ("NVIDIA A100-SXM4-80GB, 81920 MiB",)
    assert done.path == box.root / "data/measured/calibration.json"
    assert calibration.parse(done.path.read_bytes(), "file") == done.calibration
    assert (done.path.stat().st_mode & 0o777) == 0o600
    weights = done.calibration.rows[0]
    assert not weights.within, "the log is of another model, and that must be seen"


def frozen(box: MeasuredBox, count: int = 40 << 30) -> None:
    """A release that fixes the memory for contexts, as the project's profiles with GPUs do."""
    box.docker.metrics = ""
    text = f"{ON_GPU}kv-cache-memory-bytes = {count}\n"
    box.serve(release(text, hardware=HARDWARE))


def test_what_stays_free_under_load_decides_where_the_memory_is_fixed(box: MeasuredBox) -> None:
    frozen(box)
    found = measure.calibrate(box.place).calibration
    assert (found.freeze, "./aibox bench" in found.why_not) == (None, True)
    measure.bench(box.place, [2], quick=True)
    found = measure.calibrate(box.place).calibration
    assert found.freeze == (40 << 30) + (2 << 30), "3 GiB are free, one stays so"
    assert found.rows[-1].measured == 3.0
    assert "kv-cache-memory-bytes" not in json.dumps(found.basis.arguments)


def test_a_card_that_is_too_full_gets_less(box: MeasuredBox) -> None:
    frozen(box, 10 << 30)
    measure.bench(box.place, [2], quick=True)
    box.free_mib = 512
    assert measure.calibrate(box.place).calibration.freeze == (10 << 30) - (512 << 20)
    box.free_mib = 1024
    assert "is what fits" in measure.calibrate(box.place).calibration.why_not
    box.free_mib = None
    assert "the driver does not say" in measure.calibrate(box.place).calibration.why_not


def test_a_load_of_before_the_start_has_shown_nothing_of_it(box: MeasuredBox) -> None:
    frozen(box)
    made = measure.bench(box.place, [2], quick=True)
    box.docker.started = made.made.timestamp() + 1
    assert "./aibox bench" in measure.calibrate(box.place).calibration.why_not


def test_a_model_that_nobody_can_compute_is_measured_all_the_same(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise BadUsage("x", "nobody knows it", hint="./aibox fit", fault=measure.Fault.US)

    monkeypatch.setattr(question, "of_model", refuses)
    box.serve(release())
    found = measure.calibrate(box.place).calibration
    assert found.predicted == "nobody knows it"
    assert found.rows[2].measured == 524_288
    assert all(row.within is None for row in found.rows)


def test_another_engine_model_hardware_or_argument_ends_a_calibration(box: MeasuredBox) -> None:
    on_gpu(box)
    measure.calibrate(box.place)

    def standing(**images: object) -> str:
        box.serve(release(ON_GPU, hardware=HARDWARE, **images))
        return measure.standing(box.store, measure.require_current(box.store))

    assert standing().startswith("valid, of 20")
    engine = {"digest": pin_examples.sha("another engine")}
    assert "the engine is another image" in standing(vllm=engine)
    longer = ON_GPU.replace("16384", "8192")
    box.serve(release(longer, hardware=HARDWARE))
    now = measure.require_current(box.store)
    assert "max-model-len" in measure.standing(box.store, now)
    assert measure.calibrate(box.place).was_stale
    card = dataclasses.replace(measured_box.CARD, name="NVIDIA H100", memory_mib=81559)
    box.machine = dataclasses.replace(box.machine, gpus=(card,))
    (finding,) = measure.examine(box.store, now)
    assert (finding.status, finding.fix) == (Status.WARN, "measure it anew: ./aibox calibrate")
    assert "NVIDIA H100" in finding.found


def test_a_calibration_that_cannot_be_read_is_pointed_out(box: MeasuredBox) -> None:
    box.serve(release())
    path = measure.calibrate(box.place).path
    path.write_bytes(path.read_bytes()[:100])
    (finding,) = measure.examine(box.store, measure.require_current(box.store))
    assert (finding.status, finding.found) == (Status.WARN, "stale: its file cannot be read")


def test_a_box_without_a_calibration_has_no_fault(box: MeasuredBox) -> None:
    box.serve(release())
    now = measure.require_current(box.store)
    assert measure.standing(box.store, now) == "none"
    assert [one.status for one in measure.examine(box.store, now)] == [Status.OK]


def test_results_lie_with_their_release_until_nobody_has_it(box: MeasuredBox) -> None:
    first, second = release(), release(gate="# another\n").model_copy(update={"golden": ()})
    box.serve(first)
    measure.bench(box.place, [2], quick=True)
    box.serve(second)
    made = measure.bench(box.place, [1, 2], quick=False)
    assert [one.load.shape.kind for one in made.measured] == [
        *(Kind.FRESH, Kind.FRESH),
        *(Kind.SHARED, Kind.SHARED),
    ]
    assert measure.read_results(box.store, second.id) == made
    assert measure.read_results(box.store, first.id) is not None
    box.store.filesystem.remove_tree(box.store.layout.generation(1))
    measure.sweep(box.store)
    assert measure.read_results(box.store, first.id) is None
    assert measure.read_results(box.store, second.id) == made


def test_texts_of_two_measurements_are_never_the_same(box: MeasuredBox) -> None:
    box.serve(release())
    measure.bench(box.place, [1, 2], quick=True)
    seeds = [words[words.index("--seed") + 1] for words in box.docker.benched]
    assert len(set(seeds)) == len(seeds) == 4


def test_the_measured_speed_goes_into_the_calibration(box: MeasuredBox) -> None:
    box.serve(release())
    made = measure.bench(box.place, [2], quick=True)
    assert measure.calibrate(box.place).calibration.throughput == made.measured


def test_the_secret_is_read_where_it_lies(box: MeasuredBox) -> None:
    box.serve(release())
    measure.bench(box.place, [1], quick=True)
    for words in box.docker.benched:
        assert words[:2] == ("/bin/sh", "-c")
        assert words[3] == "/run/secrets/chat-api-key"
        assert "OPENAI_API_KEY=$(cat" in words[2]


@pytest.mark.parametrize(
    ("state", "log", "reference"),
    [("exited", None, "engine-not-running"), ("running", "", "engine-start-unknown")],
)
def test_an_engine_that_cannot_be_measured_is_an_error(
    box: MeasuredBox, state: str, log: str | None, reference: str
) -> None:
    box.serve(release())
    box.docker.state = state
    box.docker.log = box.docker.log if log is None else log
    with pytest.raises(Failed) as caught:
        measure.calibrate(box.place)
    assert caught.value.reference == reference
    assert "./aibox start" in caught.value.hint


def test_an_engine_whose_log_is_not_understood_is_read_by_its_metrics(box: MeasuredBox) -> None:
    box.serve(release())
    box.docker.log = box.docker.log.replace("KV cache size", "memory of contexts")
    found = measure.calibrate(box.place).calibration
    assert found.started.tokens is None
    assert {row.what: row.measured for row in found.rows}["tokens of context"] == 524_288
    box.docker.metrics = "nothing that is known"
    with pytest.raises(Failed) as caught:
        measure.calibrate(box.place)
    assert caught.value.reference == "engine-start-not-understood"
    assert "vLLM 0.32.0" in caught.value.message


def test_of_two_operators_one_is_told_that_the_box_is_busy(box: MeasuredBox) -> None:
    box.serve(release())
    second: list[AiboxError] = []

    def meanwhile() -> None:
        for measures in (
            lambda: measure.bench(box.place, [1]),
            lambda: measure.calibrate(box.place),
        ):
            with pytest.raises(AiboxError) as caught:
                measures()
            second.append(caught.value)

    box.docker.during = meanwhile
    made = measure.bench(box.place, [2], quick=True)
    assert {one.reference for one in second} == {"box-busy"}
    assert measure.read_results(box.store, made.release) == made


def test_an_interrupt_ends_the_client_and_keeps_the_result_of_before(box: MeasuredBox) -> None:
    box.serve(release())
    made = measure.bench(box.place, [1], quick=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    box.docker.during = interrupt
    with pytest.raises(KeyboardInterrupt):
        measure.bench(box.place, [1], quick=True)
    assert any("kill -TERM" in word for word in box.docker.commands[-1])
    assert measure.read_results(box.store, made.release) == made
    box.docker.during = None
    assert measure.bench(box.place, [1], quick=True).measured, "the box is free again"


def test_a_release_without_an_engine_has_nothing_to_measure(box: MeasuredBox) -> None:
    without = release().model_copy(update={"serving": {}})
    box.serve(without)
    with pytest.raises(BadUsage) as caught:
        measure.bench(box.place, [1], quick=True)
    assert caught.value.reference == "no-engine"
    now = measure.require_current(box.store)
    assert (measure.standing(box.store, now), measure.examine(box.store, now)) == ("", ())


def test_where_there_is_no_box_none_is_made(box: MeasuredBox) -> None:
    with pytest.raises(BadUsage):
        measure.calibrate(box.place)
    assert not box.root.exists()


def test_a_client_that_fails_keeps_the_result_of_before(box: MeasuredBox) -> None:
    box.serve(release())
    made = measure.bench(box.place, [1], quick=True)
    box.docker.ends = [0, 1]
    with pytest.raises(Failed, match="exit code 1") as caught:
        measure.bench(box.place, [1], quick=True)
    assert caught.value.context == "something went wrong"
    assert measure.read_results(box.store, made.release) == made
    box.docker.ends = [124]
    with pytest.raises(Failed) as caught:
        measure.bench(box.place, [1], quick=True)
    assert caught.value.reference == "bench-too-slow"


def test_a_measurement_that_is_cut_short_keeps_its_first_loads(box: MeasuredBox) -> None:
    box.serve(release())
    box.docker.ends = [0, 1]
    with pytest.raises(Failed, match="exit code 1"):
        measure.bench(box.place, [1], quick=True)
    now = measure.require_current(box.store)
    kept = measure.results_that_hold(box.store, now.release)
    assert kept is not None
    assert [one.load.concurrency for one in kept.measured] == [1]
    assert "[bench] kept: 1 of 2 loads" in box.said
