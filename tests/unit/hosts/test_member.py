"""One of several hosts: it does what it is told, and undoes by itself what nobody committed.

Services and gate are doubles, Ansible is not run; bundle, store and journal are real.
"""

from __future__ import annotations

import queue
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aibox import orders, pipeline
from aibox.bundle.layout import BLOBS
from aibox.errors import AiboxError, BadUsage, Failed, VerificationRefused
from aibox.hosts.member import Member
from aibox.hosts.member_session import serve
from aibox.orders import Answer, Order, Planned, Step
from aibox.record import Action, Result
from aibox.site import Host, Site
from aibox.verdict import Verdict
from boxes import RuntimeDouble, broken_invariants
from small_bundle import Parts, SmallBundle, Supplier
from small_site import SmallSite

TWO = Parts(sequence=2, file=b"a newer driver")


@dataclass
class Gate:
    """A double of the gate."""

    verdict: Verdict


@pytest.fixture
def gate(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(Verdict(passed=True))
    monkeypatch.setattr(pipeline, "runtime_of", lambda place, _store: RuntimeDouble(place.root))
    monkeypatch.setattr(pipeline, "gate_of", lambda _place, _store: lambda: made.verdict)
    monkeypatch.setattr(pipeline.provision, "judge", lambda *_: ())
    monkeypatch.setattr(pipeline.provision, "prepare", lambda *_: None)
    yield made
    site.root.with_name(site.root.name + ".running").unlink(missing_ok=True)


@pytest.fixture
def box(site: SmallSite, supplier: Supplier, gate: Gate) -> SmallSite:
    return site.trusting(supplier)


def order(bundle: SmallBundle, step: Step, folder: Path | None = None) -> Order:
    return Order(
        step=step,
        profile="local",
        bundle=str(folder or bundle.folder),
        manifest=bundle.made.bundle,
        site=Site(),
    )


def trial(member: Member, bundle: SmallBundle) -> None:
    """Everything up to the commit."""
    member.do(Order(step=Step.HOLD))
    member.do(order(bundle, Step.STAGE))
    assert member.do(Order(step=Step.APPLY))["passed"]
    member.do(Order(step=Step.GATE))


def installed(box: SmallSite, bundle: SmallBundle) -> None:
    box.begin()
    with Member(box.place) as member:
        trial(member, bundle)
        member.do(Order(step=Step.COMMIT))


def test_told_step_by_step_it_runs_the_release(box: SmallSite, supplier: Supplier) -> None:
    installed(box, supplier.bundle())
    assert box.store.current() == 1
    (entry,) = pipeline.history(box.place).entries
    assert (entry.outcome, entry.action) == (Result.COMMITTED, Action.INSTALL)
    assert broken_invariants(box.root, {1}) == []


def test_leaving_before_the_commit_undoes_the_trial(box: SmallSite, supplier: Supplier) -> None:
    installed(box, supplier.bundle("one"))
    with Member(box.place) as member:
        trial(member, supplier.bundle("two", TWO))
        assert box.store.current() == 2
    assert box.store.current() == 1
    assert RuntimeDouble(box.root).running() == 1
    failed, back = pipeline.history(box.place).entries[-2:]
    assert (failed.outcome, back.outcome) == (Result.FAILED, Result.ROLLED_BACK)
    assert "lost" in failed.reason
    assert broken_invariants(box.root, {1}) == []


def test_an_order_to_undo_goes_back_and_says_what_serves(
    box: SmallSite, supplier: Supplier
) -> None:
    installed(box, supplier.bundle("one"))
    with Member(box.place) as member:
        trial(member, supplier.bundle("two", TWO))
        said = member.do(Order(step=Step.UNDO, reason="the host b: no room"))
    assert said == {"serving": 1, "undone": True}
    assert pipeline.history(box.place).entries[-2].reason == "the host b: no room"


def test_a_host_that_was_only_staging_forgets_it(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    box.begin()
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        member.do(order(bundle, Step.STAGE))
    assert box.store.current() is None
    assert box.store.journal.read() is None


def test_killed_on_trial_it_goes_back_even_after_a_reboot(
    box: SmallSite, supplier: Supplier
) -> None:
    """A host alone asks its gate again after a reboot; one of several never commits by itself."""
    installed(box, supplier.bundle("one"))
    member = Member(box.place)
    trial(member, supplier.bundle("two", TWO))
    # The process is killed: nothing of its own is done any more.
    member._held = None
    member._closing.close()
    intent = box.store.journal.read()
    assert intent is not None
    box.store.journal.write(intent.model_copy(update={"boot": "another boot"}))  # type: ignore[arg-type]
    pipeline.recover(box.place)
    assert box.store.current() == 1
    assert RuntimeDouble(box.root).running() == 1


def test_what_was_not_judged_is_not_committed(
    box: SmallSite, supplier: Supplier, gate: Gate
) -> None:
    gate.verdict = Verdict(passed=False, reason="cites another document")
    box.begin()
    with Member(box.place) as member:
        trial(member, supplier.bundle())
        with pytest.raises(Failed, match="not judged"):
            member.do(Order(step=Step.COMMIT))
    assert box.store.current() is None


def test_nothing_is_changed_before_the_box_is_held(box: SmallSite, supplier: Supplier) -> None:
    with Member(box.place) as member, pytest.raises(Failed, match="told to hold still"):
        member.do(order(supplier.bundle(), Step.STAGE))


def test_all_go_back_to_the_release_before(box: SmallSite, supplier: Supplier) -> None:
    one, two = supplier.bundle("one"), supplier.bundle("two", TWO)
    installed(box, one)
    installed(box, two)
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        assert member.do(Order(step=Step.AIM)) == {"generation": 1, "release": one.release.id}
        member.do(Order(step=Step.APPLY))
        member.do(Order(step=Step.GATE))
        member.do(Order(step=Step.COMMIT))
    assert box.store.current() == 1
    assert pipeline.history(box.place).entries[-1].action is Action.ROLLBACK


def test_it_says_what_it_lacks_and_takes_it_when_it_has_come(
    box: SmallSite, supplier: Supplier, tmp_path: Path
) -> None:
    bundle, copy = supplier.bundle(), tmp_path / "copy"
    shutil.copytree(bundle.folder, copy)
    big = max((copy / BLOBS).iterdir(), key=lambda path: path.stat().st_size)
    shutil.move(big, tmp_path / big.name)
    box.begin()
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        planned = Planned.model_validate(member.do(order(bundle, Step.PLAN, copy)))
        assert planned.lacking == {big.name: (tmp_path / big.name).stat().st_size}
        assert planned.first
        assert not planned.whole
        with pytest.raises(AiboxError):
            member.do(order(bundle, Step.STAGE, copy))
    shutil.move(tmp_path / big.name, big)
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        assert member.do(order(bundle, Step.STAGE, copy))["changed"]


def test_a_copy_with_wrong_bytes_is_refused_and_does_not_stay(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    copy = box.begin().layout.root / "incoming" / "copy"
    shutil.copytree(bundle.folder, copy)
    big = max((copy / BLOBS).iterdir(), key=lambda path: path.stat().st_size)
    big.chmod(0o600)
    big.write_bytes(bytes(big.stat().st_size))
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        with pytest.raises(VerificationRefused):
            member.do(order(bundle, Step.STAGE, copy))
    assert not copy.exists()


def test_a_copy_of_another_bundle_is_refused(box: SmallSite, supplier: Supplier) -> None:
    one, two = supplier.bundle("one"), supplier.bundle("two", TWO)
    box.begin()
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        with pytest.raises(VerificationRefused, match="not the one that was verified"):
            member.do(order(one, Step.PLAN, two.folder))


def test_a_host_that_runs_it_already_changes_nothing(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    installed(box, bundle)
    before = pipeline.history(box.place).entries
    with Member(box.place) as member:
        member.do(Order(step=Step.HOLD))
        assert member.do(order(bundle, Step.PLAN))["whole"]
        assert not member.do(order(bundle, Step.STAGE))["changed"]
        member.do(Order(step=Step.APPLY))
        member.do(Order(step=Step.GATE))
        member.do(Order(step=Step.COMMIT))
    assert pipeline.history(box.place).entries == before


def test_one_of_several_refuses_to_go_back_alone(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    alone = {"a": Host(address="10.0.0.1", groups=("app",))}
    told = order(bundle, Step.STAGE).model_copy(update={"site": Site(hosts=alone, member="a")})
    with pytest.MonkeyPatch.context() as patch:
        # The small release is one of processes, whose services are in no group.
        patch.setattr("aibox.placement.services", lambda made, _site: made.services)
        patch.setattr("aibox.placement.part", lambda made, _site: made)
        box.begin()
        with Member(box.place) as member:
            member.do(Order(step=Step.HOLD))
            member.do(told)
            member.do(Order(step=Step.APPLY))
            member.do(Order(step=Step.GATE))
            member.do(Order(step=Step.COMMIT))
        with pytest.raises(BadUsage, match="change together"):
            pipeline.rollback(box.place, None)


# -- the session --------------------------------------------------------------------------------


class Line:
    """Whoever coordinates: a double that sends lines and hears answers."""

    def __init__(self) -> None:
        self.sent: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.heard: list[Answer] = []

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.sent.get, None)

    def hear(self, line: bytes) -> None:
        self.heard.append(orders.answer(line))

    def run(self, box: SmallSite, *told: Order | bytes) -> list[Answer]:
        for one in told:
            self.sent.put(one if isinstance(one, bytes) else one.line())
        self.sent.put(None)
        serve(box.place, self, self.hear)
        return [one for one in self.heard if one.progress is None]


def test_a_line_that_ends_before_the_commit_undoes(box: SmallSite, supplier: Supplier) -> None:
    installed(box, supplier.bundle("one"))
    two = supplier.bundle("two", TWO)
    steps = (Order(step=Step.HOLD), order(two, Step.STAGE), Order(step=Step.APPLY))
    answers = Line().run(box, *steps)
    assert len(answers) == 3
    assert all(one.done is not None for one in answers)
    assert box.store.current() == 1


def test_what_fails_is_answered_and_the_session_goes_on(box: SmallSite, supplier: Supplier) -> None:
    answers = Line().run(
        box, b"not json\n", Order(step=Step.ALIVE), Order(step=Step.APPLY), Order(step=Step.HOLD)
    )
    assert [one.error["reference"] for one in answers if one.error] == [
        "order-malformed",
        "order-out-of-turn",
    ]
    assert answers[-1].done is not None


def test_a_line_that_is_silent_is_taken_for_lost(
    box: SmallSite, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(box, supplier.bundle("one"))
    monkeypatch.setattr(orders, "SILENCE_S", 0.3)
    line = Line()
    two = supplier.bundle("two", TWO)
    for one in (Order(step=Step.HOLD), order(two, Step.STAGE), Order(step=Step.APPLY)):
        line.sent.put(one.line())
    serve(box.place, line, line.hear)
    line.sent.put(None)
    assert box.store.current() == 1


def test_a_trial_that_nobody_waits_for_ends(
    box: SmallSite, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gate may take many minutes; a line that broke is noticed at the next word of progress."""
    asked: list[int] = []

    def gate(place: pipeline.Workplace, _store: object) -> Callable[[], Verdict]:
        def ask() -> Verdict:
            for number in range(200):
                asked.append(number)
                place.say("gate", f"waiting {number}")
            return Verdict(passed=True)

        return ask

    monkeypatch.setattr(pipeline, "gate_of", gate)

    def hear(line: bytes) -> None:
        said = orders.answer(line)
        if said.progress is not None and said.progress.step == "gate":
            raise BrokenPipeError

    line = Line()
    steps = (Order(step=Step.HOLD), order(supplier.bundle(), Step.STAGE), Order(step=Step.APPLY))
    for one in (*steps, Order(step=Step.GATE), None):
        line.sent.put(one and one.line())
    serve(box.place, line, hear)
    assert len(asked) < 5
    assert box.store.current() is None
