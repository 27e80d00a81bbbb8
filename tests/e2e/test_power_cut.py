"""A power cut before every change to the box, on a real ext4 that commits only when told to.

After each cut the disk is mounted again as after a reboot: `current` must be whole before
anything is recovered (a boot follows only that), recovery must end on the old or the new
generation, never lose what was reported done, and a second run must converge. Without the
fsyncs of files the same sweep must fail: a sweep that cannot fail proves nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import RLock

import pytest

import images
from aibox.box import importing, intake
from aibox.box.filesystem import DiskTrouble, Filesystem, Kind, OpenFile, Operation
from aibox.box.store import Store
from aibox.errors import PreflightVeto
from aibox.record import Result
from boxes import (
    Commands,
    ReleaseDouble,
    broken_invariants,
    damage_to_current,
    incoming,
    quietly,
    sha256,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(images.why_not()), reason=images.why_not()),
]

ONE, TWO, THREE = (ReleaseDouble(name) for name in ("one", "two", "three"))
BROKEN = ReleaseDouble("broken", good=False)
Command = Callable[[Commands], object]


@dataclass(frozen=True)
class Sweep:
    """Commands that have ended, the one during which the power goes, and where it may leave us."""

    given: tuple[Command, ...]
    command: Command
    allowed: frozenset[int | None]
    acknowledged: int | None


SWEEPS = {
    "install": Sweep((), partial(Commands.install, release=ONE), frozenset({None, 1}), 1),
    "first install fails": Sweep(
        (), partial(Commands.install, release=BROKEN), frozenset({None, 1}), None
    ),
    "upgrade": Sweep(
        (partial(Commands.install, release=ONE),),
        partial(Commands.upgrade, release=TWO),
        frozenset({1, 2}),
        2,
    ),
    "upgrade fails": Sweep(
        (partial(Commands.install, release=ONE),),
        partial(Commands.upgrade, release=BROKEN),
        frozenset({1, 2}),
        1,
    ),
    "rollback": Sweep(
        (partial(Commands.install, release=ONE), partial(Commands.upgrade, release=TWO)),
        partial(Commands.rollback, wanted=1),
        frozenset({1, 2}),
        1,
    ),
    "gc": Sweep(
        tuple(partial(Commands.upgrade, release=one) for one in (ONE, TWO, BROKEN, THREE)),
        Commands.collect,
        frozenset({4}),
        4,
    ),
}


class WithoutFileSync(Filesystem):
    """The mutant: files are never made durable."""

    def sync_file(self, file: OpenFile) -> None:
        pass

    def sync_filesystem(self, folder: OpenFile) -> None:
        pass


@dataclass
class PowerCuts:
    """Copies the disk before every change, while `on`."""

    image: Path
    folder: Path
    on: bool = False
    copies: list[Path] = field(default_factory=list)

    def __call__(self, _operation: Operation) -> None:
        if self.on:
            self.cut()

    def cut(self) -> None:
        copy = self.folder / f"cut-{len(self.copies)}.img"
        self.copies.append(images.snapshot(self.image, copy))


def cut_the_power(
    sweep: Sweep, place: Path, kind: type[Filesystem] = Filesystem, options: str = images.NEVER
) -> list[Path]:
    """The disk as every power cut leaves it; the last copy is taken after the command ended."""
    image = images.make(place / "live.img")
    cuts = PowerCuts(image, place)
    with images.mounted(image, place / "live", options) as disk:
        commands = Commands(disk / "box", filesystem=kind(cuts), services=cuts)
        for command in sweep.given:
            command(commands)
        cuts.on = True
        quietly(lambda: sweep.command(commands))
        cuts.cut()
    return cuts.copies


def failures_after(sweep: Sweep, copies: list[Path], place: Path) -> list[str]:
    """What is wrong after each cut, by number."""
    failures = []
    for number, copy in enumerate(copies):
        allowed = {sweep.acknowledged} if number == len(copies) - 1 else set(sweep.allowed)
        with images.mounted(copy, place / "after") as disk:
            found = faults_on(disk / "box", sweep, allowed)
        failures += [f"cut {number} of {len(copies)}: {one}" for one in found]
        copy.unlink()
    return failures


def faults_on(root: Path, sweep: Sweep, allowed: set[int | None]) -> list[str]:
    """I1 before recovery; then I1 to I8 after it, and after the command was given again."""
    if not root.exists():
        return []
    root.with_name(root.name + ".running").unlink(missing_ok=True)  # No service outlives a cut.
    found = [f"before recovery: {one}" for one in damage_to_current(root)]
    try:
        Commands(root, boot="boot-2").recover()
        found += broken_invariants(root, allowed, services=False)
        if Commands(root, boot="boot-2").recover():
            found.append("a second recovery found work")
        quietly(lambda: sweep.command(Commands(root, boot="boot-2")))
        again = broken_invariants(root, {sweep.acknowledged}, services=False)
        found += [f"run again: {one}" for one in again]
    except Exception as error:
        found.append(f"{type(error).__name__}: {error}")
    return found


@pytest.mark.parametrize("options", ["", "noauto_da_alloc,data=writeback"])
@pytest.mark.parametrize("name", SWEEPS)
def test_a_power_cut_at_every_change_leaves_the_old_or_the_new(
    name: str, options: str, place: Path, figure: Callable[[str], None]
) -> None:
    mount_options = ",".join(filter(None, (images.NEVER, options)))
    copies = cut_the_power(SWEEPS[name], place, options=mount_options)
    failures = failures_after(SWEEPS[name], copies, place)
    where = f"power cut during {name} (ext4 {options or 'default'})"
    assert failures == []
    figure(f"{where}: {len(copies)} boundaries, 0 failures")


class OneAtATime(Filesystem):
    """Changes of several threads, in any order, but never two at once: the disk is copied between
    them."""

    def __init__(self, before: Callable[[Operation], None]) -> None:
        super().__init__(before)
        self._alone = RLock()

    @contextmanager
    def _doing(self, kind: Kind, path: Path, source: Path | None = None) -> Iterator[None]:
        with self._alone, super()._doing(kind, path, source):
            yield


BLOBS = [
    random.Random(number).randbytes(size)
    for number, size in enumerate([0, 1, 3000, 9000, 20_000, 33_000, 70_000, 150_000])
]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and segments of kilobytes, so that small blobs take the ways of large ones."""
    monkeypatch.setattr(intake, "CHUNK_BYTES", 16 << 10)
    monkeypatch.setattr(intake, "SEGMENT_BYTES", 32 << 10)
    for module in (intake, importing):
        monkeypatch.setattr(module, "DIRECT_BYTES", 8 << 10)
        monkeypatch.setattr(module, "LARGE_BYTES", 32 << 10)


