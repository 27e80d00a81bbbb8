"""The rendered stack with a real Compose and a real Caddy; behind the gateway stands a double.

Compose of Debian 13 starts the services on this machine's Docker, from a box made as the command
line makes it: with its folders, users, secrets and read-only roots.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import shutil
import socket
import ssl
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import pin_examples
import stack_examples
from aibox import prerequisites
from aibox.box.filesystem import Filesystem
from aibox.box.prerequisites import provide, read
from aibox.compose_values import image_tag
from aibox.render import COMPOSE
from aibox.site import Container, Site
from certificates import Authority

from . import service_images
from .journey import wait_until
from .systemd_host import DOCKER, daemon, docker, why_not, with_packages

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.enable_socket,
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

NAME = "box.example.org"
SERVICES = ("gateway", "web", "ingest")
"""Those that are started; a store of vectors would be a double again."""
DOUBLE = Path(__file__).parents[1] / "support" / "upstream_double.py"
# What an engine, a vector store and the application itself serve for others than their users.
CLOSED = [
    *("/metrics", "/v1/metrics", "/docs", "/openapi.json", "/redoc", "/version", "/load", "/ping"),
    *("/health", "/tokenize", "/detokenize", "/pooling", "/classify", "/score", "/rerank"),
    *("/v1/score", "/v1/rerank", "/v2/rerank", "/v1/embeddings", "/v1/completions"),
    *("/v1/responses", "/v1/audio/transcriptions", "/v1/load_lora_adapter", "/invocations"),
    *("/sleep", "/wake_up", "/collective_rpc", "/reset_prefix_cache", "/pause", "/server_info"),
    *("/collections", "/collections/passages/points", "/telemetry", "/dashboard", "/snapshots"),
    *("/config/", "/id/", "/pki/ca/local", "/.well-known/acme-challenge/x", "/debug/pprof/"),
    # Ways to write an open prefix before a closed path.
    *("/api/../metrics", "/static/../metrics", "/api/%2e%2e/metrics", "/api/..%2fmetrics"),
    *("//metrics", "/./metrics", "/metrics/", "/METRICS", "/v1/models/../completions", "/api"),
    *("/v1/chat/completions/x", "/healthz/x", "/staticx", "/index.html"),
]
OPEN = [
    *(("GET", path) for path in ("/", "/static/app.js", "/healthz", "/readyz", "/v1/models")),
    *(("GET", path) for path in ("/v1/models/aibox", "/api/documents", "/api/documents/7/file")),
    *(("POST", path) for path in ("/api/search", "/api/documents", "/v1/chat/completions")),
    ("DELETE", "/api/documents/7"),
]


@dataclasses.dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.body))


@dataclasses.dataclass
class Stack:
    """A box on this machine; `server` holds its Compose."""

    root: Path
    port: int
    project: str
    server: str

    def compose(self, *words: str) -> str:
        file = str(self.root / "current" / COMPOSE)
        chosen = ["docker", "compose", "--project-name", self.project, "--file", file]
        return docker("exec", self.server, *chosen, *words).out

    def up(self) -> None:
        self.compose("up", "--detach", "--no-build", "--pull", "never", "--no-deps", *SERVICES)

    def ids(self) -> dict[str, str]:
        asked = ("ps", "--all", "--quiet", "--no-trunc")
        return {name: self.compose(*asked, name).strip() for name in SERVICES}

    def install(self, number: int, rendered: stack_examples.Rendered) -> None:
        """A generation as staging leaves it, with the double as the application."""
        generation = self.root / "gens" / str(number)
        for path, data in rendered.files.items():
            (generation / path).parent.mkdir(parents=True, exist_ok=True)
            (generation / path).write_bytes(data)
        application = generation / "tree/app/rag_app"
        application.mkdir(parents=True)
        shutil.copy(DOUBLE, application / "__main__.py")
        for name in ("prompts", "documents"):
            (generation / "tree" / name).mkdir()
        provide(Filesystem(), self.root, read(generation))
        new = self.root / "current.new"
        new.symlink_to(f"gens/{number}")
        new.replace(self.root / "current")

    @contextlib.contextmanager
    def connected(self, name: str | None, trusted: Path) -> Iterator[http.client.HTTPConnection]:
        context = ssl.create_default_context(cafile=str(trusted))
        context.check_hostname = name is not None
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as plain,
            context.wrap_socket(plain, server_hostname=name) as safe,
        ):
            connection = http.client.HTTPConnection(name or "127.0.0.1", self.port, timeout=30)
            connection.sock = safe
            with contextlib.closing(connection):
                yield connection

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        name: str | None = "localhost",
        host: str = "",
        trusted: Path | None = None,
        patience_s: float = 10,
    ) -> Answer:
        headers = {"Host": host} if host else {}
        with self.connected(name, trusted or self.root / prerequisites.AUTHORITY) as connection:
            connection.sock.settimeout(patience_s)
            connection.request(method, path, body, headers)
            reply = connection.getresponse()
            known = {key.lower(): value for key, value in reply.getheaders()}
            return Answer(reply.status, known, reply.read())


def site_of(port: int, **more: Any) -> Site:
    return Site(container=Container(address="127.0.0.1", port=port, names=(NAME,), **more))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def release() -> Any:
    """Its images have names that no other test of this machine uses."""
    seed = uuid.uuid4().hex
    images = {
        name: {"platforms": (pin_examples.platform(seed=f"{seed} {name}"),)}
        for name in stack_examples.IMAGES
    }
    text = stack_examples.profile_text("", (*SERVICES, "qdrant"))
    return stack_examples.release(text, **images)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, release: Any) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stacks")
    root, project = folder / "box", f"aibox-stacks-{uuid.uuid4().hex[:8]}"
    root.mkdir()
    with daemon(folder), contextlib.ExitStack() as stacked:
        names = _images(release, folder)
        stacked.callback(docker, "rmi", *names)
        shared = [f"--volume={path}:{path}" for path in ("/run/docker.sock", root)]
        host = with_packages(DOCKER, folder)
        server = docker("run", "--detach", *shared, host, "sleep", "1200").out.strip()
        stacked.callback(docker, "rm", "--force", server)
        made = Stack(root, free_port(), project, server)
        made.install(1, stack_examples.rendered(release, site_of(made.port)))
        stacked.callback(made.compose, "down", "--timeout", "2")
        made.up()
        wait_until(lambda: _answers(made), 60, "an answer through the gateway")
        yield made


def _images(release: Any, folder: Path) -> list[str]:
    """Images of the names that the release has for them."""
    gateway = service_images.gateway(folder)
    context = folder / "python"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {gateway}\nRUN ln -s python3 /usr/bin/python\n")
    python = f"aibox-test-stacks-python:{uuid.uuid4().hex[:8]}"
    docker("build", "--quiet", "--network", "none", "--tag", python, str(context))
    tags = [image_tag(release, name, "x86_64") for name in ("gateway", "web")]
    docker("tag", gateway, tags[0])
    docker("tag", python, tags[1])
    return [*tags, python]


def _answers(stack: Stack) -> bool:
    with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
        return stack.ask("GET", "/healthz").status == 200
    return False


def test_compose_understands_every_service_and_finds_the_files_through_current(
    stack: Stack,
) -> None:
    on_gpus = stack_examples.profile_text(stack_examples.ON_GPUS, extra=stack_examples.HARDWARE)
    full = stack_examples.rendered(stack_examples.release(on_gpus))
    folder = stack.root / "gens" / "whole"
    for path, data in full.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    (stack.root / "whole").symlink_to("gens/whole")
    file = str(stack.root / "whole" / COMPOSE)
    said = docker("exec", stack.server, "docker", "compose", "--file", file, "config").out
    read = yaml.safe_load(said)
    assert set(read["services"]) == set(stack_examples.SERVICES)
    sources = {
        item["source"] for one in read["services"].values() for item in one.get("volumes", [])
    }
    assert str(stack.root / "whole/tree/models/small") in sources
    assert str(stack.root / "data/qdrant") in sources
    (device,) = read["services"]["chat"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["device_ids"]) == (
        "cdi",
        ["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
    )
    secret = read["secrets"]["chat.chat-api-key"]["file"]
    assert secret == str(stack.root / "secrets/chat/chat-api-key")


@pytest.mark.parametrize("path", CLOSED)
def test_a_closed_route_does_not_exist(stack: Stack, path: str) -> None:
    for method in ("GET", "POST"):
        answer = stack.ask(method, path)
        assert (answer.status, b"method" in answer.body) == (404, False)
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(("method", "path"), OPEN)
def test_an_open_route_reaches_the_application(stack: Stack, method: str, path: str) -> None:
    answer = stack.ask(method, path, b"{}" if method == "POST" else None)
    assert answer.status == 200
    assert (answer.json["method"], answer.json["path"]) == (method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in ("/", "/healthz", "/readyz", "/v1/models")),
        *((method, "/v1/chat/completions") for method in ("GET", "DELETE")),
        *((method, "/api/documents") for method in ("OPTIONS", "TRACE", "CONNECT-X")),
    ],
)
def test_an_open_route_is_open_for_its_methods_alone(stack: Stack, method: str, path: str) -> None:
    assert stack.ask(method, path).status in {404, 405, 400}


def test_the_application_sees_who_asked_and_the_name_as_it_was_asked_for(stack: Stack) -> None:
    host = f"{NAME}:{stack.port}"
    answer = stack.ask("GET", "/readyz", name=NAME, host=host)
    seen = answer.json["headers"]
    assert (seen["Host"], seen["X-Forwarded-Proto"]) == (host, "https")
    assert "max-age" in answer.headers["strict-transport-security"]
    answer = stack.ask("GET", "/readyz")
    assert "strict-transport-security" not in answer.headers
    assert not {"server", "via", "x-powered-by"} & set(answer.headers)


def test_other_names_are_refused(stack: Stack) -> None:
    assert stack.ask("GET", "/", host="evil.example").status == 421
    with pytest.raises(ssl.SSLError):
        stack.ask("GET", "/", name="evil.example")
    # Who asks by address names nobody.
    assert stack.ask("GET", "/readyz", name=None, host=f"127.0.0.1:{stack.port}").status == 200


def test_words_are_passed_on_as_they_come(stack: Stack) -> None:
    with stack.connected("localhost", stack.root / prerequisites.AUTHORITY) as connection:
        connection.request("POST", "/api/ask", b"{}")
        reply, times = connection.getresponse(), []
        while line := reply.readline():
            if line.startswith(b"data:"):
                times.append(time.monotonic())
    assert len(times) == 5
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.15


def test_an_answer_whose_reader_leaves_is_ended(stack: Stack) -> None:
    with stack.connected("localhost", stack.root / prerequisites.AUTHORITY) as connection:
        connection.request("POST", "/api/ask", b"{}")
        connection.getresponse().readline()
    wait_until(lambda: stack.ask("GET", "/readyz").json["left"] == 1, 10, "the end of the answer")


def test_bodies_have_limits_and_documents_a_greater_one(stack: Stack) -> None:
    big = bytes(3 * 1024 * 1024)
    assert stack.ask("POST", "/api/documents", big).json["size"] == len(big)
    for path in ("/api/search", "/v1/chat/completions"):
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            assert stack.ask("POST", path, big).status in {413, 503}


def test_plain_http_is_not_served(stack: Stack) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
    plain.request("GET", "/")
    assert plain.getresponse().status == 400


def test_a_container_can_do_what_it_must_and_no_more(stack: Stack) -> None:
    for name, container in stack.ids().items():
        facts = json.loads(docker("inspect", container).out)[0]
        assert facts["HostConfig"]["ReadonlyRootfs"], name
        assert facts["HostConfig"]["CapDrop"] == ["ALL"], name
        assert facts["HostConfig"]["RestartPolicy"]["Name"] in {"no", ""}, name
        networks = facts["NetworkSettings"]["Networks"]
        assert {key.removeprefix(f"{stack.project}_") for key in networks} == (
            {"inside", "outside"} if name == "gateway" else {"inside"}
        )
        status = docker("exec", container, "cat", "/proc/1/status").out
        assert "CapEff:\t0000000000000000" in status
        assert "NoNewPrivs:\t1" in status
        assert checked_code(container, "touch", "/usr/x") != 0


def test_a_secret_is_in_the_hands_of_its_reader_alone(stack: Stack) -> None:
    secret = (stack.root / "secrets" / prerequisites.QDRANT_KEY).read_text()
    ids = stack.ids()
    for name, container in ids.items():
        assert secret.strip() not in docker("inspect", container).out, name
        assert secret.strip() not in docker("top", container, "-eo", "pid,args").out, name
        held = checked_code(container, "cat", f"/run/secrets/{prerequisites.QDRANT_KEY}") == 0
        assert held is (name != "gateway"), name
    file = f"/run/secrets/{prerequisites.QDRANT_KEY}"
    assert docker("exec", ids["web"], "cat", file).out.strip() == secret.strip()
    other = str(prerequisites.USERS["gateway"])
    assert checked_code(ids["web"], "cat", file, user=other) != 0
    for generated in (stack.root / "gens").rglob("*"):
        assert generated.is_dir() or secret.strip().encode() not in generated.read_bytes()


@pytest.mark.parametrize("name", ["gateway", "web"])
def test_the_health_check_asks_and_gets_an_answer(stack: Stack, name: str) -> None:
    container = stack.ids()[name]
    kind, *command = json.loads(docker("inspect", container).out)[0]["Config"]["Healthcheck"][
        "Test"
    ]
    assert kind == "CMD"
    assert checked_code(container, *command) == 0
    if name == "gateway":
        stack.compose("stop", "--timeout", "1", "web")
        assert checked_code(container, "timeout", "3", *command) != 0
        stack.compose("start", "web")
        wait_until(lambda: _answers(stack), 30, "an answer of the application")


def test_a_full_box_says_through_the_gateway_when_to_come_back(stack: Stack) -> None:
    answer = stack.ask("POST", "/api/full", b"{}")
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json["error"]["reference"] == "busy"


def test_while_the_application_is_away_the_gateway_says_when_to_come_back(stack: Stack) -> None:
    stack.compose("stop", "--timeout", "1", "web")
    begun = time.monotonic()
    try:
        # It hopes for the application for a while.
        answer = stack.ask("POST", "/v1/chat/completions", b"{}", patience_s=60)
    finally:
        stack.compose("start", "web")
    assert 15 < time.monotonic() - begun < 45
    assert (answer.status, answer.headers["retry-after"]) == (503, "10")
    told = answer.json["error"]
    assert (told["reference"], told["retry_after_s"]) == ("away", 10)
    wait_until(lambda: _answers(stack), 30, "an answer of the application")


def test_an_answer_in_the_works_ends_before_the_gateway_does(stack: Stack) -> None:
    with stack.connected("localhost", stack.root / prerequisites.AUTHORITY) as connection:
        connection.request("POST", "/api/ask", b"{}")
        reply = connection.getresponse()
        lines = [reply.readline()]
        words = ["docker", "stop", "--time", "30", stack.ids()["gateway"]]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL) as stopping:
            lines += reply.readlines()
            assert stopping.wait(30) == 0
    assert [line for line in lines if line.startswith(b"data:")] == [
        b"data: %d\n" % number for number in range(5)
    ]
    stack.compose("start", "gateway")
    wait_until(lambda: _answers(stack), 30, "an answer of the gateway")


def test_no_container_finds_a_way_out(stack: Stack, beyond: str) -> None:
    for name, container in stack.ids().items():
        assert checked_code(container, "python3", "-c", reach(beyond)) != 0, name
        asked = "import socket as s; s.getaddrinfo('example.org', 443)"
        assert checked_code(container, "timeout", "5", "python3", "-c", asked) != 0, name


@pytest.fixture(scope="module")
def beyond(stack: Stack, release: Any) -> str:
    """A machine beyond this one that any other container reaches: whoever resolves names."""
    lines = Path("/etc/resolv.conf").read_text().splitlines()
    address = next(line.split()[1] for line in lines if line.startswith("nameserver"))
    image = image_tag(release, "gateway", "x86_64")
    control = ["docker", "run", "--rm", "--entrypoint", "python3", image, "-c", reach(address)]
    if subprocess.run(control, capture_output=True, check=False).returncode != 0:
        pytest.skip(f"no container of this machine reaches {address}, so nothing can be shown")
    return address


def reach(address: str) -> str:
    return f"import socket as s; s.create_connection(({address!r}, 53), 3)"


def checked_code(container: str, *words: str, user: str = "") -> int:
    chosen = ["--user", f"{user}:{user}"] if user else []
    command = ["docker", "exec", *chosen, container, *words]
    return subprocess.run(command, capture_output=True, check=False).returncode


def test_what_did_not_change_keeps_its_container(stack: Stack, release: Any) -> None:
    before = stack.ids()
    stack.install(2, stack_examples.rendered(release, site_of(stack.port)))
    stack.up()
    assert stack.ids() == before
    site = site_of(stack.port, memory_mib={"web": 300})
    stack.install(3, stack_examples.rendered(release, site))
    stack.up()
    after = stack.ids()
    assert {name for name in after if after[name] != before[name]} == {"web"}
    wait_until(lambda: _answers(stack), 30, "an answer of the new application")


def test_the_sites_own_certificate_serves_its_names(stack: Stack, release: Any) -> None:
    folder = stack.root.parent / "site"
    folder.mkdir()
    authority = Authority(folder)
    chain, key = authority.vouches_for(NAME)
    site = site_of(stack.port, certificate_file=str(chain), key_file=str(key))
    before = stack.ids()
    made = stack_examples.rendered(release, site, certificate="c" * 64)
    stack.install(4, made)
    stack.up()
    after = stack.ids()
    assert "gateway" in {name for name in after if after[name] != before[name]}
    wait_until(lambda: _answers(stack), 30, "an answer of the new gateway")
    assert stack.ask("GET", "/readyz", name=NAME, trusted=authority.file).status == 200
    # This host itself goes on trusting the box's own authority.
    assert stack.ask("GET", "/readyz").status == 200
    again = stack_examples.rendered(release, site, certificate="d" * 64)
    assert stack_examples.changed(made, again) == {"gateway"}
