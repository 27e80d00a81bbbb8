"""A person at a fresh machine: a clean clone, an empty home, and the commands that they type."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

REPOSITORY = Path(__file__).parents[2]
COMMAND_SECONDS = 600


@dataclass(frozen=True)
class Done:
    """How a command ended, and the longest time it left the person without a word."""

    code: int
    out: str
    err: str
    longest_silence: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Person:
    """Types `./aibox ...` in `checkout`; everything the box keeps is below `home`."""

    checkout: Path
    home: Path
    port: int = field(default_factory=lambda: free_port())

    @property
    def box(self) -> Path:
        return self.home / ".local" / "share" / "aibox"

    def types(self, *words: str, code: int = 0) -> Done:
        """Run one command to its end; anything but the expected exit code is a failure."""
        done = self.tries(*words)
        assert done.code == code, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def tries(self, *words: str) -> Done:
        """Run one command to its end, whatever its exit code."""
        return listen([str(self.checkout / "aibox"), *words], self.checkout, self.surroundings())

    def surroundings(self) -> dict[str, str]:
        """Nothing of this test run's own environment, box or settings reaches the commands."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AIBOX_", "XDG_", "PYTHON", "PYTEST", "VIRTUAL_ENV"))
        }
        folders = kept["PATH"].split(os.pathsep)
        path = [folder for folder in folders if not Path(folder).is_relative_to(REPOSITORY)]
        # A folder of the person's own in which no systemd manager answers: that of the user who
        # runs the tests is left alone.
        own = {"HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home)}
        return {**kept, **own, "PATH": os.pathsep.join(path)}

    def processes(self) -> dict[int, str]:
        """Process ids and command lines of everything that still works in the home folder."""
        return dict(_working_below(self.home))


def listen(command: list[str], folder: Path, surroundings: dict[str, str]) -> Done:
    """Run a command and note when it said something; standard output is read at the end."""
    # A file, because a pipe is full at 64 KiB and then makes the command wait.
    with (
        TemporaryFile("w+") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr is not None
        said, lines, longest = time.monotonic(), [], 0.0
        for line in process.stderr:
            lines.append(line)
            longest, said = max(longest, time.monotonic() - said), time.monotonic()
        code = process.wait(COMMAND_SECONDS)
        output.seek(0)
        out = output.read()
    return Done(code, out, "".join(lines), max(longest, time.monotonic() - said))


def clone(target: Path) -> Path:
    """What `git clone` gives of the commit that is checked out here."""
    # Root may test a checkout that belongs to somebody else.
    owner = ["-c", f"safe.directory={REPOSITORY}", "-c", f"safe.directory={REPOSITORY}/.git"]
    subprocess.run(
        ["git", *owner, "clone", "--quiet", "--no-local", f"file://{REPOSITORY}", target],
        check=True,
    )
    return target


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(check: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


def _working_below(folder: Path) -> Iterator[tuple[int, str]]:
    for process in Path("/proc").glob("[0-9]*"):
        # A process may end while it is being looked at.
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink().is_relative_to(folder):
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                yield int(process.name), words.decode(errors="replace")