def cut_an_import(place: Path, workers: int, options: str) -> list[Path]:
    image = images.make(place / "live.img")
    cuts = PowerCuts(image, place)
    with images.mounted(image, place / "live", options) as disk:
        (disk / "box").mkdir()
        Store(disk / "box").initialise()
        cuts.on = True
        importing.import_all(
            Store(disk / "box", OneAtATime(cuts)), incoming(*BLOBS), workers=workers
        )
        cuts.cut()
    return cuts.copies


def wrong_after_import_was_cut(root: Path, *, acknowledged: bool) -> list[str]:
    """A name is a promise, and so is the end of an import; after a cut it can be done again."""
    if not (root / "staging" / "parts").exists():
        return ["the box is gone"]
    store = Store(root, boot="boot-2")
    found = [f"named but not whole: {name}" for name in store.names() if store.verify(name)]
    if acknowledged:
        found += [f"lost: {one.sha256}" for one in incoming(*BLOBS) if store.verify(one.sha256)]
    importing.import_all(store, incoming(*BLOBS))
    store = Store(root, boot="boot-3")
    return found + [f"again: {sha256(data)}" for data in BLOBS if store.verify(sha256(data))]


def failures_of_an_import(copies: list[Path], place: Path) -> list[str]:
    failures = []
    for number, copy in enumerate(copies):
        with images.mounted(copy, place / "after") as disk:
            last = number == len(copies) - 1
            found = wrong_after_import_was_cut(disk / "box", acknowledged=last)
        failures += [f"cut {number} of {len(copies)}: {one}" for one in found]
        copy.unlink()
    return failures


