"""A full disk and a failing disk at every change: never half a box, never a silent success."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from aibox.box.filesystem import Kind
from aibox.box.store import Store
from aibox.box.transaction import Outcome
from aibox.errors import AiboxError
from aibox.record import Result
from boxes import (
    Commands,
    ReleaseDouble,
    broken_invariants,
    copy_box,
    damage_to_current,
    remove_box,
)
from faults import FailAt

ONE, TWO, BROKEN = ReleaseDouble("one"), ReleaseDouble("two"), ReleaseDouble("broken", good=False)
NEEDS_ROOM = (
    Kind.MAKE_DIRECTORY,
    Kind.OPEN,
    Kind.WRITE,
    Kind.ALLOCATE,
    Kind.RENAME,
    Kind.LINK,
    Kind.SYMLINK,
)
SYNCS = (Kind.SYNC_FILE, Kind.SYNC_DIRECTORY, Kind.SYNC_FILESYSTEM)

Command = Callable[[Commands], Outcome]
COMMANDS: dict[str, tuple[tuple[ReleaseDouble, ...], Command, int | None]] = {
    "install": ((), partial(Commands.install, release=ONE), 1),
    "upgrade": ((ONE,), partial(Commands.upgrade, release=TWO), 2),
    "failing upgrade": ((ONE,), partial(Commands.upgrade, release=BROKEN), 1),
    "rollback": ((ONE, TWO), Commands.rollback, 1),
}
FAULTS = {
    "the disk is full once": (errno.ENOSPC, NEEDS_ROOM, False),
    "the disk is full from here on": (errno.ENOSPC, NEEDS_ROOM, True),
    "an fsync fails": (errno.EIO, SYNCS, False),
    "every fsync fails from here on": (errno.EIO, SYNCS, True),
    "a rename fails": (errno.EIO, (Kind.RENAME,), False),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_at_every_change_leaves_one_whole_generation(
    name: str, fault: str, place: Path, figure: Callable[[str], None]
) -> None:
    given, command, final = COMMANDS[name]
    for release in given:
        Commands(place / "before").upgrade(release)
    (place / "before").mkdir(exist_ok=True)
    number, kinds, lasts = FAULTS[fault]
    for boundary in range(10_000):
        root = place / str(boundary)
        copy_box(place / "before", root)
        failing = FailAt(boundary, number, kinds, lasts)
        ended = end_of(command, Commands(root, failing))
        if not failing.fired:
            break
        if isinstance(ended, Outcome) and ended.result is Result.COMMITTED:
            assert Store(root).current() == ended.generation, "a success that is none"
        assert damage_to_current(root) == [], f"{fault} at {boundary}, before recovery"
        Commands(root).recover()
        assert broken_invariants(root, {None, 1, 2}) == [], f"{fault} at {boundary}: {ended}"
        end_of(command, Commands(root))
        assert broken_invariants(root, {final}) == [], f"{fault} at {boundary}, run again"
        remove_box(root)
    figure(f"{fault} during {name}: {boundary} boundaries, 0 failures")


def end_of(command: Command, commands: Commands) -> Outcome | AiboxError:
    try:
        return command(commands)
    except AiboxError as error:
        return error
