"""Checking a bundle against `cat > /dev/null` and parallel hashing of the same files.

    python benchmarks/bundle_verify.py [--size 2] [--files 20000] [--folder DIR] [--rounds 3]

Two bundles: one object of some gigabytes in chunks of 256 MiB, and many small files. Reading and
hashing both limit a machine: the limit is the time of `cat` or of the faster one of `sha256sum` and
`openssl dgst` (which uses the processor's instructions for SHA where `sha256sum` does not),
whichever is longer. The ratio is the limit's time by that of the row: 1.00 is as fast as the limit.
`cold` drops the files from the page cache before every step (a virtual disk may still have them in
its host's); `warm` reads them before. The check runs in a process of its own, which gives the peak
of its memory. Times are the best of all rounds, in which the rows take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parents[1] / "installer"))

from aibox.bundle import index as indexes
from aibox.bundle.checking import check_content
from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.bundle.writer import BundleWriter, Source
from aibox.pins import Blob

GIGABYTE = 10**9
BLOCK = 1 << 20
SMALL_BYTES = 40_000


def main() -> None:
    arguments = _arguments()
    if arguments.check is not None:
        _check(arguments.check)
        return
    folder = Path(mkdtemp(prefix="aibox-verify-", dir=arguments.folder))
    try:
        print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(f"{'files':>7} {'GB':>5} {'cache':5}  {'what':26} {'seconds':>8} {'MB/s':>7} ratio")
        size = int(arguments.size * GIGABYTE)
        _measure(_bundle(folder / "large", [size]), arguments.rounds)
        _measure(_bundle(folder / "small", _small_sizes(arguments.files)), arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=2, help="gigabytes in chunks (default 2)")
    parser.add_argument("--files", type=int, default=20_000, help="small files (default 20000)")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", type=Path, default=None, help=argparse.SUPPRESS)
    return parser.parse_args()


def _small_sizes(count: int) -> list[int]:
    """Sizes from 1 kB on, every other doubled: most are small, and the mean is `SMALL_BYTES`."""
    return [1000 + (number * 7919) % (2 * (SMALL_BYTES - 1000)) for number in range(count)]


def _bundle(folder: Path, sizes: Sequence[int]) -> Path:
    sources = folder.with_name(folder.name + ".sources")
    sources.mkdir()
    objects = [_write(sources / str(number), number, size) for number, size in enumerate(sizes)]
    with BundleWriter(folder) as writer:
        index = writer.add_bytes(indexes.dump(indexes.make(writer.add_objects(objects))))
        writer.finish({"bundle.json": index.model_dump_json().encode()}, shared={index.sha256})
    shutil.rmtree(sources)
    return folder


def _write(path: Path, number: int, size: int) -> Source:
    """A file of bytes that no file system can shorten."""
    state, block = hashlib.sha256(), os.urandom(min(BLOCK, size))
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            chunk = (start.to_bytes(8, "big") + number.to_bytes(8, "big") + block[16:])[
                : size - start
            ]
            state.update(chunk)
            file.write(chunk)
    return Source(path, state.hexdigest(), size)


def _measure(bundle: Path, rounds: int) -> None:
    files = sorted((bundle / BLOBS).iterdir())
    size = sum(path.stat().st_size for path in files)
    names = b"\0".join(os.fsencode(path) for path in files)
    cores = os.cpu_count() or 1
    each = max(1, min(64, len(files) // (4 * cores)))
    parallel = ("xargs", "-0", "-P", str(cores), "-n", str(each))
    steps: dict[str, Callable[[], float]] = {
        "cat": lambda: _timed("xargs", "-0", "cat", names=names),
        "sha256sum": lambda: _timed(*parallel, "sha256sum", names=names),
        "openssl": lambda: _timed(*parallel, "openssl", "dgst", "-sha256", names=names),
        "check": lambda: _checked(bundle),
    }
    for cache, settle in (("warm", _warm), ("cold", _drop)):
        seconds: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                settle(files)
                seconds[name].append(step())
        best = {name: min(found) for name, found in seconds.items()}
        limit = max(best["cat"], min(best["sha256sum"], best["openssl"]))
        for name, taken in best.items():
            print(
                f"{len(files):7} {size / GIGABYTE:5.2f} {cache:5}  {name:26} {taken:8.3f}"
                f" {size / taken / 10**6:7.0f} {limit / taken:5.2f}"
            )
    print(f"{'':21} peak of memory of the check: {_peak:.0f} MB")


_peak = 0.0


def _checked(bundle: Path) -> float:
    """Seconds of the check alone, in a fresh process."""
    global _peak
    done = subprocess.run(
        [sys.executable, __file__, "--check", str(bundle)], check=True, stdout=subprocess.PIPE
    )
    found = json.loads(done.stdout)
    assert found["ok"]
    _peak = found["peak"]
    return float(found["seconds"])


def _check(bundle: Path) -> None:
    with Media.open([bundle]) as media:
        blob = Blob.model_validate_json(media.head["bundle.json"])
        began = time.perf_counter()
        index = indexes.parse(media.read_blob(blob, 1 << 30))
        found = check_content(media, {f"{BLOBS}/{blob.sha256}": blob}, index, report=lambda _: None)
        seconds = time.perf_counter() - began
    print(json.dumps({"ok": found.ok, "seconds": seconds, "peak": _peak_megabytes()}))


def _peak_megabytes() -> float:
    """Of this process alone: `ru_maxrss` starts with that of whoever started it."""
    found = re.search(r"VmHWM:\s+([0-9]+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024 / 10**6


def _timed(*command: str, names: bytes) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, input=names, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _warm(files: Sequence[Path]) -> None:
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.read(BLOCK):
                pass


def _drop(files: Sequence[Path]) -> None:
    os.sync()
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
