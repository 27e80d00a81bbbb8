"""From a fresh checkout to the first cited answer: seconds, bytes, the share spent downloading.

Usage: python3 benchmarks/fresh_checkout.py [--runs 3]

Each run clones this repository's HEAD into an empty folder with an empty home, so no cache of
pip and no earlier box helps. Packages come from the configured index only (PIP_INDEX_URL and
proxies are honoured; folders of wheels and pip.conf are not). Time is read off what the commands
themselves say: from a line on standard error on, its activity lasts until another is named.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
QUESTION = "How do I roll back a failed upgrade?"
DOCUMENT = "upgrade-and-rollback.md"

# The first that is found in a line names what goes on from there.
ACTIVITIES = (
    (r"^\./aibox: creating the environment", "create the environment of the command line"),
    (r"^\./aibox: (asking the package index|fetching)", "download"),
    (r"^\./aibox: installing", "install the packages of the command line"),
    (r"^\./aibox: .* is ready|^\[verify\]", "verify, plan, preflight, provision"),
    (r"^\[stage\].*(fetching|packages:)", "download"),
    (r"^\[stage\]", "stage: store, generation, environment of the application"),
    (r"^\[(activate|services)\]", "start the services"),
    (r"^\[gate\]", "gate: golden questions"),
    (r"^\[ask\]", "ask"),
)
# What the launcher, and later the stage, say they fetched, in MB; the latter may say it twice.
DOWNLOADED = (r"is ready: \d+ packages, ([\d.]+) MB", r"packages: ([\d.]+) of \1 MB")


class Stopwatch:
    """Seconds per activity and megabytes fetched, over all commands of one run."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.fetched: dict[str, float] = {}

    def run(self, activity: str, command: list[str], folder: Path, home: Path) -> str:
        """Run a command, book its time, and give its standard output; exits if it fails."""
        began = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=folder,
            env=surroundings(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert process.stdout is not None
            said = ""
            for line in process.stderr:
                said += line
                activity, began = self._book(activity, began, line)
            out = process.stdout.read()
        self.seconds[activity] += time.monotonic() - began
        if process.returncode != 0:
            sys.exit(f"{command} ended with {process.returncode}\n{said}")
        return out

    def _book(self, activity: str, began: float, line: str) -> tuple[str, float]:
        now = time.monotonic()
        self.seconds[activity] += now - began
        for pattern in DOWNLOADED:
            if found := re.search(pattern, line):
                self.fetched[pattern] = float(found[1])
        following = (name for pattern, name in ACTIVITIES if re.search(pattern, line))
        return next(following, activity), now


def surroundings(home: Path) -> dict[str, str]:
    """An empty home, and no packages from anywhere but the index."""
    dropped = ("AIBOX_", "XDG_", "PYTHON", "VIRTUAL_ENV", "PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HOME": str(home), "PIP_CONFIG_FILE": os.devnull}


def one_run(base: Path) -> tuple[Stopwatch, int]:
    """Clone, install, ask, remove. Gives the times and the bytes of the clone."""
    home, checkout, watch = base / "home", base / "checkout", Stopwatch()
    home.mkdir()
    source = f"file://{REPOSITORY}"
    watch.run("clone", ["git", "clone", "--quiet", source, str(checkout)], base, home)
    cloned = sum(path.lstat().st_size for path in checkout.rglob("*"))
    program = str(checkout / "aibox")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    try:
        watch.run("start", [program, "install", "--profile", "local", "--port", port], base, home)
        out = watch.run("ask", [program, "ask", QUESTION, "--json"], base, home)
    finally:
        subprocess.run(
            [program, "uninstall", "--purge", "--yes"],
            env=surroundings(home),
            capture_output=True,
            check=False,
        )
    first = json.loads(out)["citations"][0]["document"]
    assert first.endswith(DOCUMENT), f"the first citation is {first}"
    return watch, cloned


def main() -> None:
    """Print the medians of all runs as a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    runs = []
    for number in range(parser.parse_args().runs):
        base = Path(tempfile.mkdtemp(prefix="fresh-checkout-"))
        try:
            runs.append(one_run(base))
        finally:
            shutil.rmtree(base, ignore_errors=True)
        print(f"run {number + 1}: {sum(runs[-1][0].seconds.values()):.1f} s", file=sys.stderr)
    print_table([watch for watch, _ in runs], runs[0][1])


def print_table(watches: list[Stopwatch], cloned: int) -> None:
    total = statistics.median(sum(watch.seconds.values()) for watch in watches)
    print(f"| step | seconds (median of {len(watches)}) | share |\n|---|---:|---:|")
    for activity in dict.fromkeys(name for watch in watches for name in watch.seconds):
        seconds = statistics.median(watch.seconds[activity] for watch in watches)
        print(f"| {activity} | {seconds:.1f} | {seconds / total:.0%} |")
    print(f"| fresh checkout to first cited answer | {total:.1f} | 100% |\n")
    print(f"checkout {cloned / 1e6:.1f} MB, packages {sum(watches[0].fetched.values()):.1f} MB")


if __name__ == "__main__":
    main()
