"""How long an engine takes from its start to its first answer, with and without what it keeps.

    .venv-test/bin/python benchmarks/engine_cold_start.py [--runs 2]

As root on Debian 12, with Docker. The engine is the real vLLM for the CPU in a container as a box
starts it, with compilation as profiles have it; its weights are small and set by hand, so hardly
any time is their reading. Each run starts it three times: with an empty folder for what it
compiles, with the folder of the start before, as every start of the same release has it, and with
what a release carried of another box (packed from that folder and unpacked into a new one). One
start before the clock runs brings the image into memory. Prints a table, and JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "installer"), str(ROOT / "tests/support")]

from tests.e2e.journey import wait_until  # noqa: E402
from tests.e2e.real_engine import Engine, started  # noqa: E402
from tests.e2e.systemd_host import daemon  # noqa: E402

import stack_examples  # noqa: E402
from aibox.box import compiled  # noqa: E402
from aibox.box.filesystem import Filesystem  # noqa: E402
from aibox.prerequisites import USERS  # noqa: E402

SERVING = stack_examples.CHAT.replace("enforce-eager = true\n", "")
DEADLINE_S = 600.0


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds from the start to a good health page, and to the first answer; bytes kept then."""

    healthy_s: float
    answered_s: float
    kept_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2)
    runs = parser.parse_args().runs
    empty, kept, carried = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with daemon(folder):
            measured(folder / "before", folder / "before-cache")
            for number in range(runs):
                cache = folder / f"cache-{number}"
                empty.append(measured(folder / f"empty-{number}", cache))
                kept.append(measured(folder / f"kept-{number}", cache))
                new = carry(cache, folder / f"box-{number}")
                carried.append(measured(folder / f"carried-{number}", new))
    results = {"empty": empty, "kept": kept, "carried": carried}
    for what, starts in results.items():
        show(what, starts)
    print(json.dumps({what: list(map(row, starts)) for what, starts in results.items()}))
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{datetime.date.today()}, {os.cpu_count()} CPUs, load {load}")


def measured(folder: Path, cache: Path) -> Start:
    """One start, to the first answer; the engine is gone afterwards, its cache stays."""
    folder.mkdir()
    begun = time.monotonic()
    with started(folder, cache, SERVING) as engine:
        wait_until(lambda: up_or_dead(engine), DEADLINE_S, "a good health page")
        healthy = time.monotonic() - begun
        wait_until(lambda: engine.asks().returncode == 0, DEADLINE_S, "an answer")
        answered = time.monotonic() - begun
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    return Start(healthy, answered, size)


def carry(cache: Path, box: Path) -> Path:
    """What lies in one box's folder, as another box gets it: given to the engine's user."""
    here, target = ("the same machine",), box / "cache" / cache.name
    (box / "staging").mkdir(parents=True)
    compiled.pack(cache, here, box / "compiled.tar")
    size = (box / "compiled.tar").stat().st_size
    reason = compiled.place(Filesystem(), box / "compiled.tar", target, box / "staging", here)
    if reason:
        sys.exit(reason)
    Filesystem().give_tree(target, USERS["chat"])
    print(f"carried: an archive of {size / 1e6:.1f} MB")
    return target


def up_or_dead(engine: Engine) -> bool:
    if not engine.runs():
        sys.exit(f"the engine ended:\n{engine.log()[-3000:]}")
    return engine.is_up()


def row(one: Start) -> tuple[float, float, int]:
    return round(one.healthy_s, 1), round(one.answered_s, 1), one.kept_bytes


def show(what: str, starts: list[Start]) -> None:
    healthy = statistics.median(one.healthy_s for one in starts)
    answered = statistics.median(one.answered_s for one in starts)
    kept = max(one.kept_bytes for one in starts) / 1e6
    print(f"| {what} | {healthy:.1f} | {answered:.1f} | {kept:.1f} |")


if __name__ == "__main__":
    main()
