"""Import into the store against the limits of the machine, measured in the same round.

    python benchmarks/store_import.py [--quick] [--cold] [--case NAME] [--folder DIR] [--rounds 3]

The limit is the slowest of `cat` to nowhere, `sha256sum` on every processor, and `cp` to the same
disk. `cp` promises nothing: when it ends, its copy lies in memory. The import has written the
disk, read everything back from it and hashed it twice, so a peer that waits for the disk and
looks is shown too: `cp`, `sync`, `sha256sum`. Rates and ratios are medians over the rounds.

Sources are read from memory (a medium that is never the bottleneck), with --cold from the disk.
The import runs in a process of its own, whose peak memory is shown. Space is what `du` found at
most in the box while one more import ran that was not timed, as a multiple of the sources'.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

sys.path.insert(0, str(Path(__file__).parents[1] / "installer"))

from aibox.box.importing import Incoming, import_all
from aibox.box.store import Store

MEGABYTE = 10**6
BLOCK = 1 << 20
SETTLE_S = 2.0
QUICK = 50
FEW = 100


@dataclass(frozen=True)
class Case:
    """Objects to take in: how many, and of how many bytes (from, to)."""

    count: int
    least: int
    most: int

    def sizes(self, scale: int) -> list[int]:
        chance = random.Random(self.count)
        if self.count > FEW:
            return [chance.randint(self.least, self.most) for _ in range(self.count // scale)]
        return [chance.randint(self.least, self.most) // scale for _ in range(self.count)]


CASES = {
    "20,000 x 4-60 KB": Case(20_000, 4 << 10, 60 << 10),
    "1 x 3 GB": Case(1, 3000 * MEGABYTE, 3000 * MEGABYTE),
    "1 x 5 GB": Case(1, 5000 * MEGABYTE, 5000 * MEGABYTE),
    "8 x 600 MB": Case(8, 600 * MEGABYTE, 600 * MEGABYTE),
}

Seconds = dict[str, float]


def main() -> None:
    arguments = _arguments()
    if arguments.take_in:
        _take_in(*arguments.take_in)
        return
    print(f"{_processor()}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, MB/s:\n")
    print(
        "| case | cat | sha256sum | cp | limit | import | ratio | cp, sync, sha256sum | ratio "
        "| again, hashed | peak MB | space |\n|---|" + "---:|" * 11
    )
    for name in arguments.case or CASES:
        folder = Path(mkdtemp(prefix="aibox-import-", dir=arguments.folder))
        try:
            _measure(name, folder, arguments)
        finally:
            shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help=f"a {QUICK}th of the bytes")
    parser.add_argument("--cold", action="store_true", help="read the sources from the disk")
    parser.add_argument("--case", action="append", choices=CASES)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--take-in", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(": ")[2]
    return "unknown processor"


def _measure(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    sources = folder / "sources"
    sources.mkdir()
    total = _write_sources(sources, CASES[name].sizes(QUICK if arguments.quick else 1))
    rounds = [
        _round(sources, folder / str(number), arguments.cold) for number in range(arguments.rounds)
    ]
    for one in rounds:
        shown = (f"{what} {one[what]:.2f}" for what in one if what != "peak")
        print(f"{name}, seconds: {', '.join(shown)}", file=sys.stderr, flush=True)
    peak = max(one["peak"] for one in rounds)
    space = _space(sources, folder / "space") / _taken(sources)
    print(_row(name, total, rounds) + f" {peak:.0f} | {space:.2f} |", flush=True)


def _write_sources(folder: Path, sizes: list[int]) -> int:
    """Files of bytes that no file system can shorten, and beside them their digests."""
    listed, block = [], os.urandom(BLOCK)
    for number, size in enumerate(sizes):
        state = hashlib.sha256()
        with (folder / str(number)).open("wb") as file:
            for start in range(0, size, BLOCK):
                mark = number.to_bytes(8, "big") + start.to_bytes(8, "big")
                chunk = (mark + block[16:])[: size - start]
                state.update(chunk)
                file.write(chunk)
        listed.append([str(folder / str(number)), state.hexdigest(), size])
    folder.with_suffix(".json").write_text(json.dumps(listed))
    return sum(sizes)


def _round(sources: Path, folder: Path, cold: bool) -> Seconds:
    folder.mkdir()
    few = len(list(sources.iterdir())) < FEW
    hashing = f"xargs -0 -n {1 if few else 200} -P {os.cpu_count()} sha256sum"
    files = f"find {sources} -type f -print0"
    commands = {
        "cat": f"{files} | xargs -0 cat",
        "sha256sum": f"{files} | {hashing}",
        "cp": f"cp -r {sources} {folder}/cp",
        "durable": f"cp -r {sources} {folder}/durable && sync -f {folder}"
        f" && find {folder}/durable -type f -print0 | {hashing}",
    }
    seconds = {}
    for name, command in commands.items():
        _settle(sources, cold)
        began = time.perf_counter()
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - began
        if few:  # Many stay to the end: a file system is slow after mass deletions.
            shutil.rmtree(folder / name, ignore_errors=True)
    _settle(sources, cold)
    seconds |= _in_a_process(sources, folder / "box")
    if few:
        shutil.rmtree(folder)
    return seconds


def _settle(sources: Path, cold: bool) -> None:
    """Let no one pay for another's dirty pages, and have the sources where they should be."""
    os.sync()
    for path in sources.iterdir():
        with path.open("rb", buffering=0) as file:
            if cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(BLOCK):
                    pass
    time.sleep(SETTLE_S)


