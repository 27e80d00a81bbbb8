"""Import into the store against `cp` plus `sha256sum` of the same bytes.

    python benchmarks/store_import.py [--size 4] [--folder DIR] [--rounds 1]

The peer copies and hashes and promises nothing: when it ends, its copy lies in memory. The
import is durable and was read back from the disk when it ends, so a second peer is shown that
also waits for the disk (`cp`, `sync`, `sha256sum`). Ratios are against the peer of the same round.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parents[1] / "installer"))

from aibox.box.store import Store

GIGABYTE = 10**9
BLOCK = 1 << 20


def main() -> None:
    arguments = _arguments()
    folder = Path(mkdtemp(prefix="aibox-import-", dir=arguments.folder))
    size = int(arguments.size * GIGABYTE)
    try:
        source = folder / "source"
        digest = _write_source(source, size)
        print(f"{size / GIGABYTE:.1f} GB, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
        print(f"{'round':>5}  {'what':28} {'seconds':>8} {'MB/s':>7} {'ratio':>6} {'peak MB':>8}")
        for number in range(1, arguments.rounds + 1):
            _round(number, folder, source, digest, size)
    finally:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=4, help="gigabytes (default 4)")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=1)
    return parser.parse_args()


def _write_source(path: Path, size: int) -> str:
    """A file of bytes that no file system can shorten; its digest."""
    state, block = hashlib.sha256(), os.urandom(BLOCK)
    with path.open("wb") as file:
        for start in range(0, size, BLOCK):
            chunk = (start.to_bytes(8, "big") + block[8:])[: size - start]
            state.update(chunk)
            file.write(chunk)
        os.fsync(file.fileno())
    return state.hexdigest()


def _round(number: int, folder: Path, source: Path, digest: str, size: int) -> None:
    copy, root = folder / "copy", folder / "box"

    def peer(*, durable: bool) -> None:
        _run("cp", str(source), str(copy))
        if durable:
            _run("sync", str(copy))
        _run("sha256sum", str(copy))

    store = Store(root)
    store.initialise()
    steps: dict[str, Callable[[], object]] = {
        "cp + sha256sum": lambda: peer(durable=False),
        "cp + sync + sha256sum": lambda: peer(durable=True),
        "import, durable, read back": lambda: store.import_stream(source, digest, size),
        "import again (cached proof)": lambda: store.import_stream(source, digest, size),
        "import again (hashed anew)": lambda: Store(root, boot="x").import_stream(
            source, digest, size
        ),
    }
    base = 0.0
    for name, step in steps.items():
        _settle()
        began = time.perf_counter()
        step()
        seconds = time.perf_counter() - began
        base = base or seconds
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
        shown = f"{peak:8.0f}" if name.startswith("import") else " " * 8
        rate = size / seconds / 10**6
        print(f"{number:5}  {name:28} {seconds:8.2f} {rate:7.0f} {seconds / base:6.2f} {shown}")
        copy.unlink(missing_ok=True)
    shutil.rmtree(root)


def _settle() -> None:
    """Let no one pay for another's dirty pages."""
    os.sync()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