@pytest.mark.parametrize("options", ["", "noauto_da_alloc,data=writeback"])
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("many", [1, 1000])
def test_a_power_cut_at_every_change_of_an_import_leaves_whole_blobs(
    workers: int,
    many: int,
    options: str,
    place: Path,
    small_steps: None,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    monkeypatch.setattr(importing, "MANY", many)
    mount_options = ",".join(filter(None, (images.NEVER, options)))
    copies = cut_an_import(place, workers, mount_options)
    assert failures_of_an_import(copies, place) == []
    syncs = "syncfs" if many == 1 else "fsync"
    where = f"power cut during an import by {workers}, {syncs} (ext4 {options or 'default'})"
    figure(f"{where}: {len(copies)} boundaries, 0 failures")


@pytest.mark.parametrize("many", [1, 1000])
def test_without_fsyncs_and_proofs_an_import_that_is_cut_leaves_damage(
    many: int,
    place: Path,
    small_steps: None,
    monkeypatch: pytest.MonkeyPatch,
    figure: Callable[[str], None],
) -> None:
    """Each alone does not show on ext4: what is read past the page cache was written before."""
    for sync in ("sync_file", "sync_filesystem"):
        monkeypatch.setattr(Filesystem, sync, lambda _self, _file: None)
    for lane in (intake._Plain, intake._Overlapped):
        monkeypatch.setattr(lane, "prove", lane.arrived)
    monkeypatch.setattr(intake.Intake, "prove", lambda _self: None)
    monkeypatch.setattr(importing, "MANY", many)
    copies = cut_an_import(place, 4, f"{images.NEVER},noauto_da_alloc")
    monkeypatch.undo()
    broken = {failure.split(":")[0] for failure in failures_of_an_import(copies, place)}
    assert broken, "the sweep does not notice that files are not made durable"
    figure(
        f"power cut in an import, fsyncs of files and proofs removed: {len(broken)} of "
        f"{len(copies)} boundaries fail"
    )


def test_without_the_fsyncs_of_files_the_sweep_fails(
    place: Path, figure: Callable[[str], None]
) -> None:
    options = f"{images.NEVER},noauto_da_alloc"
    copies = cut_the_power(SWEEPS["upgrade"], place, WithoutFileSync, options)
    failures = failures_after(SWEEPS["upgrade"], copies, place)
    broken = {failure.split(":")[0] for failure in failures}
    assert broken, "the sweep does not notice that files are not made durable"
    figure(f"power cut, file fsyncs removed: {len(broken)} of {len(copies)} boundaries fail")


def test_rollback_works_on_a_disk_without_one_free_byte(place: Path) -> None:
    image = images.make(place / "full.img")
    with images.mounted(image, place / "disk") as disk:
        box = Commands(disk / "box")
        box.install(ONE)
        box.upgrade(TWO)
        fill(disk / "ballast")
        assert box.rollback().result is Result.COMMITTED
        assert broken_invariants(disk / "box", {1}) == []
        refusal = quietly(lambda: box.upgrade(THREE))
        assert refusal is not None
        assert refusal.reference in {"no-room", "disk-full"}
        assert broken_invariants(disk / "box", {1}) == []
        (disk / "ballast").unlink()
        assert box.upgrade(THREE).result is Result.COMMITTED
        assert (disk / "box" / "reserve").exists(), "the reserve comes back with the room"


def test_a_disk_without_inodes_is_refused_before_the_first_byte(place: Path) -> None:
    image = images.make(place / "inodes.img", inodes=80)
    with images.mounted(image, place / "disk") as disk:
        refusal = quietly(lambda: Commands(disk / "box").install(ONE))
        assert isinstance(refusal, PreflightVeto)
        assert "inodes" in refusal.context


def test_a_disk_that_turns_read_only_leaves_the_old_generation(place: Path) -> None:
    image = images.make(place / "readonly.img")
    with images.mounted(image, place / "disk") as disk:
        Commands(disk / "box").install(ONE)

        def turn_read_only(operation: Operation) -> None:
            if operation.kind is Kind.RENAME and operation.path.name == "current":
                images.remount_read_only(disk)

        error = quietly(lambda: Commands(disk / "box", turn_read_only).upgrade(TWO))
        assert isinstance(error, DiskTrouble)
        assert error.reference == "disk-read-only"
        assert Commands(disk / "box").store.current() == 1
    with images.mounted(image, place / "disk") as disk:
        Commands(disk / "box").recover()
        assert broken_invariants(disk / "box", {1}) == []


def fill(ballast: Path) -> None:
    """Take every byte there is."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 10, 1):
            while _took(file.write, bytes(size)):
                pass


def _took(write: Callable[[bytes], int | None], data: bytes) -> bool:
    try:
        return bool(write(data))
    except OSError:
        return False
