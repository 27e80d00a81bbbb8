"""Generations: sealed whole, mended when damaged, served only when sound."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from aibox.box.filesystem import Kind
from aibox.box.store import Store
from aibox.errors import BadUsage, NeedsPerson, VerificationRefused
from aibox.record import Action, Result
from boxes import Commands, ReleaseDouble, broken_invariants, quietly, sha256
from faults import Recorder

ONE, TWO, THREE = (ReleaseDouble(name) for name in ("one", "two", "three"))
BROKEN = ReleaseDouble("broken", good=False)
SHARED = "documents/ko/설명서.md"


@pytest.fixture
def box(place: Path) -> Commands:
    commands = Commands(place / "내 box")
    commands.install(ONE)
    return commands


def test_a_tree_is_made_of_hardlinks_to_blobs(box: Commands) -> None:
    for path, data in ONE.blobs.items():
        tree = box.store.layout.tree(1) / path
        assert tree.read_bytes() == data
        assert tree.samefile(box.store.layout.blob(sha256(data)))


def test_rendered_files_and_manifest_lie_beside_the_tree(box: Commands) -> None:
    assert box.store.manifest(1) == ONE.manifest
    assert box.store.release(1) == sha256(ONE.manifest)
    assert json.loads(box.store.file(1, "plan.json"))["environment"] == "env-one"
    assert box.store.contents(1).blobs()[sha256(ONE.blobs[SHARED])] == len(ONE.blobs[SHARED])


def test_current_is_a_relative_link(box: Commands) -> None:
    assert box.store.layout.current.readlink() == Path("gens/1")


def test_a_moved_box_still_works(box: Commands, place: Path) -> None:
    box.root.rename(place / "moved")
    moved = Store(place / "moved")
    assert moved.current() == 1
    assert moved.damage(1, deep=True) == ()


def test_the_same_content_is_the_same_generation(box: Commands) -> None:
    box.store.initialise()
    assert box.stage(ONE) == 1
    assert box.stage(TWO) == 2
    assert box.stage(ONE) == 1


def test_a_number_is_never_used_twice(box: Commands) -> None:
    box.upgrade(BROKEN)
    box.collect()
    assert box.store.generations() == (1,)
    assert box.upgrade(TWO).generation == 3


@pytest.mark.parametrize(
    ("tree", "files"),
    [
        ({"../x": "a" * 64}, {}),
        ({"/x": "a" * 64}, {}),
        ({"x": "../" * 21 + "a"}, {}),
        ({}, {"config/../../x": b""}),
        ({}, {"tree/x": b""}),
        ({}, {"manifest.json": b""}),
        ({}, {"contents.json": b""}),
        ({}, {"config": b"", "config/rag.toml": b""}),
    ],
)
def test_a_release_cannot_name_what_it_must_not(
    box: Commands, tree: dict[str, str], files: dict[str, bytes]
) -> None:
    with pytest.raises((VerificationRefused, BadUsage)):
        box.store.prepare_generation(b"{}", tree, files)
    assert box.store.generations() == (1,)


def test_a_generation_of_a_missing_or_damaged_blob_is_not_sealed(box: Commands) -> None:
    with pytest.raises(VerificationRefused):
        box.store.prepare_generation(b"{}", {"x": "a" * 64}, {})
    rot(box.store.layout.blob(sha256(ONE.blobs[SHARED])))
    with pytest.raises(VerificationRefused):
        box.store.prepare_generation(b"{}", {"x": sha256(ONE.blobs[SHARED])}, {})


def rot(path: Path) -> None:
    """Flip a bit in place, as a disk does: the inode stays."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def test_a_rotten_blob_damages_every_generation_that_needs_it(box: Commands) -> None:
    box.upgrade(TWO)
    rot(box.store.layout.blob(sha256(ONE.blobs[SHARED])))
    assert not box.store.is_sound(1)
    assert (box.store.layout.quarantine / sha256(ONE.blobs[SHARED])).exists()
    assert box.store.damage(1)
    assert box.store.damage(2)


