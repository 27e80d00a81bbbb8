"""A box with a small application double under the real supervisor, from the real templates."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import jinja2

from aibox.box import host
from aibox.box.runtime import ServiceStatus
from aibox.box.supervisor import Supervisor

TEMPLATE = Path(__file__).parents[2] / "stacks/process/supervisord.conf.j2"
SERVICES = ("vectors", "ingest", "web")
# Three services of one shape: each notes its start, `web` also listens; told to, it dies at once.
APPLICATION = """\
import json, os, pathlib, socket, sys, time
name = sys.argv[1]
with open(f"data/{name}.starts", "a") as notes:
    notes.write(f"{os.getpid()}\\n")
pathlib.Path(f"data/{name}.environment").write_text(json.dumps(dict(os.environ)))
pathlib.Path(f"data/{name}.files").write_text(" ".join(os.listdir("/proc/self/fd")))
if os.path.exists(f"data/{name}.dies"):
    sys.exit("no document can be read")
for number in range(int(os.environ.get("LINES", "0"))):
    print(f"line {number}: " + "x" * 90)
if name == "web":
    port = int(pathlib.Path("current/config/port").read_text())
    server = socket.create_server(("127.0.0.1", port))
if name == "vectors":
    pathlib.Path("run/vectors.sock").unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind("run/vectors.sock")
while True:
    time.sleep(60)
"""


class SmallBox:
    """A box root with numbered generations. `environments` is a folder with a built one."""

    def __init__(self, root: Path, environments: Path, environment: str) -> None:
        self.root, self.environment = root, environment
        (root / "data").mkdir(parents=True)
        (root / "environments").symlink_to(environments)
        self.port = free_port()
        self.said: list[str] = []
        self.supervisor = Supervisor(root, on_event=self.said.append)

    def generation(self, number: int, *, environment: str = "", **changed: str) -> None:
        """Make a generation and point `current` at it; `changed` maps services to their inputs."""
        folder = self.root / "gens" / str(number)
        application = folder / "tree/app/rag_app"
        application.mkdir(parents=True)
        (application / "__init__.py").touch()
        (application / "__main__.py").write_text(APPLICATION, encoding="utf-8")
        (folder / "config").mkdir()
        (folder / "config/port").write_text(str(self.port))
        inputs = {name: changed.get(name, "as before") for name in SERVICES}
        text = rendered(environment or self.environment, self.port, inputs)
        (folder / "config/supervisord.conf").write_text(text, encoding="utf-8")
        (self.root / "current").unlink(missing_ok=True)
        (self.root / "current").symlink_to(f"gens/{number}")

    def starts(self, name: str) -> list[int]:
        """The process ids a service has had."""
        notes = self.root / "data" / f"{name}.starts"
        return [int(line) for line in notes.read_text().split()] if notes.exists() else []

    def states(self) -> dict[str, ServiceStatus]:
        return {status.name: status for status in self.supervisor.services()}

    def daemon(self) -> int:
        """The process id of supervisord."""
        return int((self.root / "run/supervisord.pid").read_text())

    def has_started(self, vectors: int, ingest: int, web: int) -> bool:
        """Wait until the services have started that often and `web` listens; whether they did.

        supervisord calls a service running after a second; a busy host may need longer.
        """
        wanted = [vectors, ingest, web]
        return wait_until(
            lambda: (
                [len(self.starts(name)) for name in SERVICES] == wanted
                and host.is_answered_by(self.root, self.port)
            )
        )


def rendered(environment: str, port: int, inputs: dict[str, str]) -> str:
    """The real configuration, made quicker: a service counts as running after one second."""
    jinja = jinja2.Environment(
        undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    text = jinja.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        environment=environment,
        services=SERVICES,
        inputs=inputs,
        site={"server": {"host": "127.0.0.1", "port": port}},
    )
    return text.replace("startsecs = 2", "startsecs = 1")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Poll until it holds or the time is over; whether it held."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False
