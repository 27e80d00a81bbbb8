"""What a profile's [gate] says of speed; a profile that says nothing is what it always was."""

from __future__ import annotations

import json

import pytest

from aibox import release as releases
from aibox.errors import BadUsage
from aibox.profile import ThroughputPolicy
from measured_box import release

ASKS = 'throughput_policy = "roll-back"\nthroughput_loss_max_percent = 12.5\n'


def test_it_is_part_of_the_release_that_asks_for_it_and_reads_back() -> None:
    made = release(gate=ASKS)
    gate = releases.parse(made.manifest()).gate
    assert gate.throughput_policy is ThroughputPolicy.ROLL_BACK
    assert gate.throughput_loss_max_percent == 12.5
    assert releases.parse(made.manifest()).id == made.id != release().id


def test_a_release_that_does_not_ask_keeps_the_manifest_of_before() -> None:
    made = release()
    assert set(json.loads(made.manifest())["gate"]) == {"ready_deadline_s", "question_deadline_s"}
    assert release(gate='throughput_policy = "off"\n').id == made.id


@pytest.mark.parametrize(
    "gate",
    [
        'throughput_policy = "warn"\n',
        "throughput_loss_max_percent = 10\n",
        'throughput_policy = "off"\nthroughput_loss_max_percent = 10\n',
        'throughput_policy = "warn"\nthroughput_loss_max_percent = 100\n',
        'throughput_policy = "warn"\nthroughput_loss_max_percent = -1\n',
        'throughput_policy = "never"\nthroughput_loss_max_percent = 10\n',
    ],
)
def test_half_a_policy_is_refused(gate: str) -> None:
    with pytest.raises(BadUsage) as caught:
        release(gate=gate)
    assert caught.value.reference == "profile-invalid"