def test_installing_again_mends_what_rotted(box: Commands) -> None:
    rot(box.store.layout.blob(sha256(ONE.blobs[SHARED])))
    assert not box.store.is_sound(1)
    box.install(ONE)
    assert broken_invariants(box.root, {1}) == []


def test_mending_one_generation_mends_the_others_that_share_its_blobs(box: Commands) -> None:
    box.upgrade(TWO)
    rot(box.store.layout.blob(sha256(ONE.blobs[SHARED])))
    assert not box.store.is_sound(2)
    box.install(TWO)
    assert box.store.damage(1, deep=True) == ()


@pytest.mark.parametrize("path", [f"tree/{SHARED}", "config/rag.toml", "manifest.json"])
@pytest.mark.parametrize("how", ["other bytes", "gone"])
def test_a_file_changed_in_a_generation_is_noticed(box: Commands, path: str, how: str) -> None:
    file = box.store.layout.generation(1) / path
    file.unlink()
    if how == "other bytes":
        file.write_bytes(b"x")
    assert [one.path for one in box.store.damage(1)] == [str(file)]


def test_a_twin_whose_rendered_files_were_changed_is_not_used_again(box: Commands) -> None:
    config = box.store.layout.generation(1) / "config" / "rag.toml"
    config.chmod(0o644)
    config.write_bytes(b"tampered")
    assert box.stage(ONE) == 2
    assert box.store.damage(2, deep=True) == ()


