"""A bare Debian 13 server without a network becomes a box of containers, and a bare server again.

Real: the server's systemd, Docker and Compose from Debian's packages, Caddy, the application, and
vLLM on the CPU with a Llama whose weights were set by hand. A double: Qdrant's server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from . import registry_host, service_images
from .journey import Done, listen, wait_until
from .server_project import Packager, packager
from .systemd_host import Server, daemon, docker, server, why_not

REASON = why_not() or registry_host.why_not() or service_images.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

MEDIUM, BOX = "/media/usb", "/var/lib/aibox"
QUESTION = "How do I roll back a failed upgrade?"
SERVICES = ("gateway", "web", "ingest", "qdrant", "chat")
# What an installed system has, and what the box looks for.
# A Docker within Docker may not change how its containers' interfaces speak IPv6.
NESTED = """
mkdir -p /etc/systemd/system/docker.service.d
printf '[Service]\\nEnvironment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1\\n' \\
    >/etc/systemd/system/docker.service.d/nested.conf
"""
SYSTEM = ("iproute2", "kmod", "nftables", "curl")


@dataclass(frozen=True)
class Operator:
    """Root on the server."""

    machine: Server

    def types(self, *words: str, code: int = 0) -> Done:
        """The box's own command line, once there is one."""
        return self.runs(f"{BOX}/bin/aibox", *words, code=code)

    def runs(self, *command: str, code: int = 0) -> Done:
        done = self.tries(*command)
        assert done.code == code, f"{command} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def tries(self, *command: str) -> Done:
        words = ["docker", "exec", "--env", "HOME=/root", self.machine.id, *command]
        return listen(words, Path("/"), dict(os.environ))

    def installs(self, bundle: str = "box", *options: str, code: int = 0) -> Done:
        medium = f"{MEDIUM}/{bundle}"
        trust = ("--root", f"{MEDIUM}/1.root.json")
        words = ("install", "--profile", "cpu", "--bundle", medium, *trust, "--yes", *options)
        return self.runs("sh", f"{medium}/aibox", *words, code=code)

    def asks(self, path: str, *more: str) -> tuple[int, str]:
        """Status and body of a request at the gateway, by the name of the box."""
        words = ["curl", "--silent", "--show-error", "--max-time", "60", *more]
        words += ["--cacert", f"{BOX}/tls/ca.pem", "--write-out", "\\n%{http_code}"]
        done = self.runs(*words, f"https://localhost{path}")
        body, _, status = done.out.rpartition("\n")
        return int(status), body

    def containers(self) -> dict[str, str]:
        """The ids of the running containers of the box, by service."""
        shape = '{{.Label "com.docker.compose.service"}} {{.ID}}'
        listed = self.runs("docker", "ps", "--no-trunc", "--format", shape).out
        return dict(line.split() for line in listed.splitlines())

    def status(self) -> Any:
        return self.types("status", "--json").json


@pytest.fixture(scope="module")
def supplier(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packager]:
    folder = tmp_path_factory.mktemp("supplier")
    with daemon(folder), packager(folder) as someone:
        yield someone


@pytest.fixture(scope="module")
def media(supplier: Packager) -> Iterator[Path]:
    """A medium with the bundle and the first root of its maker."""
    stick = Path(mkdtemp(prefix="aibox-medium-"))
    supplier.builds(stick / "box")
    shutil.copy(supplier.keys / "1.root.json", stick)
    yield stick
    shutil.rmtree(stick)


@pytest.fixture(scope="module")
def network() -> Iterator[str]:
    """A network with no way out of it."""
    name = f"aibox-test-{os.getpid()}"
    docker("network", "create", "--internal", name)
    yield name
    docker("network", "rm", name)


