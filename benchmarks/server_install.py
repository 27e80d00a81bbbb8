"""Installing a server from a medium: seconds by stage, our own share, a run again, a rollback.

    .venv-test/bin/python benchmarks/server_install.py [--rollbacks 2]

As root on Debian 12, with Docker. The server and the bundle are those of tests/e2e/test_server.py:
a bare Debian 13 with systemd in a container, on a network without a way out; it says what is real
there and what is a double. Time is read off what the command itself says: from a line on, its stage
lasts until a line names another one. Our own are all stages that neither move bytes, nor install
packages, nor load images into Docker, nor start services, nor ask. Prints a table, and JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "installer"), str(ROOT / "tests/support")]

from tests.e2e import server_operator  # noqa: E402
from tests.e2e.journey import wait_until  # noqa: E402
from tests.e2e.server_operator import BOX, QUESTION, Operator  # noqa: E402
from tests.e2e.server_project import Packager, packager  # noqa: E402
from tests.e2e.systemd_host import daemon, docker  # noqa: E402

PROGRAM, CHECKS = "our own: the program of the bundle", "our own: signatures, plan, preflight"
PLAYS, IMAGES = "our own: Ansible beside packages", "our own: checking images"
REST = "our own: the rest"
# The first that is found in a line names what goes on from there.
STAGES = (
    (r"\[program\]", PROGRAM),
    (r"\[(verify|preflight_server)\]", CHECKS),
    (r"\[provision_server\] offline_repo : Job", "packages"),
    (r"\[(prepare_server|provision_server|provision)\]", PLAYS),
    (r"\[stage\]", "bytes into the store"),
    (r"\[images\] .*: check", IMAGES),
    (r"\[images\]", "images into Docker"),
    (r"\[services\]", "start of the services"),
    (r"\[gate\] (waiting|\d+ golden)", "start of the engine"),
    (r"\[gate\]", "questions"),
    (r"\[activate\]|generation|Open:", REST),
)
WEIGHTS_WAIT_S = 300
AGAIN = "max-num-seqs"
"""A value of the profile that only the engine reads."""


@dataclass
class Timeline:
    """Seconds by stage of one command."""

    seconds: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def own(self) -> float:
        return sum(value for stage, value in self.seconds.items() if stage.startswith("our own"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rollbacks", type=int, default=2)
    rollbacks = parser.parse_args().rollbacks
    if server_operator.REASON:
        sys.exit(server_operator.REASON)
    with bare_server() as (operator, supplier, medium):
        load, installed = os.getloadavg()[0], timed(operator, *operator.installation())
        show_stages(installed)
        again = timed(operator, *operator.installation())
        with supplier.changed((rf"^{AGAIN} = \d+", f"{AGAIN} = 3")):
            supplier.builds(medium / "engine")
        operator.runs(*operator.upgrade("engine"))
        back = [roll_back(operator, 1 + number % 2) for number in range(rollbacks)]
        alone = [start_engine(operator) for _ in range(rollbacks)]
    show(installed, again, statistics.median(back), statistics.median(alone), load)


@contextmanager
def bare_server() -> Iterator[tuple[Operator, Packager, Path]]:
    """Root on a server with nothing on it, the maker of bundles, and the medium with one."""
    folder, network = Path(tempfile.mkdtemp(prefix="aibox-benchmark-")), f"aibox-{os.getpid()}"
    medium = folder / "medium"
    medium.mkdir()
    try:
        with daemon(folder), packager(folder) as supplier:
            supplier.builds(medium / "box")
            shutil.copy(supplier.keys / "1.root.json", medium)
            docker("network", "create", "--internal", network)
            data = ("--volume", "/var/lib/docker")
            with server_operator.standing(folder, medium, network, *data) as machine:
                yield Operator(machine), supplier, medium
    finally:
        subprocess.run(["docker", "network", "rm", network], capture_output=True)
        shutil.rmtree(folder)


def timed(operator: Operator, *command: str) -> Timeline:
    """Run a command to its end, and book the time between its lines."""
    found, stage, since = Timeline(), PROGRAM, time.monotonic()
    with subprocess.Popen(
        operator.typed(*command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            now = time.monotonic()
            found.seconds[stage] += now - since
            since = now
            stage = next((name for pattern, name in STAGES if re.match(pattern, line)), stage)
    found.seconds[stage] += time.monotonic() - since
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    return found


def roll_back(operator: Operator, to: int) -> float:
    """Seconds until the engine of that generation answers; the command is waited for."""
    before, begun = operator.status()["release"], time.monotonic()

    def answered() -> bool:
        done = operator.tries(f"{BOX}/bin/aibox", "ask", QUESTION, "--json")
        found = done.json if done.code == 0 else {}
        return found.get("release") not in (None, before) and not found.get("degraded")

    with subprocess.Popen(
        operator.typed(f"{BOX}/bin/aibox", "rollback", "--to", str(to)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        wait_until(answered, WEIGHTS_WAIT_S, "an answer after a rollback")
        seconds = time.monotonic() - begun
        assert process.wait() == 0
    return seconds


def start_engine(operator: Operator) -> float:
    """Seconds from the start of the engine's unit to the first word of its model."""
    begun = time.monotonic()
    operator.runs("systemctl", "restart", "aibox@chat")

    def speaks() -> bool:
        chat = operator.containers().get("chat")
        asks = ("docker", "exec", str(chat), "python3", "/box/ask.py")
        return chat is not None and operator.tries(*asks).code == 0

    wait_until(speaks, WEIGHTS_WAIT_S, "a word of the engine")
    return time.monotonic() - begun


def show_stages(installed: Timeline) -> None:
    print("| stage of the installation | seconds | share |\n|---|---:|---:|")
    for stage, seconds in installed.seconds.items():
        print(f"| {stage} | {seconds:.1f} | {seconds / installed.total:.0%} |")
    print(f"| all of it | {installed.total:.1f} | 100% |")
    print(
        f"| our own | {installed.own:.1f} | {installed.own / installed.total:.0%} |\n", flush=True
    )


def show(installed: Timeline, again: Timeline, back: float, alone: float, load: float) -> None:
    print("| what | seconds |\n|---|---:|")
    print(f"| the same again, which changes nothing | {again.total:.1f} |")
    print(f"| rollback to the first answer of the earlier engine | {back:.1f} |")
    print(f"| start of that engine alone, to its first word | {alone:.1f} |\n")
    told = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "load": round(load, 1),
        "install": {stage: round(value, 2) for stage, value in installed.seconds.items()},
        "again": {stage: round(value, 2) for stage, value in again.seconds.items()},
        "rollback_to_first_answer": round(back, 2),
        "engine_start": round(alone, 2),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
