"""A bare Debian 13 server without a network becomes a box of containers, and a bare server again.

Real: the server's systemd, Docker and Compose from Debian's packages, Caddy, the application, and
vLLM on the CPU with a Llama whose weights were set by hand. A double: Qdrant's server.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flaky_server import FlakyServer, serving

from .journey import Done, wait_until
from .network_tap import Tap
from .server_operator import BOX, MEDIUM, QUESTION, REASON, SERVICES, Operator, standing
from .server_project import Packager
from .systemd_host import docker

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]


COMPILING = (r"^enforce-eager = true\n", "")
CARRIED = """
[[file]]
name = "compiled-chat"
address = "{address}"
filename = "compiled-chat.tar"
"""


@pytest.fixture(scope="module")
def operator(
    media: Path, network: str, tap: Tap, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("server")
    with standing(folder, media, network, "--volume", "/var/lib/docker") as machine:
        yield Operator(machine)


@pytest.fixture(scope="module")
def installed(operator: Operator) -> Done:
    return operator.installs()


def test_a_bare_server_answers_from_the_medium_alone(operator: Operator, installed: Done) -> None:
    assert installed.longest_silence < 6
    answer = operator.answers()
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


def test_a_second_run_changes_nothing(
    operator: Operator, installed: Done, figure: Callable[[str], None]
) -> None:
    before = operator.containers()
    begun = time.monotonic()
    again = operator.installs()
    assert "already installed" in again.err + again.out
    assert operator.containers() == before
    figure(f"a run that changes nothing: {time.monotonic() - begun:.1f} s")


def test_a_reload_of_systemd_harms_nothing(operator: Operator, installed: Done) -> None:
    before = operator.containers()
    operator.runs("systemctl", "daemon-reload")
    assert operator.containers() == before
    assert operator.asks("/healthz")[0] == 200


def test_the_engine_is_measured_by_its_makers_own_client(
    operator: Operator, installed: Done, figure: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    done = operator.types("bench", "--quick", "--concurrency", "2", "--json")
    assert done.longest_silence < 6
    fresh, shared = done.json["measured"]
    kinds = (fresh["load"]["shape"]["kind"], shared["load"]["shape"]["kind"])
    assert kinds == ("fresh", "shared-prefix")
    for one in (fresh, shared):
        assert (one["completed"], one["failed"]) == (one["load"]["requests"], 0)
        assert one["written_per_s"] > 0
    key = operator.runs("cat", f"{BOX}/secrets/chat-api-key").out.strip()
    assert key
    assert key not in done.out + done.err
    figure(f"bench --quick of one concurrency: {time.monotonic() - begun:.1f} s")


def test_the_start_of_the_engine_is_as_computed(operator: Operator, installed: Done) -> None:
    told = operator.types("calibrate", "--json").json
    rows = {row["what"]: row for row in told["rows"]}
    assert told["predicted"] == ""
    assert rows["memory for contexts, GiB a GPU"]["measured"] == 1.0
    exact = rows["tokens of context, from the memory that was found"]
    assert exact["low"] == exact["high"] == exact["measured"]
    assert "kv_cache_gib" in told["why_not"], "a processor has nothing to freeze"
    assert len(told["throughput"]) == 2
    assert operator.status()["calibration"].startswith("valid")


@pytest.mark.parametrize("service", SERVICES)
def test_a_killed_service_comes_back(operator: Operator, installed: Done, service: str) -> None:
    operator.runs("docker", "kill", operator.containers()[service])
    wait_until(lambda: service in operator.containers(), 60, f"{service} again")
    wait_until(lambda: operator.tries(f"{BOX}/bin/aibox", "health").code == 0, 240, "health")


def test_after_a_reboot_it_answers_by_itself(
    operator: Operator, installed: Done, figure: Callable[[str], None]
) -> None:
    begun = time.monotonic()
    operator.machine.reboots()
    asks = (f"{BOX}/bin/aibox", "ask", QUESTION, "--json")
    wait_until(lambda: operator.tries(*asks).code == 0, 300, "an answer after the boot")
    figure(f"from the order to reboot to the first answer: {time.monotonic() - begun:.1f} s")


def test_nobody_outside_was_asked_anything(operator: Operator, installed: Done, tap: Tap) -> None:
    """Since before the installation; the last questions show that one would have been heard."""
    assert tap.heard() == []
    rules = operator.runs("nft", "list", "table", "inet", "aibox").out
    assert set(re.findall(r"counter packets (\d+)", rules)) == {"0"}
    operator.tries("curl", "--silent", "--max-time", "2", "http://192.0.2.1/")
    operator.tries("curl", "--silent", "--max-time", "2", "http://registry.example/")
    asked = " ".join(tap.heard())
    assert "protocol 6 to 192.0.2.1 port 80" in asked
    assert re.search(r"protocol 17 to \S+ port 53", asked)


def test_another_tuning_value_restarts_only_who_reads_it(
    tuned: str, operator: Operator, installed: Done
) -> None:
    before = operator.containers()
    operator.types("upgrade", "--bundle", f"{MEDIUM}/{tuned}", "--yes")
    after = operator.containers()
    assert {name for name in SERVICES if before[name] != after[name]} == {"web"}


def test_the_upgrade_was_held_against_the_speed_of_the_release_before(
    tuned: str, operator: Operator, installed: Done
) -> None:
    gate = operator.status()["last_gate"]
    assert gate["passed"]
    assert "tokens/s written" in gate["throughput"]


def test_rollback_by_hand_serves_the_earlier_release(operator: Operator, installed: Done) -> None:
    operator.types("rollback")
    assert operator.status()["generation"] == 1
    assert operator.answers()["grounded"]


@contextmanager
def impatient(operator: Operator, service: str) -> Iterator[None]:
    """The health question of a service has patience for seconds, not for minutes."""
    # Into the file itself: that is what the container has mounted.
    program, kept = f"{BOX}/current/config/{service}.ask.py", "/tmp/ask.py"
    short = "s/^ANSWER_S = .*/ANSWER_S = 4/; s/^STALLED_S = .*/STALLED_S = 12/"
    operator.runs("sh", "-c", f"cp {program} {kept} && sed '{short}' {kept} >{program}")
    try:
        yield
    finally:
        operator.runs("sh", "-c", f"cat {kept} >{program}")


def test_an_engine_that_hangs_is_ended_and_started_anew(
    operator: Operator, installed: Done, figure: Callable[[str], None]
) -> None:
    """Its core stops while its server goes on: Docker's clock notices, its unit starts it."""
    found = operator.runs("sh", "-c", "grep -al 'VLLM::[E]ngineCore' /proc/[0-9]*/cmdline").out
    [core] = re.findall(r"/proc/(\d+)/", found)
    begun = time.monotonic()
    with impatient(operator, "chat"):
        operator.runs("sh", "-c", f"kill -STOP {core}")
        wait_until(lambda: bool(operator.status()["stalls"]), 300, "a note of the engine's end")
        figure(f"an engine that hangs was ended after {time.monotonic() - begun:.1f} s")
    wait_until(lambda: operator.answers()["degraded"] == "", 300, "an answer of the engine")
    figure(f"and answered again after {time.monotonic() - begun:.1f} s")
    [stalled] = operator.status()["stalls"]
    assert (stalled["service"], stalled["times"]) == ("chat", 1)


