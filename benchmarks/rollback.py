"""What a rollback of the local box writes and costs.

Installs a box in a temporary folder, upgrades it to another tuning value, and then goes back and
forth. Bytes are counted by what appears below the store (blobs, generations, environments) and,
apart from it, in the journal, the state and the record. The peer of the time is the same run's own
service start and gate: what is left is what the rollback itself adds.

    .venv/bin/python benchmarks/rollback.py [--runs 3]
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "installer"))

from aibox import content, pipeline  # noqa: E402
from aibox.prepare import Wish, Workplace  # noqa: E402
from aibox.progress import Progress  # noqa: E402
from aibox.record import Action  # noqa: E402

STORE = ("blobs", "gens", "environments", "staging", "quarantine")
NOTES = ("journal", "record.jsonl", "state.a.json", "state.b.json")


@dataclass(frozen=True, slots=True)
class Cost:
    """One rollback: bytes new in the store, bytes new in the notes, seconds in all and by part."""

    store: int
    notes: int
    total: float
    services: float
    gate: float

    @property
    def own(self) -> float:
        """Seconds outside service start and questions."""
        return self.total - self.services - self.gate


class Stopwatch:
    """Sums up the time between one progress line and the next by the step of the line."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._step, self._since = "start", time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        now = time.perf_counter()
        self.seconds[self._step] = self.seconds.get(self._step, 0.0) + now - self._since
        self._step, self._since = progress.step, now

    def total(self) -> float:
        self(Progress("end", ""))
        return sum(self.seconds.values())


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, default=3)
    runs = arguments.parse_args().runs
    folder = Path(tempfile.mkdtemp(prefix="aibox-rollback-"))
    box = folder / "box"
    try:
        first, second = install_two(box, folder)
        show([roll_back(box, second if number % 2 else first) for number in range(runs)])
    finally:
        pipeline.uninstall(place(box, Stopwatch()), purge=True)
        shutil.rmtree(folder)


def place(box: Path, watch: Stopwatch) -> Workplace:
    return Workplace(box, content.find(), watch)


def install_two(box: Path, folder: Path) -> tuple[int, int]:
    """Two generations that differ in one tuning value; the second one serves."""
    own = content.find().lockfile.read_text(encoding="utf-8")
    other = folder / "other.lock"
    other.write_text(re.sub(r"(?m)^top_k = .*$", "top_k = 3", own), encoding="utf-8")
    wishes = (Wish(profile="local", port=free_port()), Wish(lockfile=other))
    done = [
        pipeline.install(place(box, Stopwatch()), wish, Action.INSTALL, lambda _plan, _first: None)
        for wish in wishes
    ]
    return done[0].generation, done[1].generation


def roll_back(box: Path, generation: int) -> Cost:
    before, notes, watch = files(box, STORE), files(box, NOTES), Stopwatch()
    pipeline.rollback(place(box, watch), generation)
    total = watch.total()
    return Cost(
        store=new_bytes(before, files(box, STORE)),
        notes=new_bytes(notes, files(box, NOTES)),
        total=total,
        services=watch.seconds.get("services", 0.0),
        gate=watch.seconds.get("gate", 0.0),
    )


def files(box: Path, names: tuple[str, ...]) -> dict[Path, tuple[int, int, int]]:
    """Inode, size and time of change of everything below some entries of the box root."""
    found = {}
    for name in names:
        for path in (box / name, *(box / name).rglob("*")):
            if path.is_file() and not path.is_symlink():
                status = path.stat()
                found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def new_bytes(
    before: dict[Path, tuple[int, int, int]], after: dict[Path, tuple[int, int, int]]
) -> int:
    return sum(status[1] for path, status in after.items() if before.get(path) != status)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def show(costs: list[Cost]) -> None:
    rows = {
        "bytes written to the store": [float(cost.store) for cost in costs],
        "bytes of state, journal and record": [float(cost.notes) for cost in costs],
        "seconds in all": [cost.total for cost in costs],
        "seconds of service start": [cost.services for cost in costs],
        "seconds of the gate": [cost.gate for cost in costs],
        "seconds outside both": [cost.own for cost in costs],
        "share outside both": [cost.own / cost.total for cost in costs],
    }
    print(f"| rollback of the local box, {len(costs)} runs | median | greatest |")
    print("|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")


if __name__ == "__main__":
    main()
