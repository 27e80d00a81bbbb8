"""Several engines of a box, each measured by itself. Docker is a double that has two engines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import measured_box
from aibox import measure, pipeline
from aibox.engine_kinds import KindName
from aibox.errors import BadUsage
from aibox.fit.engine import GIB, MIB
from aibox.measuring import basis, calibration
from aibox.preflight import Status
from aibox.release import Release
from aibox.serving import Runner
from boxes import RuntimeDouble
from measured_box import HARDWARE, SMALL_ON_GPU, TWO_ON_GPU, MeasuredBox

FROZEN = {"chat": 40 * GIB, "small": GIB}


def both(serving: str = TWO_ON_GPU + SMALL_ON_GPU) -> Release:
    """A release with a large and a small model on one card."""
    return measured_box.release(serving, hardware=HARDWARE)


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    made = measured_box.make(place / "box", monkeypatch, services=("chat", "small"), metrics="")
    made.free_mib = 16 << 10
    made.serve(both())
    return made


def standings(box: MeasuredBox) -> dict[str, str]:
    return measure.standings(box.store, measure.require_current(box.store))


def measure_all(box: MeasuredBox) -> None:
    for service in FROZEN:
        measure.bench(box.place, [1], quick=True, service=service)


def test_the_client_runs_beside_the_engine_that_is_named(box: MeasuredBox) -> None:
    made = measure.bench(box.place, [1], quick=True, service="small")
    assert box.docker.asked == {"of-small"}
    for words in box.docker.benched:
        assert words[3] == "/run/secrets/small-api-key"
        assert words[words.index("--model") + 1] == "smaller"
    assert made.service == "small"
    assert all(one.load.shape.longest <= 4096 for one in made.measured)


def test_no_more_ask_at_once_than_the_engine_takes(box: MeasuredBox) -> None:
    made = measure.bench(box.place, service="small")
    assert {one.load.concurrency for one in made.measured} == {1, 2, 4, 8}


def test_results_of_engines_lie_beside_each_other_as_long_as_their_release(
    box: MeasuredBox,
) -> None:
    measure_all(box)
    release = box.store.release(1)
    folder = box.root / measure.FOLDER
    names = {f"bench-{release}.json", f"bench-small-{release}.json"}
    measure.sweep(box.store)
    assert {path.name for path in folder.iterdir()} == names
    found = measure.read_results(box.store, release, "small")
    assert found is not None
    assert found.service == "small"
    box.serve(both(TWO_ON_GPU))
    box.store.filesystem.remove_tree(box.store.layout.generation(1))
    measure.sweep(box.store)
    assert list(folder.iterdir()) == []


def test_each_calibration_names_its_engine_and_leaves_the_other(box: MeasuredBox) -> None:
    chat = measure.calibrate(box.place)
    small = measure.calibrate(box.place, "small")
    assert (chat.path.name, small.path.name) == ("calibration.json", "calibration-small.json")
    assert calibration.parse(chat.path.read_bytes(), "file").service == "chat"
    assert calibration.parse(small.path.read_bytes(), "file").service == "small"
    assert small.was_stale == ()
    assert [told.partition(",")[0] for told in standings(box).values()] == ["valid", "valid"]


def test_one_of_a_box_of_before_is_read_as_that_of_chat(box: MeasuredBox) -> None:
    path = measure.calibrate(box.place).path
    told = json.loads(path.read_bytes())
    del told["service"], told["basis"]["beside"]
    path.write_text(json.dumps({**told, "version": 1}))
    found = measure.read_calibration(box.store)
    assert found is not None
    assert found.service == "chat"
    assert standings(box)["chat"].startswith("valid")


@pytest.mark.parametrize("service", ["embedding", "other", "qdrant", ""])
@pytest.mark.parametrize("command", [measure.bench, measure.calibrate])
def test_what_is_no_engine_of_the_release_is_refused_with_those_that_are(
    box: MeasuredBox, command: object, service: str
) -> None:
    with pytest.raises(BadUsage) as caught:
        command(box.place, service=service)  # type: ignore[operator]
    assert caught.value.reference == "engine-not-measured"
    assert caught.value.message == f"the engine {service!r} is none of this release"
    assert caught.value.context == "can be measured: chat, small"
    assert caught.value.hint.endswith("./aibox bench --service chat")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": KindName.NIM}, "is nim; only vllm is measured"),
        ({"runner": Runner.POOLING}, "writes no text"),
    ],
)
def test_an_engine_of_another_kind_is_refused_and_the_others_named(
    changes: dict[str, object], told: str
) -> None:
    release = both()
    other = release.serving["small"].model_copy(update=changes)
    release = release.model_copy(update={"serving": {**release.serving, "small": other}})
    assert basis.measurable(release) == ("chat",)
    with pytest.raises(BadUsage, match=told) as caught:
        basis.serving_of(release, "small")
    assert caught.value.context == "can be measured: chat"


def test_status_and_doctor_tell_of_each_engine(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "runtime_of", lambda where, _store: RuntimeDouble(where.root))
    measure.calibrate(box.place, "small")
    found = pipeline.status(box.place)
    assert (found.calibration, found.calibrations["chat"]) == ("none", "none")
    assert found.calibrations["small"].startswith("valid, of 20")
    box.serve(both(TWO_ON_GPU + SMALL_ON_GPU.replace("4096", "2048")))
    now = measure.require_current(box.store)
    chat, small = measure.examine(box.store, now)
    assert (chat.check, chat.status, chat.found) == ("calibration", Status.OK, "none")
    assert (small.check, small.status) == ("calibration small", Status.WARN)
    assert "max-model-len" in small.found
    assert small.fix.endswith("./aibox calibrate --service small")


def test_an_engine_that_is_measured_no_more_takes_no_command_down(box: MeasuredBox) -> None:
    measure.calibrate(box.place)
    release = both(TWO_ON_GPU)
    other = release.serving["chat"].model_copy(update={"kind": KindName.NIM})
    box.serve(release.model_copy(update={"serving": {"chat": other}}))
    now = measure.require_current(box.store)
    assert (measure.standings(box.store, now), measure.examine(box.store, now)) == ({}, ())


# -- one card for several engines ---------------------------------------------------------------


def test_what_is_computed_counts_the_engines_on_the_same_card(box: MeasuredBox) -> None:
    def memory(service: str) -> tuple[float | None, float | None]:
        row = measure.calibrate(box.place, service).calibration.rows[1]
        return row.low, row.high

    assert (memory("chat"), memory("small")) == ((40.0, 40.0), (1.0, 1.0))
    # More than the card has beside the small one, which the large one alone would not be.
    large = TWO_ON_GPU.replace(str(40 * GIB), str(78 * GIB))
    box.serve(both(large + SMALL_ON_GPU))
    low, high = memory("chat")
    assert low is not None
    assert high is not None
    assert low < high < 78.0
    assert memory("small")[0] == 0.0, "the large one leaves nothing"
    box.serve(both(large))
    assert memory("chat")[1] == 78.0


def test_free_memory_tells_nothing_until_each_engine_on_the_card_was_loaded(
    box: MeasuredBox,
) -> None:
    measure.bench(box.place, [1], quick=True, service="small")
    found = measure.calibrate(box.place, "small").calibration
    assert found.freeze is None
    assert found.why_not.endswith("./aibox bench, then again: ./aibox calibrate --service small")
    box.docker.services = ("small",)
    assert "./aibox start, then" in measure.calibrate(box.place, "small").calibration.why_not
    box.docker.services = ("chat", "small")
    measure.bench(box.place, [1], quick=True)
    assert measure.calibrate(box.place, "small").calibration.freeze is not None


def test_what_is_proposed_leaves_the_others_what_they_need_to_start(box: MeasuredBox) -> None:
    measure_all(box)
    shares = {"chat": 0.7, "small": 0.1}
    for service, other in (("chat", "small"), ("small", "chat")):
        freeze = measure.calibrate(box.place, service).calibration.freeze
        assert freeze is not None
        left = (16 << 10) * MIB - (freeze - FROZEN[service])
        # It holds its contexts and more; the rest of its share must be free when it starts.
        needed = shares[other] * 81920 * MIB - FROZEN[other]
        assert needed - 2 * GIB < left < needed, service
        assert left > calibration.SPARE


def test_another_amount_for_one_ends_the_calibration_of_the_other(box: MeasuredBox) -> None:
    for service in FROZEN:
        measure.calibrate(box.place, service)
    box.serve(both(TWO_ON_GPU.replace(str(40 * GIB), str(41 * GIB)) + SMALL_ON_GPU))
    told = standings(box)
    assert told["chat"].startswith("valid"), "it is what a calibration itself would change"
    assert f"of chat on the same GPUs was {40 * GIB} and is {41 * GIB}" in told["small"]


def test_where_the_card_cannot_be_computed_nothing_is_proposed(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise BadUsage("x", "nobody knows it", hint="./aibox fit", fault=measure.Fault.US)

    measure_all(box)
    monkeypatch.setattr("aibox.fit.question.of_model", refuses)
    found = measure.calibrate(box.place, "small").calibration
    assert (found.predicted, found.freeze) == ("nobody knows it", None)
    assert "could not be computed" in found.why_not
