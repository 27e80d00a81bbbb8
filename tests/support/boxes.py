"""Small boxes for tests: releases of a few files, doubles of services and gate, invariants.

`Commands` does what the pipeline does with the store (hold, recover, stage, activate, collect),
so that a test can stop it at any change it makes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aibox.activate import activate
from aibox.box import guard
from aibox.box.filesystem import Filesystem, Kind, Operation
from aibox.box.importing import Incoming, import_all
from aibox.box.runtime import ServiceStatus
from aibox.box.store import Store
from aibox.box.transaction import Outcome, staging
from aibox.errors import AiboxError
from aibox.gc import collect
from aibox.record import SERVING, Action
from aibox.recover import Done, recover
from aibox.verdict import CaseResult, Verdict

Before = Callable[[Operation], None]


def nothing(_operation: Operation) -> None:
    """Let every change happen."""


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class ReleaseDouble:
    """A release of a few small files; releases of one `family` share a blob."""

    name: str
    good: bool = True
    size: int = 3000
    family: str = "shared"
    files_more: int = 0

    @property
    def blobs(self) -> dict[str, bytes]:
        """Path in the tree -> bytes."""
        more = (f"{self.family} {number}" for number in range(self.files_more))
        return {
            **{f"more/{text}": text.encode() for text in more},
            "app/main.py": f"print('{self.name}')\n".encode(),
            "app/__init__.py": b"",
            "documents/ko/설명서.md": self.family.encode() * 50,
            "wheels/big.whl": (self.name.encode() * self.size)[: self.size],
        }

    @property
    def manifest(self) -> bytes:
        return json.dumps({"name": self.name, "good": self.good}).encode()

    @property
    def files(self) -> dict[str, bytes]:
        return {
            "plan.json": json.dumps({"environment": f"env-{self.name}"}).encode(),
            "config/rag.toml": f"name = '{self.name}'\n".encode(),
        }


@dataclass
class RuntimeDouble:
    """Services whose whole life is a file beside the box: it says which generation runs."""

    root: Path
    announce: Before = nothing

    @property
    def _running(self) -> Path:
        return self.root.with_name(self.root.name + ".running")

    def apply(self) -> None:
        self.announce(Operation(Kind.WRITE, self._running))
        target = (self.root / "current").readlink().name
        self._running.write_text(target)

    def stop(self) -> None:
        self.announce(Operation(Kind.UNLINK, self._running))
        self._running.unlink(missing_ok=True)

    def services(self) -> tuple[ServiceStatus, ...]:
        running = self._running.exists()
        return (ServiceStatus("web", "running", None, 1.0, 0),) if running else ()

    def running(self) -> int | None:
        """The generation whose services run."""
        return int(self._running.read_text()) if self._running.exists() else None


@dataclass
class GateDouble:
    """Believes what the serving release's manifest says about itself."""

    store: Store
    announce: Before = nothing
    asked: list[int] = field(default_factory=list)

    def __call__(self) -> Verdict:
        number = self.store.current()
        assert number is not None
        self.announce(Operation(Kind.WRITE, self.store.layout.generation(number)))
        self.asked.append(number)
        if json.loads(self.store.manifest(number))["good"]:
            return Verdict(passed=True, results=(CaseResult(id="ko-1", passed=True),))
        wrong = CaseResult(id="ko-1", passed=False, reason="cites another document")
        return Verdict(passed=False, results=(wrong,), reason="ko-1 was not answered")


def incoming(*blobs: bytes) -> list[Incoming]:
    """Blobs in memory, as `import_all` wants them."""
    return [Incoming(sha256(data), len(data), partial(io.BytesIO, data)) for data in blobs]