@pytest.fixture(scope="module")
def operator(
    media: Path, network: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("server")
    options = (
        *("--network", network, "--volume", f"{media}:{MEDIUM}:ro"),
        *("--volume", "/var/lib/docker", "--volume", BOX),
    )
    with server(folder, packages=SYSTEM, options=options) as machine:
        machine.root("sh", "-c", NESTED)
        yield Operator(machine)


@pytest.fixture(scope="module")
def installed(operator: Operator) -> Done:
    return operator.installs()


def test_a_bare_server_answers_from_the_medium_alone(operator: Operator, installed: Done) -> None:
    assert installed.longest_silence < 6
    answer = operator.types("ask", QUESTION, "--json").json
    assert answer["grounded"]
    assert answer["engine"] != "extractive"
    assert answer["citations"][0]["document"] == "upgrade-and-rollback.md"
    status = operator.status()
    assert (status["state"], status["profile"]) == ("running", "cpu")
    assert {service["name"] for service in status["services"]} == set(SERVICES)


def test_it_answers_through_tls_at_the_gateway(operator: Operator, installed: Done) -> None:
    status, page = operator.asks("/")
    assert status == 200
    assert "<html" in page
    body = json.dumps({"question": QUESTION})
    status, text = operator.asks(
        "/api/ask", "--header", "Content-Type: application/json", "--data", body
    )
    assert status == 200
    assert json.loads(text)["citations"]


@pytest.mark.parametrize(
    "path",
    [
        *("/metrics", "/docs", "/openapi.json", "/invocations", "/tokenize", "/v1/completions"),
        *("/v1/embeddings", "/pause", "/sleep", "/v1/load_lora_adapter", "/collections", "/..%2f"),
    ],
)
def test_what_must_be_closed_is_closed(operator: Operator, installed: Done, path: str) -> None:
    for method in ("GET", "POST"):
        assert operator.asks(path, "--request", method)[0] in (404, 405), method


def test_the_engine_and_the_vectors_have_no_port(operator: Operator, installed: Done) -> None:
    listening = operator.runs("ss", "-Htln").out
    ports = {line.split()[3].rpartition(":")[2] for line in listening.splitlines()}
    assert "443" in ports
    assert not ports & {"8000", "6333", "8642"}


def test_a_second_run_changes_nothing(operator: Operator, installed: Done) -> None:
    before = operator.containers()
    begun = time.monotonic()
    again = operator.installs()
    assert "already installed" in again.err + again.out
    assert operator.containers() == before
    print(f"a run that changes nothing: {time.monotonic() - begun:.1f} s")


def test_a_reload_of_systemd_harms_nothing(operator: Operator, installed: Done) -> None:
    before = operator.containers()
    operator.runs("systemctl", "daemon-reload")
    assert operator.containers() == before
    assert operator.asks("/healthz")[0] == 200


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back(operator: Operator, installed: Done, service: str) -> None:
    operator.runs("docker", "kill", operator.containers()[service])
    wait_until(lambda: service in operator.containers(), 60, f"{service} again")
    wait_until(lambda: operator.tries(f"{BOX}/bin/aibox", "health").code == 0, 240, "health")


def test_after_a_reboot_it_answers_by_itself(operator: Operator, installed: Done) -> None:
    operator.machine.reboots()
    begun = time.monotonic()
    asks = (f"{BOX}/bin/aibox", "ask", QUESTION, "--json")
    wait_until(lambda: operator.tries(*asks).code == 0, 300, "an answer after the boot")
    print(f"from the boot to the first answer: {time.monotonic() - begun:.1f} s")


def test_another_tuning_value_restarts_only_who_reads_it(
    supplier: Packager, media: Path, operator: Operator, installed: Done
) -> None:
    supplier.changes(r"^top_k = 6", "top_k = 5")
    supplier.builds(media / "tuned")
    before = operator.containers()
    operator.types("upgrade", "--bundle", f"{MEDIUM}/tuned", "--yes")
    after = operator.containers()
    assert {name for name in SERVICES if before[name] != after[name]} == {"web"}


def test_rollback_by_hand_serves_the_earlier_release(operator: Operator, installed: Done) -> None:
    operator.types("rollback")
    assert operator.status()["generation"] == 1
    assert operator.types("ask", QUESTION, "--json").json["grounded"]


def test_the_server_is_given_back(operator: Operator, installed: Done) -> None:
    operator.types("uninstall", "--purge", "--yes")
    left = operator.runs("sh", "-c", "ls /etc/systemd/system | grep aibox || true").out
    assert left == ""
    packages = operator.runs("dpkg-query", "--show", "--showformat", "${Package}\n").out
    assert not {"docker.io", "docker-cli", "docker-compose"} & set(packages.split())
    assert "aibox" not in operator.runs("cat", "/etc/passwd").out
    assert operator.runs("sh", "-c", f"ls -A {BOX}").out == ""
    done = subprocess.run(["docker", "exec", operator.machine.id, "test", "-e", "/usr/bin/docker"])
    assert done.returncode != 0
