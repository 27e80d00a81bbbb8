"""A bundle of the profile `local`: time to build against packing the same bytes, inspect, delta.

    python benchmarks/bundle_build.py [--rounds 3]

Everything is in the download cache (a first build, which is not counted, sees to that), so that
what is measured is our work: comparing every byte with its digest, judging, writing, making all of
it durable, signing. The peer packs the finished bundle: `tar | zstd -1 -T0`, then `sha256sum`;
it checks nothing and does not wait for the disk.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parents[1] / "installer"))

from aibox.bundle.trust import have, keys
from aibox.bundle.trust.targets import time_text

REPOSITORY = Path(__file__).parents[1]
LAUNCHER = REPOSITORY / "aibox"
APPLICATION = "stacks/rag/app/src/"


def main() -> None:
    arguments = _arguments()
    folder = Path(mkdtemp(prefix="aibox-bundle-build-"))
    try:
        _aibox("trust", "init", str(folder / "keys"))
        _build(folder, "first")
        print(
            f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, medians of {arguments.rounds}"
        )
        _compare(folder, arguments.rounds)
        _inspect(folder, arguments.rounds)
        _delta(folder)
    finally:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _compare(folder: Path, rounds: int) -> None:
    ours = statistics.median(_build(folder, f"round-{number}") for number in range(rounds))
    peers = statistics.median(_pack(folder) for _ in range(rounds))
    size = _bytes(folder / "first")
    print(f"bundle                          {size / 1e6:8.1f} MB, {_files(folder / 'first')} files")
    print(f"build, checked and durable      {ours:8.2f} s")
    print(f"tar | zstd -1, then sha256sum   {peers:8.2f} s   ratio {peers / ours:.2f}")


def _build(folder: Path, name: str, *options: str) -> float:
    before = time.monotonic()
    _aibox(
        *("bundle", "build", "--profile", "local", "--output", str(folder / name)),
        *("--sign", str(folder / "keys"), "--skip-proof", *options),
    )
    return time.monotonic() - before


def _pack(folder: Path) -> float:
    packed = folder / "packed.tar.zst"
    before = time.monotonic()
    with packed.open("wb") as target:
        tar = subprocess.Popen(["tar", "-C", folder, "-c", "first"], stdout=subprocess.PIPE)
        subprocess.run(
            ["zstd", "-q", "-1", "-T0", "-c"], stdin=tar.stdout, stdout=target, check=True
        )
        tar.wait()
    subprocess.run(["sha256sum", packed], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - before


def _inspect(folder: Path, rounds: int) -> None:
    command = [LAUNCHER, "bundle", "inspect", str(folder / "first"), "--json"]
    times = []
    for _ in range(max(rounds, 5)):
        before = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        times.append(time.monotonic() - before)
    print(f"inspect, the whole command      {statistics.median(times):8.2f} s")


def _delta(folder: Path) -> None:
    """As if one file of the application had changed: the box has all but that one."""
    bundle = folder / "first"
    said = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["signed"]["aibox"]
    index = json.loads((bundle / "blobs/sha256" / said["index"]["sha256"]).read_bytes())
    program = json.loads(
        (bundle / "blobs/sha256" / said["program"]["listing"]["sha256"]).read_bytes()
    )
    changed = next(f["sha256"] for f in program["files"] if f["path"].startswith(APPLICATION))
    held = {o["sha256"]: o["size"] for o in index["carried"] if o["sha256"] != changed}
    moment = time_text(datetime.datetime.now(datetime.UTC).replace(microsecond=0))
    holdings = have.Holdings(architecture="x86_64", python="3.11", blobs=held, releases=())
    (folder / "have.json").write_bytes(have.sign(keys.generate("box"), moment, holdings))
    seconds = _build(folder, "delta", "--have", str(folder / "have.json"))
    size, full = _bytes(folder / "delta"), _bytes(bundle)
    print(f"delta of one file of the app    {seconds:8.2f} s   {size} bytes, {size / full:.2%}")


def _aibox(*words: str) -> None:
    subprocess.run([LAUNCHER, *words], check=True, capture_output=True)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


if __name__ == "__main__":
    main()