class Commands:
    """The mutating commands of one box."""

    def __init__(
        self,
        root: Path,
        before: Before = nothing,
        *,
        boot: str = "boot-1",
        filesystem: Filesystem | None = None,
        services: Before = nothing,
        workers: int = 1,
    ) -> None:
        """`before` sees every change to the box, `services` every act of the two doubles.

        With one worker the changes come in the same order every time.
        """
        self.root, self.workers = root, workers
        self.filesystem = filesystem or Filesystem(before)
        self.store = Store(root, self.filesystem, boot=boot, reserve_bytes=64 << 10)
        self.runtime = RuntimeDouble(root, services)
        self.gate = GateDouble(self.store, services)

    def install(self, release: ReleaseDouble) -> Outcome:
        return self._go(release, Action.INSTALL)

    def upgrade(self, release: ReleaseDouble) -> Outcome:
        return self._go(release, Action.UPGRADE)

    def rollback(self, wanted: int | None = None) -> Outcome:
        with guard.hold(self.root, filesystem=self.filesystem):
            recover(self.store, self.runtime, self.gate)
            target = self.store.rollback_target(wanted)
            return activate(
                self.store,
                target,
                action=Action.ROLLBACK,
                runtime=self.runtime,
                gate=self.gate,
            )

    def recover(self) -> tuple[Done, ...]:
        with guard.hold(self.root, filesystem=self.filesystem):
            return recover(self.store, self.runtime, self.gate)

    def collect(self) -> None:
        with guard.hold(self.root, filesystem=self.filesystem):
            recover(self.store, self.runtime, self.gate)
            collect(self.store)

    def stage(self, release: ReleaseDouble) -> int:
        """Bring the blobs in and seal a generation."""
        import_all(self.store, incoming(*release.blobs.values()), workers=self.workers)
        tree = {path: sha256(data) for path, data in release.blobs.items()}
        return self.store.prepare_generation(release.manifest, tree, release.files)

    def _go(self, release: ReleaseDouble, action: Action) -> Outcome:
        with guard.hold(self.root, filesystem=self.filesystem):
            recover(self.store, self.runtime, self.gate)
            with staging(self.store, action) as transaction:
                number = self.stage(release)
                return activate(
                    self.store,
                    number,
                    action=action,
                    runtime=self.runtime,
                    gate=self.gate,
                    transaction=transaction,
                )


def copy_box(source: Path, target: Path) -> None:
    """A copy that keeps hardlinks hardlinks, and what runs beside the box."""
    seen: dict[int, Path] = {}

    def copy(one: str, other: str) -> str:
        inode = Path(one).stat().st_ino
        if inode in seen:
            os.link(seen[inode], other)
        else:
            shutil.copyfile(one, other)
            seen[inode] = Path(other)
        return other

    shutil.copytree(source, target, symlinks=True, copy_function=copy)
    running = source.with_name(source.name + ".running")
    if running.exists():
        shutil.copyfile(running, target.with_name(target.name + ".running"))


def remove_box(root: Path) -> None:
    """The box and what runs beside it."""
    shutil.rmtree(root)
    root.with_name(root.name + ".running").unlink(missing_ok=True)


def broken_invariants(root: Path, allowed: set[int | None], *, services: bool = True) -> list[str]:
    """What is wrong with a recovered box: I1, I2 and I6 of its invariants, and tidiness.

    Hashes everything: no cache of an earlier look is believed. After a power cut no service
    runs, whatever `current` says; then `services` is False.
    """
    store = Store(root, boot="a boot in which nothing was verified")
    current, state = store.current(), store.slots.load()
    running = RuntimeDouble(root).running()
    found = [f"current is {current}, not one of {allowed}"] if current not in allowed else []
    found += damage_to_current(root)
    if state.last_good != current:
        found.append(f"the state calls {state.last_good} good, current is {current}")
    if services and running != current:
        found.append(f"generation {running} runs, current is {current}")
    if store.journal.read() is not None:
        found.append("an intent is left")
    left = [p.name for p in store.layout.staging.iterdir() if p != store.layout.parts]
    return [*found, *(f"staging holds {name}" for name in left), *_wrong_history(store)]


def damage_to_current(root: Path) -> list[str]:
    """What is wrong with what `current` names, whether or not anything was recovered."""
    store = Store(root, boot="a boot in which nothing was verified")
    current = store.current()
    found = store.damage(current, deep=True) if current is not None else ()
    return [f"{one.path}: {one.reason}" for one in found]


def _wrong_history(store: Store) -> list[str]:
    history = store.history.read()
    facts = [(e.transaction, e.generation, e.outcome) for e in history.entries]
    found = [f"{fact} is recorded twice" for fact in set(facts) if facts.count(fact) > 1]
    if [e.sequence for e in history.entries] != list(range(1, len(facts) + 1)):
        found.append("the sequence of the record has a gap")
    serving = [e.generation for e in history.entries if e.outcome in SERVING]
    if (serving[-1] if serving else None) != store.current():
        found.append(f"the record says {serving}, current is {store.current()}")
    return found


def quietly(command: Callable[[], object]) -> AiboxError | None:
    """The error a command ends with, if it is one of ours."""
    try:
        command()
    except AiboxError as error:
        return error
    return None
