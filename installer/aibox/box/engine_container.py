"""The engine's own container, where its log is and from where alone its metrics can be asked.

Nothing outside of the box's network reaches the engine, so questions are put by a program that is
run in its container: with the rights of its user, and with its own copy of the secret, which no
command line and no environment of this side ever holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aibox.box.compose_file import PROJECT
from aibox.box.docker_engine import Container, Ended
from aibox.errors import Failed, Fault

LOG_BYTES = 8 << 20
"""A start is told in some tens of kilobytes; what comes after are requests."""
FOLDER = "/tmp"  # noqa: S108 (of the container, which nobody shares)
"""A file system in memory of the container, which its user may write to."""
_RESULT, _PID = "aibox-bench.json", f"{FOLDER}/aibox-bench.pid"
_SAY = "import sys,urllib.request as u;o=u.build_opener(u.ProxyHandler({}));"
_METRICS = _SAY + "sys.stdout.write(o.open('http://127.0.0.1:8000/metrics',timeout=20)"
_METRICS += ".read().decode())"
# $0 is the secret's file, $1 the seconds it may take; the rest is the client and its words.
_RUN = (
    f'umask 077; echo $$ >{_PID}; OPENAI_API_KEY=$(cat "$0") || exit; export OPENAI_API_KEY; '
    'export NO_PROXY=127.0.0.1 no_proxy=127.0.0.1; exec timeout "$@"'
)
_END = f"kill -TERM $(cat {_PID})"
_TIMED_OUT = 124
_LAST_WORDS = 400


class Docker(Protocol):
    """What is needed of Docker here (`docker_engine.DockerEngine`)."""

    def containers(self, project: str) -> tuple[Container, ...]:
        """All containers of a Compose project."""

    def log_since(self, container: str, since: float, most: int) -> str:
        """What a container wrote since then, at most so many bytes."""

    def execute(self, container: str, command: Sequence[str], timeout_s: float) -> Ended:
        """Run a program in a container to its end."""


@dataclass(frozen=True, slots=True)
class EngineContainer:
    """The running container of one engine; `secret` is the file with its key, in the container."""

    docker: Docker
    container: Container
    secret: str

    @classmethod
    def find(cls, docker: Docker, service: str, secret: str) -> EngineContainer:
        """The one that runs; raises `Failed` (`engine-not-running`)."""
        for one in docker.containers(PROJECT):
            if one.service == service and one.state == "running":
                return cls(docker, one, f"/run/secrets/{secret}")
        raise Failed(
            "engine-not-running",
            f"the engine ({service}) does not run on this host",
            hint="start the box, and wait until it answers: ./aibox start",
            fault=Fault.HOST,
        )

    def log(self) -> str:
        """What it wrote since it was started last."""
        return self.docker.log_since(self.container.id, self.container.started, LOG_BYTES)

    def metrics(self) -> str:
        """What its `/metrics` answers; raises `Failed` (`engine-no-metrics`)."""
        ended = self.docker.execute(self.container.id, ("python3", "-c", _METRICS), 60)
        if ended.code:
            raise Failed(
                "engine-no-metrics",
                "the engine does not tell its metrics",
                context=ended.error.strip()[-_LAST_WORDS:],
                hint="see whether it runs: ./aibox status",
                fault=Fault.HOST,
            )
        return ended.output

    def measure(self, command: Sequence[str], timeout_s: int) -> str:
        """Run the benchmark client, which writes `result()`; what it wrote there.

        It is ended when this program is interrupted. Raises `Failed` (`bench-too-slow`,
        `bench-failed`).
        """
        words = ("/bin/sh", "-c", _RUN, self.secret, str(timeout_s), *command)
        try:
            ended = self.docker.execute(self.container.id, words, timeout_s + 60)
        except BaseException:
            self.docker.execute(self.container.id, ("/bin/sh", "-c", _END), 60)
            raise
        if ended.code:
            raise _failed(ended, timeout_s)
        return self._take()

    @staticmethod
    def result() -> tuple[str, str]:
        """The folder and the name of the file that a client's result is expected in."""
        return FOLDER, _RESULT

    def _take(self) -> str:
        path = f"{FOLDER}/{_RESULT}"
        told = self.docker.execute(self.container.id, ("cat", path), 60)
        self.docker.execute(self.container.id, ("rm", "-f", path, _PID), 60)
        return told.output


def _failed(ended: Ended, timeout_s: int) -> Failed:
    if ended.code == _TIMED_OUT:
        return Failed(
            "bench-too-slow",
            f"one load was not done after {timeout_s} s",
            hint="ask for less: ./aibox bench --quick",
            fault=Fault.HOST,
        )
    lines = (ended.error.strip() or ended.output.strip()).splitlines()
    return Failed(
        "bench-failed",
        f"the engine's benchmark client ended with exit code {ended.code}",
        context=" | ".join(lines[-3:])[-_LAST_WORDS:],
        hint="see whether the engine answers: ./aibox health",
        fault=Fault.UPSTREAM,
    )
