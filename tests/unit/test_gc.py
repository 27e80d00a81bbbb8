"""The collector: what may have to serve stays, what only the removed needed goes."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aibox.box import guard, prerequisites
from aibox.box.filesystem import Kind, Operation
from aibox.box.transaction import begin
from aibox.errors import Failed
from aibox.gc import Freed, collect, roots
from aibox.prerequisites import Folder, Prerequisites
from aibox.record import Action
from boxes import Commands, ReleaseDouble, broken_invariants, quietly, sha256
from faults import Recorder

RELEASES = tuple(ReleaseDouble(name) for name in ("one", "two", "three", "four"))


@pytest.fixture
def box(place: Path) -> Commands:
    commands = Commands(place / "box")
    for release in RELEASES:
        commands.upgrade(release)
    return commands


def test_the_two_newest_good_generations_stay(box: Commands) -> None:
    freed = collect(box.store)
    assert freed.generations == (1, 2)
    assert box.store.generations() == (3, 4)
    assert broken_invariants(box.root, {4}) == []


def test_only_blobs_that_nothing_needs_go(box: Commands) -> None:
    freed = collect(box.store)
    one, four = RELEASES[0].blobs, RELEASES[3].blobs
    assert not box.store.layout.blob(sha256(one["wheels/big.whl"])).exists()
    assert all(box.store.layout.blob(sha256(data)).exists() for data in four.values())
    gone = [
        data for r in RELEASES[:2] for path, data in r.blobs.items() if data not in four.values()
    ]
    assert (freed.blobs, freed.size) == (len(gone), sum(map(len, gone)))


def test_what_engines_compiled_goes_with_the_last_generation_that_names_it(box: Commands) -> None:
    for number in box.store.generations():
        file = box.store.layout.generation(number) / prerequisites.FILE
        file.parent.mkdir(exist_ok=True)
        cache = Folder(path=f"cache/chat-{number % 3}", user="chat")
        made = Prerequisites(users={"chat": 70004}, folders=(cache,), secrets=(), copies=())
        file.write_text(made.model_dump_json())
        (box.root / cache.path).mkdir(parents=True, exist_ok=True)
        (box.root / cache.path / "kernel.so").write_bytes(b"12345")
    freed = collect(box.store)
    # Generations 3 and 4 stay; 1 shares its cache with 4.
    assert (freed.generations, freed.caches) == ((1, 2), 1)
    assert {path.name for path in (box.root / "cache").iterdir()} == {"chat-0", "chat-1"}


def test_a_rollback_works_after_it(box: Commands) -> None:
    collect(box.store)
    assert box.rollback().serving == 3


def test_more_can_be_kept_and_never_fewer_than_two(box: Commands) -> None:
    assert roots(box.store, 3, ()) == {2, 3, 4}
    assert roots(box.store, 0, ()) == {3, 4}


def test_what_serves_after_a_rollback_stays(box: Commands) -> None:
    box.rollback(1)
    assert 1 in roots(box.store, 2, ())


def test_what_the_link_names_stays_even_if_the_state_names_another(box: Commands) -> None:
    box.store.switch(1)
    assert 1 in roots(box.store, 2, ())


def test_a_pinned_generation_stays(box: Commands) -> None:
    assert collect(box.store, pinned=(1,)).generations == (2,)


def test_a_generation_that_failed_its_gate_goes(box: Commands) -> None:
    box.upgrade(ReleaseDouble("broken", good=False))
    assert 5 in collect(box.store).generations


def test_environments_go_with_the_last_generation_that_names_them(box: Commands) -> None:
    for name in ("env-one", "env-four", "env-nobody"):
        (box.store.layout.environments / name).mkdir(parents=True)
        (box.store.layout.environments / name / "file").write_bytes(b"123")
    freed = collect(box.store)
    assert freed.environments == 2
    assert [folder.name for folder in box.store.layout.environments.iterdir()] == ["env-four"]


def test_environments_stay_when_a_plan_cannot_be_read(box: Commands) -> None:
    (box.store.layout.environments / "env-nobody").mkdir(parents=True)
    (box.store.layout.generation(4) / "plan.json").unlink()
    collect(box.store)
    assert (box.store.layout.environments / "env-nobody").exists()


def test_a_second_collection_finds_nothing(box: Commands) -> None:
    collect(box.store)
    assert collect(box.store) == Freed((), 0, 0, 0)


def test_half_imported_and_unneeded_quarantined_bytes_go(box: Commands) -> None:
    needed = sha256(RELEASES[3].blobs["wheels/big.whl"])
    for path in (box.store.layout.part("a" * 64), box.store.layout.quarantined("b" * 64)):
        path.write_bytes(b"x")
    box.store.layout.quarantined(needed).write_bytes(b"evidence")
    collect(box.store)
    assert list(box.store.layout.parts.iterdir()) == []
    assert [path.name for path in box.store.layout.quarantine.iterdir()] == [needed]


def test_nothing_is_collected_during_a_transaction(box: Commands) -> None:
    begin(box.store, Action.UPGRADE)
    with pytest.raises(Failed) as error:
        collect(box.store)
    assert error.value.reference == "unfinished-transaction"
    assert box.store.generations() == (1, 2, 3, 4)


def test_when_a_kept_generation_is_unreadable_nothing_is_removed(box: Commands) -> None:
    (box.store.layout.generation(3) / "contents.json").unlink()
    assert quietly(lambda: collect(box.store)) is not None
    assert box.store.generations() == (1, 2, 3, 4)


def test_a_generation_leaves_before_its_blobs(box: Commands) -> None:
    recorder = Recorder()
    Commands(box.root, recorder).collect()
    layout, done = box.store.layout, list(enumerate(recorder.operations))
    left = max(i for i, op in done if op.kind is Kind.RENAME and "trash-" in op.path.name)
    synced = max(i for i, op in done if op.path == layout.generations)
    removed = min(
        i for i, op in done if op.kind is Kind.UNLINK and op.path.is_relative_to(layout.blobs)
    )
    assert left < synced < removed


def test_a_rollback_in_the_middle_of_a_collection_is_refused(box: Commands, place: Path) -> None:
    """Gated, not timed: the collector waits inside until the rollback has had its answer."""
    inside, answered = threading.Event(), threading.Event()

    def wait(operation: Operation) -> None:
        if operation.kind is Kind.RENAME and not inside.is_set():
            inside.set()
            assert answered.wait(20)

    collector = threading.Thread(target=Commands(box.root, wait).collect)
    collector.start()
    assert inside.wait(20)
    error = quietly(box.rollback)
    answered.set()
    collector.join()
    assert error is not None
    assert error.reference == "box-busy"
    assert broken_invariants(box.root, {4}) == []
    assert box.rollback().serving == 3


def test_the_lock_outlives_a_collection(box: Commands) -> None:
    inode = box.store.layout.lock.stat().st_ino
    box.collect()
    with guard.hold(box.root):
        assert box.store.layout.lock.stat().st_ino == inode
