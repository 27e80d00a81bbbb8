"""Root on a server of the journeys, and what there is one of: a packager, a medium, a network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from . import registry_host, service_images
from .journey import Done, listen
from .network_tap import Tap, tapped, way_out
from .server_project import Packager, packager
from .systemd_host import Server, daemon, docker, server, why_not

REASON = why_not() or registry_host.why_not() or service_images.why_not()
MEDIUM, BOX = "/media/usb", "/var/lib/aibox"
QUESTION = "How do I roll back a failed upgrade?"
SERVICES = ("gateway", "web", "ingest", "qdrant", "chat")
# What an installed system has, and what the box looks for.
SYSTEM = ("iproute2", "kmod", "nftables", "curl")
# A Docker within Docker may not change how its containers' interfaces speak IPv6.
NESTED = """
mkdir -p /etc/systemd/system/docker.service.d
printf '[Service]\\nEnvironment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1\\n' \\
    >/etc/systemd/system/docker.service.d/nested.conf
systemctl daemon-reload
"""
KILLED = 128 + 9
_PID = "/run/typed.pid"
_PUT_DOWN_PID = ("sh", "-c", f'echo $$ >{_PID}; exec "$@"', "sh")


@dataclass(frozen=True)
class Operator:
    """Root on the server. `settings` are variables of his shell, `mask` is its umask."""

    machine: Server
    settings: tuple[str, ...] = ()
    mask: str = "022"

    def types(self, *words: str, code: int = 0) -> Done:
        """The box's own command line, once there is one."""
        return self.runs(f"{BOX}/bin/aibox", *words, code=code)

    def runs(self, *command: str, code: int = 0) -> Done:
        done = self.tries(*command)
        assert done.code == code, f"{command} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def tries(self, *command: str) -> Done:
        return listen(self.typed(*command), Path("/"), dict(os.environ))

    def installs(self, bundle: str = "box", *options: str, code: int = 0) -> Done:
        return self.runs(*self.installation(bundle), *options, code=code)

    def installation(self, bundle: str = "box") -> tuple[str, ...]:
        """What is typed to install from a bundle on the medium."""
        medium, root = f"{MEDIUM}/{bundle}", f"{MEDIUM}/1.root.json"
        words = ("install", "--profile", "cpu", "--bundle", medium, "--root", root, "--yes")
        return ("sh", f"{medium}/aibox", *words)

    def is_interrupted(
        self, line: str, act: Callable[[], object], *command: str, code: int = KILLED
    ) -> str:
        """Run a command and `act` once, at its first line that matches; what it said to its end."""
        said, acted = "", False
        with subprocess.Popen(
            self.typed(*_PUT_DOWN_PID, *command), stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            for one in process.stderr:
                said += one
                if not acted and re.match(line, one):
                    acted = True
                    act()
        assert acted, f"{command} said nothing like {line}:\n{said}"
        assert process.returncode == code, f"{command} ended with {process.returncode}:\n{said}"
        return said

    def kills(self) -> None:
        """SIGKILL what is being run, and nothing that it started."""
        self.machine.root("sh", "-c", f"kill -KILL $(cat {_PID})")

    def upgrade(self, bundle: str) -> tuple[str, ...]:
        """What is typed to upgrade from a bundle on the medium."""
        return (f"{BOX}/bin/aibox", "upgrade", "--bundle", f"{MEDIUM}/{bundle}", "--yes")

    def asks(self, path: str, *more: str) -> tuple[int, str]:
        """Status and body of a request at the gateway, by the name of the box."""
        words = ["curl", "--silent", "--show-error", "--max-time", "60", *more]
        words += ["--cacert", f"{BOX}/tls/ca.pem", "--write-out", "\\n%{http_code}"]
        done = self.runs(*words, f"https://localhost{path}")
        body, _, status = done.out.rpartition("\n")
        return int(status), body

    def answers(self) -> Any:
        """The answer of the box to the question."""
        return self.types("ask", QUESTION, "--json").json

    def containers(self) -> dict[str, str]:
        """The ids of the running containers of the box, by service."""
        ours, shape = (
            "label=com.docker.compose.project=aibox",
            '{{.Label "com.docker.compose.service"}} {{.ID}}',
        )
        listed = self.runs("docker", "ps", "--no-trunc", "--filter", ours, "--format", shape).out
        return dict(line.split() for line in listed.splitlines())

    def status(self) -> Any:
        return self.types("status", "--json").json

    def typed(self, *command: str) -> list[str]:
        """What this machine runs so that the server runs a command in his shell."""
        variables = [word for one in ("HOME=/root", *self.settings) for word in ("--env", one)]
        shell = ["sh", "-c", f'umask {self.mask}; exec "$@"', "sh"]
        return ["docker", "exec", *variables, self.machine.id, *shell, *command]


@contextmanager
def standing(
    folder: Path, media: Path, network: str, *options: str, packages: tuple[str, ...] = SYSTEM
) -> Iterator[Server]:
    """A server with the medium in it, on a network without a way out, though it knows of none."""
    given = ("--network", network, "--volume", f"{media}:{MEDIUM}:ro", "--volume", BOX, *options)
    with server(folder, packages=packages, options=given) as machine:
        machine.root("sh", "-c", NESTED + way_out(network))
        yield machine


@pytest.fixture(scope="session")
def supplier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packager]:
    folder = tmp_path_factory.mktemp("supplier")
    with daemon(folder), packager(folder) as someone:
        yield someone


@pytest.fixture(scope="session")
def media(supplier: Packager) -> Iterator[Path]:
    """A medium with the bundle and the first root of its maker."""
    stick = Path(mkdtemp(prefix="aibox-medium-"))
    supplier.builds(stick / "box")
    shutil.copy(supplier.keys / "1.root.json", stick)
    yield stick
    shutil.rmtree(stick)


@pytest.fixture(scope="session")
def tuned(supplier: Packager, media: Path) -> str:
    """The name of the next bundle on the medium: another tuning value, and a gate that looks at
    speed; nothing else."""
    gate = 'throughput_policy = "warn"\nthroughput_loss_max_percent = 99\n\\g<0>'
    with supplier.changed((r"^top_k = 6", "top_k = 5"), (r"^question_deadline_s", gate)):
        supplier.builds(media / "tuned")
    return "tuned"


@pytest.fixture(scope="session")
def network(supplier: Packager) -> Iterator[str]:
    """A network with no way out of it."""
    name = f"aibox-test-{os.getpid()}"
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(scope="module")
def tap(network: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tap]:
    """Hears everything that servers send into the network."""
    with tapped(network, tmp_path_factory.mktemp("tap") / "heard") as listening:
        yield listening
