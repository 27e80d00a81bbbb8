"""Where the pipeline measures: an upgrade's gate, doctor and status, and what gc takes away.

Services, questions, Docker and the host are doubles.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import measured_box
from aibox import measure, pipeline
from aibox.box import store
from aibox.record import Action
from aibox.verdict import Verdict
from boxes import RuntimeDouble
from measured_box import GOOD, MeasuredBox, release

ASKS = 'throughput_policy = "roll-back"\nthroughput_loss_max_percent = 10\n'


@pytest.fixture
def box(place: Path, monkeypatch: pytest.MonkeyPatch) -> MeasuredBox:
    made = measured_box.make(place / "box", monkeypatch)
    monkeypatch.setattr(pipeline, "runtime_of", lambda where, _store: RuntimeDouble(where.root))
    monkeypatch.setattr(pipeline, "gate_of", lambda _place, _store: lambda: GOOD)
    made.serve(release())
    measure.bench(made.place, [2], quick=True)
    made.docker.commands.clear()
    return made


def activate(box: MeasuredBox, number: int, action: Action) -> None:
    pipeline._activate(box.place, box.store, number, action, None)


def test_an_upgrade_is_measured_and_a_rollback_is_not(box: MeasuredBox) -> None:
    number = box.seal(release(gate=ASKS))
    activate(box, number, Action.UPGRADE)
    assert len(box.docker.benched) == 1
    activate(box, 1, Action.ROLLBACK)
    assert len(box.docker.benched) == 1
    assert box.store.current() == 1


class PowerCut(BaseException):
    """Nothing is done any more in this boot."""


@pytest.mark.parametrize(("written_per_s", "serves"), [(100.0, 2), (80.0, 1)])
def test_a_trial_that_lost_its_power_is_measured_after_the_boot(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch, written_per_s: float, serves: int
) -> None:
    def cut() -> Verdict:
        raise PowerCut

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(pipeline, "gate_of", lambda _place, _store: cut)
        with pytest.raises(PowerCut):
            activate(box, box.seal(release(gate=ASKS)), Action.UPGRADE)
    monkeypatch.setattr(store, "this_boot", lambda: "another boot")
    box.docker.written_per_s = written_per_s
    pipeline.recover(box.place)
    assert len(box.docker.benched) == 1
    assert box.store.current() == serves


def test_asking_for_health_measures_nothing(box: MeasuredBox) -> None:
    activate(box, box.seal(release(gate=ASKS)), Action.UPGRADE)
    box.docker.commands.clear()
    assert pipeline.check_health(box.place).passed
    assert box.docker.benched == []


def test_status_says_whether_the_calibration_counts(box: MeasuredBox) -> None:
    assert pipeline.status(box.place).calibration == "none"
    measure.calibrate(box.place)
    assert pipeline.status(box.place).calibration.startswith("valid")
    activate(box, box.seal(release(vllm={"digest": "9" * 64})), Action.UPGRADE)
    assert pipeline.status(box.place).calibration.startswith("stale: the engine is another image")


def test_gc_takes_results_of_releases_that_are_gone(
    box: MeasuredBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.runtimes, "sweep", lambda _store: ())
    first = box.store.release(1)
    for number in range(3):
        changed = {"vllm": {"reference": f"r.example/vllm:{number}"}}
        activate(box, box.seal(release(**changed)), Action.UPGRADE)
    assert measure.read_results(box.store, first) is not None
    pipeline.collect(box.place, 2)
    assert measure.read_results(box.store, first) is None