def test_what_an_engine_compiled_reaches_a_box_that_compiled_nothing(
    operator: Operator, installed: Done, supplier: Packager, media: Path, tmp_path: Path
) -> None:
    """From `aibox compiled` over a pinned file of the next release to an engine that loads it."""
    with supplier.changed(COMPILING):
        supplier.builds(media / "compiling")
    operator.runs(*operator.upgrade("compiling"))
    assert compiled_anew(operator)
    operator.types("compiled", "/root/compiled.tar")
    docker("cp", f"{operator.machine.id}:/root/compiled.tar", str(tmp_path))
    operator.runs("rm", "/root/compiled.tar")
    with serving(FlakyServer()) as shelf:
        address = shelf.put("/compiled.tar", tmp_path / "compiled.tar")
        with supplier.changed(COMPILING, (r"\Z", CARRIED.format(address=address))):
            supplier.builds(media / "carrying")
    operator.types("rollback")
    # As on a box of the same kind, where no engine ever compiled. The one that runs may be writing.
    operator.runs("sh", "-c", f"until rm -rf {BOX}/cache/chat-*; do sleep 1; done")
    done = operator.runs(*operator.upgrade("carrying"))
    assert "what was compiled for chat elsewhere: taken" in done.err
    assert not compiled_anew(operator)
    assert operator.answers()["grounded"]


def compiled_anew(operator: Operator) -> list[str]:
    """The kernels that the language model's engine has compiled since its container started.

    What it says itself is no sign: vLLM 0.32 cannot load on a CPU what it wrote about the model as
    a whole, says so, and puts it together again, out of the kernels that are there.
    """
    started = ("inspect", "--format", "{{.State.StartedAt}}", operator.containers()["chat"])
    since = operator.runs("docker", *started).out.strip()
    kernels = ("find", f"{BOX}/cache", "-path", "*/chat-*", "-name", "*.so")
    assert operator.runs(*kernels).out
    return operator.runs(*kernels, "-newermt", since).out.split()


def test_the_server_is_given_back(operator: Operator, installed: Done) -> None:
    operator.types("uninstall", "--purge", "--yes")
    left = operator.runs("sh", "-c", "ls /etc/systemd/system | grep aibox || true").out
    assert left == ""
    packages = operator.runs("dpkg-query", "--show", "--showformat", "${Package}\n").out
    assert not {"docker.io", "docker-cli", "docker-compose"} & set(packages.split())
    assert "aibox" not in operator.runs("cat", "/etc/passwd").out
    assert operator.runs("ls", "-A", BOX).out == ""
    assert set(operator.runs("ls", "-A", "/root").out.split()) <= {".bashrc", ".profile", ".ssh"}
    done = subprocess.run(["docker", "exec", operator.machine.id, "test", "-e", "/usr/bin/docker"])
    assert done.returncode != 0
