"""Installing from bundles, put together: what is remembered, and when. Services and gate are
doubles, Ansible is not run; verification, staging, program, activation and record are real."""

from __future__ import annotations

import datetime
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from aibox import pipeline, trusting
from aibox.box import program_link
from aibox.bundle import program as listings
from aibox.errors import (
    AiboxError,
    ExitCode,
    Failed,
    Fault,
    PreflightVeto,
    RolledBack,
    VerificationRefused,
)
from aibox.prepare import Wish
from aibox.record import Action, Entry, Result
from aibox.site import Engine, Site
from aibox.verdict import Verdict
from boxes import RuntimeDouble, broken_invariants
from examples import TEMPLATES
from faults import in_a_process
from small_bundle import VOLUME, Parts, SmallBundle, Supplier
from small_site import SmallSite

GOOD = Verdict(passed=True)
BAD = Verdict(passed=False, reason="it cites another document")
TWO = Parts(sequence=2, file=b"a newer driver", program={"launcher/bundle.sh": b"# newer\n"})
THREE = Parts(sequence=3, file=b"the newest driver")


@dataclass
class Doubles:
    """What stands in for services, gate and Ansible."""

    verdict: Callable[[], Verdict] = lambda: GOOD
    provisioned: list[bytes] = field(default_factory=list)


