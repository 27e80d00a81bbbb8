"""A Docker that was on a server before the box is left alone, with what runs in it.

How one comes to a server that has none, and goes: the scenario in tests/roles/molecule.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import package_root, systemd_host
from .journey import wait_until
from .package_root import lock, resolve
from .role_plays import Played, Stage
from .systemd_host import DOCKER, Server, docker

WHY_NOT = package_root.why_not() or systemd_host.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

WANTED = ("docker.io", "docker-cli", "docker-compose")
BOX = "/var/lib/aibox"
SOURCE = f"{BOX}/gens/1/tree/packages/runtime"
STATE = f"{BOX}/provision"
CREATE = ("offline_repo.create", "container_runtime.create", "offline_repo.remove")
# An image made on the spot: a shell and what it needs.
IMAGE = """
cd "$(mktemp -d)"
for path in /bin/sh /bin/sleep $(ldd /bin/sh /bin/sleep | grep -o '/[^ ]*' | grep -v ':$'); do
    mkdir -p ".$(dirname "$path")"
    cp --dereference "$path" ".$path"
done
tar -c . | docker import - small
"""
SELLS = "/bin/sh -c 'while :; do sleep 9; done'"


@dataclass(frozen=True)
class Site:
    """A server that no network reaches, with the repository of the bundle on its disk."""

    server: Server
    stage: Stage
    report: Path

    def given(self, **more: object) -> dict[str, object]:
        names = {
            "offline_repo_state": STATE,
            "offline_repo_name": "runtime",
            "offline_repo_source": SOURCE,
            "offline_repo_suite": "trixie",
            "container_runtime_state": STATE,
            "container_runtime_repository": "runtime",
            "container_runtime_report": self.report,
        }
        return {**names, **more}

    def plays(self, *entries: str, **more: object) -> Played:
        return self.stage.plays(*entries, given=self.given(**more))

    def shell(self, script: str) -> str:
        words = ["docker", "exec", self.server.id, "sh", "-euc", script]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout.strip()

    def findings(self) -> dict[str, dict[str, str]]:
        return {one["check"]: one for one in json.loads(self.report.read_text())}

    def packages(self) -> str:
        return self.shell("dpkg-query --show --showformat='${Package} ${Status} ${Version}\\n'")

    def held(self) -> list[str]:
        return self.shell("apt-mark showhold").split()


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signed repository, made of the distribution's packages as the builder makes it."""
    locked = lock(tmp_path_factory.mktemp("packages"), resolve("debian-13", *WANTED))
    folder = tmp_path_factory.mktemp("carried") / "runtime"
    locked.made.write(folder, locked.file)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A network that leads nowhere."""
    name = f"aibox-role-{uuid.uuid4().hex[:8]}"
    with systemd_host.daemon(tmp_path_factory.mktemp("daemon")):
        docker("network", "create", "--internal", name)
        try:
            yield name
        finally:
            docker("network", "rm", name)


@pytest.fixture(scope="module")
def occupied(
    tmp_path_factory: pytest.TempPathFactory, network: str, carried: Path
) -> Iterator[Site]:
    """A server with a Docker of its owner's, and a container in it."""
    folder = tmp_path_factory.mktemp("occupied")
    options = ("--network", network, "--volume", "/var/lib/docker")
    with systemd_host.server(folder, packages=DOCKER, options=options) as server:
        server.root("mkdir", "--mode", "700", "--parents", str(Path(SOURCE).parent))
        docker("cp", str(carried), f"{server.id}:{SOURCE}")
        (folder / "stage").mkdir()
        made = Site(server, Stage(server, folder / "stage"), folder / "report.json")
        made.shell(IMAGE)
        made.shell(f"docker run --detach --network none --name shop small {SELLS}")
        yield made


def test_a_docker_that_was_there_is_left_alone(occupied: Site) -> None:
    def state() -> tuple[str, ...]:
        shop = occupied.shell("docker inspect --format '{{.Id}} {{.State.StartedAt}}' shop")
        return shop, occupied.packages(), *occupied.held()

    engine = "systemctl show --property MainPID docker.service"
    before, pid = state(), occupied.shell(engine)

    came = occupied.plays(*CREATE)
    assert came.changed == []
    assert occupied.findings()["docker settings"]["found"] == "left alone"
    assert occupied.findings()["other containers"]["found"] == "shop"

    wanted = {"container_runtime_adopt": True}
    assert occupied.plays(*CREATE, **wanted).changed == []
    warning = occupied.findings()["docker settings"]
    assert warning["status"] == "warn"
    assert warning["fix"].endswith("docker stop shop")
    features = {"features": {"containerd-snapshotter": False}}
    insists = {"container_runtime_settings": features, "container_runtime_required": True}
    assert occupied.plays("container_runtime.settings", **insists).complaint.endswith("stop shop")
    assert (state(), occupied.shell(engine)) == (before, pid)
    assert occupied.shell("ls /etc/docker/daemon.json || :") == ""

    occupied.shell("mkdir -p /etc/docker; echo '{\"live-restore\": ' > /etc/docker/daemon.json")
    broken = occupied.plays("container_runtime.settings", **insists)
    assert "is not JSON" in broken.complaint
    occupied.shell("echo '{\"live-restore\": true}' > /etc/docker/daemon.json")
    occupied.shell("kill -HUP $(systemctl show --property MainPID --value docker)")
    live = "docker info --format '{{.LiveRestoreEnabled}}'"
    wait_until(lambda: occupied.shell(live) == "true", 20, "live-restore")

    # Now a restart of the engine ends nothing.
    assert occupied.plays("container_runtime.settings", **insists).changed
    assert (state(), occupied.shell(engine) == pid) == (before, False)
    merged = json.loads(occupied.shell("cat /etc/docker/daemon.json"))
    assert merged == {"live-restore": True, **features}

    gone = occupied.plays("container_runtime.remove", container_runtime_remove_data=True)
    assert gone.stats.succeeded, gone.complaint
    assert json.loads(occupied.shell("cat /etc/docker/daemon.json")) == {"live-restore": True}
    assert state() == before
    assert occupied.shell(f"ls -A {STATE}") == ""