def _in_a_process(sources: Path, root: Path, take: str = "twice") -> Seconds:
    listing = sources.with_suffix(".json")
    done = subprocess.run(
        [sys.executable, __file__, "--take-in", str(listing), str(root), take],
        check=True,
        stdout=subprocess.PIPE,
    )
    return dict(json.loads(done.stdout))


def _take_in(listing: str, root: str, take: str) -> None:
    """The process that imports, once or twice; tells seconds and peak megabytes."""
    objects = [
        Incoming(digest, size, partial(_open, path))
        for path, digest, size in json.loads(Path(listing).read_text())
    ]
    store = Store(Path(root))
    store.initialise()
    told = {"import": _timed(store, objects)}
    if take == "twice":
        told["again"] = _timed(Store(Path(root), boot="another"), objects)
    told["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE
    print(json.dumps(told))


def _open(path: str) -> BinaryIO:
    return Path(path).open("rb", buffering=0)


def _timed(store: Store, objects: list[Incoming]) -> float:
    counts: list[int] = []
    began = time.perf_counter()
    import_all(store, objects, counts.append)
    seconds = time.perf_counter() - began
    assert sum(counts) == sum(one.size for one in objects)
    return seconds


def _space(sources: Path, root: Path) -> int:
    """The most bytes that the box took while an import ran."""
    most, ended = [0], threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
            most[0] = max(most[0], _taken(root))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        _in_a_process(sources, root, "once")
    finally:
        ended.set()
        looking.join()
    return most[0]


def _taken(folder: Path) -> int:
    found = subprocess.run(
        ["du", "-s", "-B1", str(folder)], capture_output=True, text=True, check=False
    )
    return int(found.stdout.split()[0]) if found.stdout else 0


def _row(name: str, total: int, rounds: list[Seconds]) -> str:
    def rate(*names: str) -> str:
        slowest = (max(one[name] for name in names) for one in rounds)
        return f"{total / statistics.median(slowest) / MEGABYTE:.0f}"

    def ratio(*names: str) -> str:
        ratios = (max(one[name] for name in names) / one["import"] for one in rounds)
        return f"{statistics.median(ratios):.2f}"

    limits = ("cat", "sha256sum", "cp")
    cells = [
        *map(rate, limits),
        *(rate(*limits), rate("import"), ratio(*limits)),
        *(rate("durable"), ratio("durable"), rate("again")),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