@pytest.fixture
def doubles(site: SmallSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[Doubles]:
    made = Doubles()
    monkeypatch.setattr(pipeline, "runtime_of", lambda place, _store: RuntimeDouble(place.root))
    monkeypatch.setattr(pipeline, "gate_of", lambda _place, _store: lambda: made.verdict())
    monkeypatch.setattr(pipeline.provision, "judge", lambda *_: ())
    monkeypatch.setattr(
        pipeline.provision, "prepare", lambda _s, _c, unit, *_: made.provisioned.append(unit)
    )
    yield made
    running = site.root.with_name(site.root.name + ".running")
    running.unlink(missing_ok=True)


@pytest.fixture
def box(site: SmallSite, supplier: Supplier, doubles: Doubles) -> SmallSite:
    return site.trusting(supplier)


def install(box: SmallSite, bundle: SmallBundle | Wish, **terms: Any) -> pipeline.Installed:
    box.begin()
    wish = bundle if isinstance(bundle, Wish) else box.wish(*bundle.folders, **terms)
    return pipeline.install(box.place, wish, Action.INSTALL, lambda _plan, _first: None)


def refusal(box: SmallSite, bundle: SmallBundle, **terms: Any) -> AiboxError:
    with pytest.raises(AiboxError) as caught:
        install(box, bundle, **terms)
    return caught.value


def history(box: SmallSite) -> list[Entry]:
    return list(pipeline.history(box.place).entries)


def sequence(box: SmallSite) -> int:
    """The newest that the box remembers to have taken in."""
    return max((chain.floors.sequence for chain in trusting.chains(box.trust)), default=0)


# -- what is remembered, and when ---------------------------------------------------------------


def test_what_was_committed_is_remembered_and_recorded(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    done = install(box, bundle)
    assert (done.generation, box.store.current(), sequence(box)) == (1, 1, 1)
    (entry,) = history(box)
    assert entry.outcome is Result.COMMITTED
    assert entry.provenance is not None
    assert entry.provenance.bundle == bundle.made.bundle
    assert entry.provenance.sequence == 1
    assert len(entry.provenance.signed_by) == 1
    assert broken_invariants(box.root, {1}) == []


def test_the_unit_and_the_name_of_the_program_are_those_of_the_bundle(
    box: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    bundle = supplier.bundle()
    install(box, bundle)
    text = (bundle.folder / listings.TEXT).read_bytes()
    assert program_link.linked(box.root) == listings.program_id(text)
    assert doubles.provisioned == [f"ExecStart={box.root}/bin/aibox start # {box.root}\n".encode()]


def test_nothing_is_remembered_of_what_failed_its_gate(
    box: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    one, two = supplier.bundle("one"), supplier.bundle("two", TWO)
    install(box, one)
    doubles.verdict = lambda: BAD
    error = refusal(box, two)
    assert isinstance(error, RolledBack)
    assert (box.store.current(), sequence(box)) == (1, 1)
    failed, back = history(box)[-2:]
    assert (failed.outcome, back.outcome) == (Result.FAILED, Result.ROLLED_BACK)
    assert failed.provenance is not None
    assert failed.provenance.bundle == two.made.bundle
    assert back.provenance is None
    doubles.verdict = lambda: GOOD
    assert install(box, one).outcome is None, "the older one is not refused: no newer one served"


def test_a_first_bundle_that_fails_leaves_nobody_trusted(
    site: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    doubles.verdict = lambda: BAD
    error = refusal(site, supplier.bundle(), roots=(supplier.root,))
    assert (error.reference, error.exit_code) == ("gate-failed", ExitCode.FAILED)
    assert trusting.chains(site.trust) == ()
    assert site.store.current() is None


def test_an_error_before_any_question_is_told_with_its_own_fault_and_way_out(
    box: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    def full() -> Verdict:
        raise Failed("disk", "the disk is full", context="/d", hint="see: df", fault=Fault.HOST)

    doubles.verdict = full
    error = refusal(box, supplier.bundle())
    assert (error.reference, error.context) == ("gate-failed", "the disk is full: /d")
    assert (error.fault, error.hint) == (Fault.HOST, "see: df")
    assert history(box)[-1].reason == "the disk is full"


def test_preflight_is_told_before_which_day_no_clock_is_right(
    box: SmallSite, supplier: Supplier, doubles: Doubles, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    monkeypatch.setattr(pipeline.provision, "judge", lambda *asked: told.append(asked[-1]) or ())
    bundle = supplier.bundle("old", Parts(date=datetime.date(2026, 2, 3)))
    with suppress(AiboxError):
        install(box, bundle)
    assert told == ["2026-02-03"]


def test_a_root_that_was_named_is_trusted_once_its_bundle_served(
    site: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    install(site, supplier.bundle("one"), roots=(supplier.root,))
    install(site, supplier.bundle("two", TWO))
    assert (site.store.current(), sequence(site)) == (2, 2)


def test_a_run_after_a_crash_between_commit_and_remembering_remembers(
    box: SmallSite, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(box, supplier.bundle("one"))
    two = supplier.bundle("two", TWO)

    def crash(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.trusting, "accept", crash)
        assert in_a_process(lambda: install(box, two)) == -9
    assert (box.store.current(), sequence(box)) == (2, 1)
    assert install(box, two).outcome is None
    assert (box.store.current(), sequence(box)) == (2, 2)
    assert len(history(box)) == 2


def test_a_kill_during_the_trial_is_recovered_with_its_bundle_on_record(
    box: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    install(box, supplier.bundle("one"))
    two = supplier.bundle("two", TWO)

    def die() -> Verdict:
        os.kill(os.getpid(), signal.SIGKILL)
        return GOOD

    doubles.verdict = die
    assert in_a_process(lambda: install(box, two)) == -9
    doubles.verdict = lambda: GOOD
    pipeline.recover(box.place)
    (entry,) = (item for item in history(box) if item.generation == 2)
    assert entry.provenance is not None
    assert entry.provenance.bundle == two.made.bundle
    assert sequence(box) == 1, "recovery has no bundle at hand; the next install remembers it"
    assert broken_invariants(box.root, {1, 2}) == []
    install(box, two)
    assert (box.store.current(), sequence(box)) == (2, 2)


def test_the_same_bundle_again_changes_nothing(box: SmallSite, supplier: Supplier) -> None:
    bundle = supplier.bundle()
    install(box, bundle)
    assert install(box, bundle).outcome is None
    assert len(history(box)) == 1


def test_the_same_state_in_another_bundle_changes_nothing(
    box: SmallSite, supplier: Supplier
) -> None:
    full = supplier.bundle("full")
    install(box, full)
    delta = supplier.bundle("delta", Parts(held=frozenset(full.gathered.needed())))
    assert install(box, delta).outcome is None
    assert box.store.generations() == (1,)


# -- older and newer ----------------------------------------------------------------------------


def test_an_older_bundle_is_refused_before_the_box_is_touched(
    box: SmallSite, supplier: Supplier
) -> None:
    one = supplier.bundle("one")
    install(box, one)
    install(box, supplier.bundle("two", TWO))
    before = box.files()
    error = refusal(box, one)
    assert (error.reference, error.exit_code) == ("bundle-older", 4)
    assert box.files() == before


def test_a_rollback_is_never_refused_for_being_older(box: SmallSite, supplier: Supplier) -> None:
    install(box, supplier.bundle("one"))
    install(box, supplier.bundle("two", TWO))
    outcome = pipeline.rollback(box.place, None)
    assert (outcome.result, outcome.serving) == (Result.COMMITTED, 1)
    entry = history(box)[-1]
    assert (entry.action, entry.generation, entry.provenance) == (Action.ROLLBACK, 1, None)
    assert sequence(box) == 2, "what was seen stays seen"


def test_after_a_rollback_only_newer_bundles_are_taken(box: SmallSite, supplier: Supplier) -> None:
    one = supplier.bundle("one")
    install(box, one)
    install(box, supplier.bundle("two", TWO))
    pipeline.rollback(box.place, None)
    assert refusal(box, one).reference == "bundle-older"
    install(box, supplier.bundle("three", THREE))
    assert (box.store.current(), sequence(box)) == (3, 3)


def test_an_older_bundle_is_refused_even_after_the_box_was_removed(
    box: SmallSite, supplier: Supplier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.provision, "remove", lambda *_: None)
    one = supplier.bundle("one")
    install(box, one)
    install(box, supplier.bundle("two", TWO))
    pipeline.uninstall(box.place, purge=False)
    assert {path.name for path in box.root.iterdir()} <= {"data", "record.jsonl", "trust", "lock"}
    assert refusal(box, one).reference == "bundle-older"


def test_an_older_bundle_that_was_allowed_is_recorded_and_lowers_nothing(
    box: SmallSite, supplier: Supplier
) -> None:
    install(box, supplier.bundle("two", TWO))
    install(box, supplier.bundle("one"), allow_downgrade=True)
    assert (box.store.current(), sequence(box)) == (2, 2)
    provenance = history(box)[-1].provenance
    assert provenance is not None
    assert (provenance.sequence, len(provenance.notices)) == (1, 1)
    assert "this box took in 2" in provenance.notices[0]


def test_an_unsigned_bundle_that_was_allowed_is_recorded_and_teaches_nothing(
    box: SmallSite, supplier: Supplier
) -> None:
    install(box, supplier.bundle("unsigned", Parts(sequence=9), signed=False), allow_unsigned=True)
    provenance = history(box)[-1].provenance
    assert provenance is not None
    assert (provenance.sequence, provenance.signed_by) == (9, ())
    assert "you allowed it" in provenance.notices[0]
    assert sequence(box) == 0
    install(box, supplier.bundle("signed"))
    assert sequence(box) == 1


# -- what ends it early -------------------------------------------------------------------------


def test_a_refused_plan_leaves_the_box_as_it_is(box: SmallSite, supplier: Supplier) -> None:
    def decline(_plan: object, first: bool) -> None:
        assert first
        raise Failed("declined", "no", hint="./aibox plan", fault=Fault.YOU)

    wish = box.wish(supplier.bundle().folder)
    with pytest.raises(Failed):
        pipeline.install(box.place, wish, Action.INSTALL, decline)
    assert box.store.generations() == ()
    assert history(box) == []
    assert sequence(box) == 0


def test_an_engine_whose_key_is_not_there_is_refused_before_anything_is_done(
    box: SmallSite, supplier: Supplier, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    named = Engine(kind="openai", url="https://192.0.2.7/v1", model="m", api_key_file=str(key))
    wish = replace(box.wish(supplier.bundle().folder), site=Site(engine=named))
    with pytest.raises(PreflightVeto, match=r"engine key: found .* is not a file"):
        install(box, wish)
    assert box.store.generations() == ()
    key.write_text("k")
    key.chmod(0o600)
    assert install(box, wish).generation == 1


def test_damage_that_staging_finds_is_recorded_and_the_same_command_works_afterwards(
    box: SmallSite, supplier: Supplier
) -> None:
    bundle = supplier.bundle()
    path = bundle.of(b"a driver")
    path.write_bytes(b"a drivel")
    error = refusal(box, bundle)
    assert isinstance(error, VerificationRefused)
    assert error.reference == "bundle-file-differs"
    (entry,) = history(box)
    assert (entry.outcome, entry.generation) == (Result.FAILED, None)
    assert entry.reason == error.message
    assert (box.store.current(), sequence(box)) == (None, 0)
    assert not program_link.link(box.root).is_symlink()
    path.write_bytes(b"a driver")
    assert install(box, bundle).generation == 1


def test_a_program_that_does_not_start_here_is_found_before_anything_is_switched(
    box: SmallSite, supplier: Supplier
) -> None:
    install(box, supplier.bundle("one"))
    broken = TWO.but(program={"aibox": b"#!/bin/sh\necho no Python; exit 3\n"})
    error = refusal(box, supplier.bundle("two", broken))
    assert error.reference == "program-not-unpacked"
    assert (box.store.current(), sequence(box)) == (1, 1)
    assert broken_invariants(box.root, {1}) == []


def test_volumes_one_after_the_other_end_in_one_installation(
    box: SmallSite, supplier: Supplier
) -> None:
    trees = {f"app/{n}.bin": bytes([n]) * 150_000 for n in range(1, 9)}
    templates = {f"stacks/{path}": data for path, data in TEMPLATES.items()}
    bundle = supplier.bundle(parts=Parts(trees=trees, program=templates), volume_bytes=VOLUME)
    *others, last = bundle.folders
    for folder in others:
        with suppress(Failed):
            install(box, box.wish(folder))
        assert box.store.current() is None
    assert install(box, box.wish(last)).generation == 1
    assert [entry.outcome for entry in history(box)][-1] is Result.COMMITTED
    assert sequence(box) == 1


# -- looking ------------------------------------------------------------------------------------


def test_looking_at_what_a_bundle_would_do_does_nothing(
    site: SmallSite, supplier: Supplier, doubles: Doubles
) -> None:
    bundle = supplier.bundle()
    wish = site.wish(bundle.folder, roots=(supplier.root,))
    assert pipeline.plan(site.place, wish).release == bundle.release.id
    assert pipeline.preflight(site.place, wish) == ()
    assert not site.root.exists()


# -- programs -----------------------------------------------------------------------------------


def test_collecting_keeps_the_program_that_is_meant(box: SmallSite, supplier: Supplier) -> None:
    for name, parts in (("one", Parts()), ("two", TWO), ("three", THREE)):
        install(box, supplier.bundle(name, parts))
    names = {path.name for path in (box.root / "programs").iterdir()}
    assert len(names) == 2, "the first and the third have the same program"
    pipeline.collect(box.place, 2)
    linked = program_link.linked(box.root)
    assert {path.name for path in (box.root / "programs").iterdir()} == {linked}


def test_the_program_is_kept_with_every_generation(box: SmallSite, supplier: Supplier) -> None:
    """So a delta need not bring it, and an older one can be brought back."""
    bundle = supplier.bundle()
    install(box, bundle)
    tree = box.store.layout.tree(1) / "program"
    assert (tree / "aibox").read_bytes() == bundle.gathered.program["aibox"][0]
    held = frozenset(bundle.gathered.needed())
    delta = supplier.bundle("delta", Parts(sequence=2, file=b"a newer driver", held=held))
    medium = Path(delta.folder)
    assert install(box, delta).generation == 2
    assert sum(path.stat().st_size for path in (medium / "blobs").rglob("*")) < 100_000
