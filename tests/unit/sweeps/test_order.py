"""The order of fsyncs, checked on the list of changes, for file systems we cannot mount here.

ext4 commits names with the next fsync of any file, so a power cut on it cannot see every
missing fsync of a directory. The rules can: a file is durable before it gets its final name,
and every name is durable before the next promise (intent, state, link, record) is made.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from aibox.box import importing
from aibox.box.filesystem import Kind, Operation
from boxes import Commands, ReleaseDouble, sha256
from faults import Recorder

PROMISES = ("intent.json", "state.a.json", "state.b.json", "current", "record.jsonl")
NAMING = (Kind.MAKE_DIRECTORY, Kind.RENAME, Kind.LINK, Kind.SYMLINK, Kind.UNLINK)
REBUILDABLE = ("staging", "run", "reserve", "current.new")
"""What may be lost: debris, the cache, the reserve, a link not yet renamed."""


def recorded(root: Path) -> list[Operation]:
    """Every change of a life: install, upgrade, a failed upgrade, rollback, collection."""
    recorder = Recorder()
    box = Commands(root, recorder)
    box.install(ReleaseDouble("one"))
    box.upgrade(ReleaseDouble("two"))
    box.upgrade(ReleaseDouble("broken", good=False))
    box.rollback()
    box.upgrade(ReleaseDouble("three"))
    box.collect()
    return recorder.operations


def files_named_before_durable(operations: Collection[Operation]) -> list[Path]:
    """Files renamed to a final name with writes after their last fsync, or none at all."""
    dirty: set[Path] = set()
    broken = []
    for operation in operations:
        if operation.kind in (Kind.WRITE, Kind.TRUNCATE, Kind.SET_MODE):
            dirty.add(operation.path)
        elif operation.kind is Kind.SYNC_FILE:
            dirty.discard(operation.path)
        elif operation.kind is Kind.SYNC_FILESYSTEM:
            dirty.clear()
        elif operation.kind is Kind.RENAME and operation.source in dirty:
            broken.append(operation.path)
        elif operation.kind is Kind.RENAME and operation.source is not None:
            broken += [path for path in dirty if path.is_relative_to(operation.source)]
    return broken


def promises_before_names(operations: Collection[Operation], root: Path) -> list[str]:
    """Promises made while the name of something they rest on is not durable."""
    loose: set[Path] = set()
    broken = []
    for operation in operations:
        if operation.kind is Kind.SYNC_DIRECTORY:
            loose.discard(operation.path)
        elif is_promise(operation):
            broken += [f"{operation.path.name} before {folder}" for folder in loose]
        if operation.kind in NAMING and not rebuildable(operation.path.relative_to(root)):
            loose.add(operation.path.parent)
    return broken + [f"the end before {folder}" for folder in loose]


def is_promise(operation: Operation) -> bool:
    written = operation.kind in (Kind.RENAME, Kind.WRITE)
    return written and operation.path.name in PROMISES


def rebuildable(path: Path) -> bool:
    return not path.parts or path.parts[0] in REBUILDABLE or path.suffix == ".new"


def without(
    operations: Collection[Operation], lost: Callable[[Operation], bool]
) -> list[Operation]:
    return [operation for operation in operations if not lost(operation)]


def test_files_are_durable_before_they_are_named(place: Path) -> None:
    assert files_named_before_durable(recorded(place / "box")) == []


@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize("many", [1, 1000])
def test_the_order_holds_when_many_blobs_come_in_at_once(
    place: Path, workers: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MANY", many)
    recorder = Recorder()
    box = Commands(place / "box", recorder, workers=workers)
    box.install(ReleaseDouble("one", files_more=30))
    box.upgrade(ReleaseDouble("two", files_more=40))
    assert files_named_before_durable(recorder.operations) == []
    assert promises_before_names(recorder.operations, place / "box") == []
    kind = Kind.SYNC_FILESYSTEM if many == 1 else Kind.SYNC_FILE
    left = without(recorder.operations, lambda op: op.kind is kind)
    assert files_named_before_durable(left), f"nobody misses {kind}"


def test_names_are_durable_before_the_next_promise(place: Path) -> None:
    assert promises_before_names(recorded(place / "box"), place / "box") == []


def test_the_rule_of_files_notices_every_missing_fsync(place: Path) -> None:
    operations = recorded(place / "box")
    synced = {op.path for op in operations if op.kind is Kind.SYNC_FILE}
    for path in synced - {place / "box" / "record.jsonl"}:
        left = without(operations, lambda op: op.kind is Kind.SYNC_FILE and op.path == path)  # noqa: B023
        assert files_named_before_durable(left), f"nobody misses the fsync of {path}"


FOLDERS = ["", "gens", "journal", "blobs", "blobs/sha256"]
BLOB_FOLDERS = {f"blobs/sha256/{sha256(data)[:2]}" for data in ReleaseDouble("one").blobs.values()}


@pytest.mark.parametrize("folder", [*FOLDERS, *sorted(BLOB_FOLDERS)])
def test_the_rule_of_names_notices_every_missing_fsync(place: Path, folder: str) -> None:
    root = place / "box"
    left = without(
        recorded(root), lambda op: op.kind is Kind.SYNC_DIRECTORY and op.path == root / folder
    )
    assert promises_before_names(left, root)


def test_a_record_line_is_durable_before_the_intent_goes(place: Path) -> None:
    operations = recorded(place / "box")
    written = False
    for operation in operations:
        if operation.path.name == "record.jsonl":
            written = operation.kind is not Kind.SYNC_FILE and operation.kind is not Kind.OPEN
        if operation.kind is Kind.UNLINK and operation.path.name == "intent.json":
            assert not written