def test_in_the_boot_of_its_installation_a_generation_is_not_hashed_again(
    box: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hashed(path: Path, _on_bytes: object) -> str:
        raise AssertionError(f"{path} was hashed")

    monkeypatch.setattr("aibox.box.blobs.read_back", hashed)
    assert box.upgrade(TWO).serving == 2, "blobs just read back are hashed once more"
    assert Store(box.root, boot="boot-1").damage(1, deep=True) == ()
    with pytest.raises(AssertionError):
        Store(box.root, boot="boot-2").damage(1, deep=True)


@pytest.mark.parametrize("content", [b"", b"garbage", b'{"version":9}', b"[]"])
def test_a_generation_without_its_listing_is_damaged(box: Commands, content: bytes) -> None:
    listing = box.store.layout.generation(1) / "contents.json"
    listing.chmod(0o644)
    listing.write_bytes(content)
    assert box.store.damage(1)
    with pytest.raises(NeedsPerson):
        box.store.contents(1)


@pytest.mark.parametrize(
    "target", [None, "gens/9", "/etc", "current", "gens/01", "gens/../gens/1", ""]
)
def test_a_link_that_switch_did_not_make_names_nothing(box: Commands, target: str | None) -> None:
    box.store.layout.current.unlink()
    if target:
        box.store.layout.current.symlink_to(target)
    assert box.store.current() is None


def test_a_rollback_writes_no_byte_to_blobs_trees_or_generations(box: Commands) -> None:
    box.upgrade(TWO)
    recorder = Recorder()
    before = {path: path.stat().st_mtime_ns for path in files_of(box.root)}
    assert Commands(box.root, recorder).rollback().result is Result.COMMITTED
    changing = [op for op in recorder.operations if op.kind is not Kind.SYNC_DIRECTORY]
    kept = (box.store.layout.blobs, box.store.layout.generations, box.store.layout.staging)
    assert [op for op in changing if any(op.path.is_relative_to(folder) for folder in kept)] == []
    assert {path: path.stat().st_mtime_ns for path in files_of(box.root)} == before


def files_of(root: Path) -> list[Path]:
    return [p for folder in ("blobs", "gens") for p in (root / folder).rglob("*") if p.is_file()]


def test_rolling_back_twice_goes_further_back(box: Commands) -> None:
    box.upgrade(TWO)
    box.upgrade(THREE)
    assert [box.rollback().serving, box.rollback().serving] == [2, 1]
    with pytest.raises(BadUsage) as error:
        box.rollback()
    assert error.value.reference == "nothing-to-roll-back-to"


def test_a_rollback_passes_over_what_failed_its_gate_and_what_is_damaged(box: Commands) -> None:
    box.upgrade(TWO)
    box.upgrade(BROKEN)
    box.upgrade(THREE)
    rot(box.store.layout.blob(sha256(TWO.blobs["wheels/big.whl"])))
    assert box.rollback().serving == 1


def test_one_can_go_forward_again_by_number(box: Commands) -> None:
    box.upgrade(TWO)
    box.rollback()
    assert box.rollback(2).serving == 2


@pytest.mark.parametrize(
    ("wanted", "reference"), [(1, "already-current"), (7, "no-such-generation")]
)
def test_a_rollback_to_nowhere_is_bad_usage(box: Commands, wanted: int, reference: str) -> None:
    with pytest.raises(BadUsage) as error:
        box.store.rollback_target(wanted)
    assert error.value.reference == reference


@pytest.mark.parametrize("record", [b"", b"torn\n"])
def test_a_damaged_record_does_not_take_the_way_back(box: Commands, record: bytes) -> None:
    box.upgrade(TWO)
    box.store.layout.record.write_bytes(record)
    assert box.store.rollback_target(1) == 1
    assert box.rollback().serving == 1


def test_a_record_that_cannot_be_read_is_not_taken_for_none(box: Commands) -> None:
    box.store.layout.record.unlink()
    box.store.layout.record.mkdir()
    with pytest.raises(NeedsPerson) as error:
        box.store.history.read()
    assert error.value.reference == "record-unreadable"


def test_a_generation_that_failed_its_gate_cannot_be_asked_for(box: Commands) -> None:
    box.upgrade(BROKEN)
    error = quietly(lambda: box.rollback(2))
    assert isinstance(error, BadUsage)


def test_a_damaged_generation_that_is_asked_for_needs_a_person(box: Commands) -> None:
    box.upgrade(TWO)
    rot(box.store.layout.blob(sha256(ONE.blobs["app/main.py"])))
    error = quietly(lambda: box.rollback(1))
    assert isinstance(error, NeedsPerson)
    assert broken_invariants(box.root, {2}) == []


def test_the_reserve_is_small_and_given_up_once(box: Commands) -> None:
    assert box.store.layout.reserve.stat().st_size == 64 << 10
    assert box.store.release_reserve()
    assert not box.store.release_reserve()
    box.upgrade(TWO)
    assert box.store.layout.reserve.exists()


def test_the_umask_does_not_change_a_generation(place: Path) -> None:
    modes = []
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        try:
            box = Commands(place / str(mask))
            box.install(ONE)
        finally:
            os.umask(before)
        found = sorted((box.root / "gens").rglob("*"))
        modes.append([(str(p.relative_to(box.root)), p.stat().st_mode) for p in found])
    assert modes[0] == modes[1]


def test_containers_can_read_the_tree_of_a_generation_and_nothing_else_of_it(place: Path) -> None:
    before = os.umask(0o077)
    try:
        box = Commands(place / "box")
        box.install(ONE)
    finally:
        os.umask(before)
    generation = box.root / "gens" / "1"
    tree = generation / "tree"
    for path in (tree, *tree.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o444)
    for path in (generation, generation / "config"):
        assert not path.exists() or stat.S_IMODE(path.stat().st_mode) == 0o700


def test_history_holds_the_release_and_the_gate(box: Commands) -> None:
    (entry,) = box.store.history.read().entries
    assert (entry.action, entry.outcome, entry.generation) == (Action.INSTALL, Result.COMMITTED, 1)
    assert entry.release == sha256(ONE.manifest)
    assert entry.plan == sha256(ONE.files["plan.json"])
    assert entry.gate is not None
    assert entry.gate.passed
