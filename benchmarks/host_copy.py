"""Bringing blobs to another host: our way (rsync over ssh) against `scp` of the same bytes.

    python benchmarks/host_copy.py [--size 1] [--files 16] [--folder DIR] [--rounds 3]

A real sshd on loopback, so both are limited by ssh's cipher and by the two processors that either
end uses; a network is slower than that. The ratio is scp's time by ours: 1.00 is as fast as scp.
`again` copies the same once more (nothing is missing); `half` goes on with files of which half is
there. Times are the best of all rounds, in which the rows take turns; afterwards every byte is
compared.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

sys.path.insert(0, str(Path(__file__).parents[1] / "installer"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from aibox.box.remote import Login, Remote
from ssh_server import REASON, ssh_server

GIGABYTE = 10**9
BLOCK = 1 << 20


def main() -> None:
    arguments = _arguments()
    if REASON:
        sys.exit(REASON)
    folder = Path(mkdtemp(prefix="aibox-copy-", dir=arguments.folder))
    try:
        names = _write(folder / "from", arguments.files, int(arguments.size * GIGABYTE))
        with ssh_server(folder / "server") as server:
            print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}")
            _measure(_Copy(folder, names, server.login), arguments.rounds)
    finally:
        shutil.rmtree(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=float, default=1, help="gigabytes in all (default 1)")
    parser.add_argument("--files", type=int, default=16, help="of equal size (default 16)")
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


def _write(folder: Path, files: int, size: int) -> list[str]:
    folder.mkdir()
    for number in range(files):
        with (folder / str(number)).open("wb") as file:
            for _ in range(size // files // BLOCK):
                file.write(os.urandom(BLOCK))
    return [str(number) for number in range(files)]


class _Copy:
    """The same files, brought in several ways."""

    def __init__(self, folder: Path, names: list[str], login: Login) -> None:
        self.source, self.names = folder / "from", names
        self.ours, self.peer, self.lists = folder / "ours", folder / "peer", folder / "lists"
        self.lists.mkdir()
        self.login, self._remote = login, Remote(login)

    def by_us(self) -> None:
        self._remote.copy(
            self.source,
            self.names,
            str(self.ours),
            on_line=lambda _: None,
            on_tick=lambda: None,
            lists=self.lists,
        )

    def by_scp(self) -> None:
        login = self.login
        options = [f"UserKnownHostsFile={login.known_hosts}", "BatchMode=yes"]
        command = ["scp", "-q", "-P", str(login.port), "-i", login.key_file]
        command += [word for option in options for word in ("-o", option)]
        files = [str(self.source / name) for name in self.names]
        subprocess.run([*command, *files, f"{login.user}@127.0.0.1:{self.peer}"], check=True)

    def emptied(self) -> None:
        for folder in (self.ours, self.peer):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()

    def halved(self) -> None:
        for name in self.names:
            os.truncate(self.ours / name, (self.source / name).stat().st_size // 2)

    def require_equal(self) -> None:
        _, differ, lacking = filecmp.cmpfiles(self.source, self.ours, self.names, shallow=False)
        assert not differ and not lacking


def _measure(copy: _Copy, rounds: int) -> None:
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        copy.emptied()
        for name, prepare, act in (
            ("scp", lambda: None, copy.by_scp),
            ("ours", lambda: None, copy.by_us),
            ("again", lambda: None, copy.by_us),
            ("half", copy.halved, copy.by_us),
        ):
            prepare()
            os.sync()
            seconds.setdefault(name, []).append(_timed(act))
        copy.require_equal()
    size = sum((copy.source / name).stat().st_size for name in copy.names)
    best = {name: min(found) for name, found in seconds.items()}
    print(f"{'what':8} {'seconds':>8} {'MB/s':>7} ratio")
    for name, taken in best.items():
        print(f"{name:8} {taken:8.2f} {size / taken / 10**6:7.0f} {best['scp'] / taken:5.2f}")


def _timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
