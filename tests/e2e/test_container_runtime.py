"""The container runtime with a real Docker, a real Compose and a real systemd on Debian 13.

The box's code runs here and meets the server by its socket, its systemctl and a shared folder;
everything else is the server's own. One journey: every test goes on where the one before stopped.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jinja2
import pytest
import yaml

from aibox import loading
from aibox.box.compose_file import INPUTS_LABEL, PROJECT
from aibox.box.container_images import Wanted, ensure, sweep
from aibox.box.containers import Containers
from aibox.box.docker_engine import Container, DockerEngine
from aibox.box.filesystem import Filesystem
from aibox.box.image_archive import tag_of
from aibox.box.mounts import mounted_generations
from aibox.errors import Failed, VerificationRefused
from aibox.pins import ImagePin, Redistribution
from image_maker import DOCKER, OCI, Image, make_image, sha256, tar

from .journey import REPOSITORY, wait_until
from .systemd_host import DOCKER as DOCKER_PACKAGES
from .systemd_host import Server, daemon, docker, server, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

SERVES = "trap 'exit 0' TERM; echo up; while :; do sleep 600 & wait $!; done"
DIES = "echo there is nothing to serve; exit 3"
SHARED = "/var/tmp"  # the server's systemd mounts a /tmp of its own
LOAD = """
import sys, time
from pathlib import Path
from aibox import loading
from aibox.box.docker_engine import DockerEngine
from aibox.box.filesystem import Filesystem
from aibox.pins import ImagePin
pin, tree = ImagePin.model_validate_json({pin!r}), Path({tree!r})
said = []
loading.run(
    [pin], tree, "x86_64", engine=DockerEngine(Path(sys.argv[1])), notes=tree / "notes",
    filesystem=Filesystem(),
    report=lambda progress: said.append((time.monotonic(), progress.message)),
)
turn = next(when for when, what in said if what.endswith("loading it into Docker"))
print(turn - said[0][0], time.monotonic() - turn)
status = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in status if line.startswith("VmHWM")))
"""
APPLY = """
import functools, sys
from pathlib import Path
from aibox.box.containers import Containers
from aibox.box.docker_engine import DockerEngine
say = functools.partial(print, flush=True)
Containers(Path(sys.argv[1]), engine=DockerEngine(Path(sys.argv[2])), on_event=say).apply()
"""
# Docker of the server listens at a second place, which this side can see. In a container it may
# not write to /proc/sys, and takes that for a reason not to start others.
SECOND_SOCKET = """
cd /etc/systemd/system
mkdir --parents docker.socket.d docker.service.d
printf '[Socket]\\nListenStream={socket}\\n' > docker.socket.d/test.conf
allow='Environment=DOCKER_ALLOW_IPV6_ON_IPV4_INTERFACE=1'
printf '[Service]\\n%s\\n' "$allow" > docker.service.d/test.conf
systemctl daemon-reload
systemctl stop docker.service docker.socket
systemctl start docker.socket docker.service
"""


@dataclasses.dataclass(frozen=True)
class Box:
    """A box root that both sides know by the same path."""

    host: Server
    root: Path
    engine: DockerEngine
    said: list[str]

    def runtime(self) -> Containers:
        return Containers(self.root, engine=self.engine, on_event=self.said.append)

    def generation(self, number: int, image: str, inputs: dict[str, str], **shell: str) -> None:
        """A generation of services with these inputs, all but `shell` serving for ever."""
        folder = self.root / f"gens/{number}"
        for name in ("config", "tree/app"):
            (folder / name).mkdir(parents=True)
        services = {
            name: {
                "image": image,
                "command": ["/bin/busybox", "sh", "-c", shell.get(name, SERVES).replace("$", "$$")],
                "labels": {INPUTS_LABEL: digest},
                "volumes": [f"{self.root}/current/tree/app:/box/app:ro"],
                "networks": ["inside"],
                "read_only": True,
                "cap_drop": ["ALL"],
                "pull_policy": "never",
                "restart": "no",
            }
            for name, digest in inputs.items()
        }
        networks = {"inside": {"internal": True}}
        document = {"name": PROJECT, "services": services, "networks": networks}
        (folder / "config/compose.yaml").write_text(yaml.safe_dump(document))
        self.switch(number)

    def switch(self, number: int) -> None:
        (self.root / "current.new").symlink_to(f"gens/{number}")
        (self.root / "current.new").rename(self.root / "current")

    def running(self) -> dict[str, Container]:
        found = self.engine.containers(PROJECT)
        return {one.service: one for one in found if one.state == "running"}

    def ids(self) -> dict[str, str]:
        return {name: one.id for name, one in self.running().items()}

    def states(self) -> dict[str, str]:
        return {one.name: one.state for one in self.runtime().services()}


@pytest.fixture(scope="module")
def box() -> Iterator[Box]:
    """A server with Docker and the unit of the services, and an empty box on it."""
    with tempfile.TemporaryDirectory(prefix="aibox-test-", dir=SHARED) as folder:
        yield from served(Path(folder))


def served(folder: Path) -> Iterator[Box]:
    root = folder / "aibox"
    root.mkdir()
    options = (
        "--volume",
        "/var/lib/containerd",
        "--volume",
        "/var/lib/docker",
        "--volume",
        f"{folder}:{folder}",
    )
    with (
        daemon(folder),
        server(folder, packages=DOCKER_PACKAGES, options=options) as host,
        pytest.MonkeyPatch.context() as patch,
    ):
        host.root("sh", "-c", SECOND_SOCKET.format(socket=folder / "docker.sock"))
        unit = unit_text(root)
        (folder / "aibox@.service").write_text(unit)
        host.root("cp", str(folder / "aibox@.service"), "/etc/systemd/system/")
        host.root("systemctl", "daemon-reload")
        (folder / "bin").mkdir()
        there = folder / "bin/systemctl"
        there.write_text(f'#!/bin/sh\nexec docker exec {host.id} systemctl "$@"\n')
        there.chmod(0o755)
        patch.setenv("PATH", f"{there.parent}:{os.environ['PATH']}")
        yield Box(host, root, DockerEngine(folder / "docker.sock"), [])


def unit_text(root: Path) -> str:
    template = (REPOSITORY / "stacks/container/aibox@.service.j2").read_text()
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    return strict.from_string(template).render(root=str(root))


@pytest.fixture(scope="module")
def image(box: Box) -> Image:
    """An image that really runs: a static busybox, and a layer that says which it is."""
    program = box.root.parent / "busybox"
    docker("cp", f"{box.host.id}:/bin/busybox", str(program))
    return make_image([program_layer(program.read_bytes()), tar({"etc/version": b"one"})])


def program_layer(program: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in ("bin/busybox", *(f"bin/{name}" for name in ("sh", "sleep", "echo"))):
            member = tarfile.TarInfo(name)
            member.mode = 0o755
            if name == "bin/busybox":
                member.size = len(program)
                archive.addfile(member, io.BytesIO(program))
            else:
                member.type, member.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(member)
    return packed.getvalue()


def pin(image: Image, name: str = "app") -> ImagePin:
    return ImagePin(
        name=name,
        licence="unknown",
        redistribution=Redistribution.ALLOW,
        owner="nobody",
        source="made here",
        reference=f"example/{name}",
        digest=sha256(image.manifest),
        platforms=(image.platform(),),
    )


def load(box: Box, image: Image, tree: Path, name: str = "app") -> tuple[str, ...]:
    if not tree.exists():
        image.write(tree / "images" / name)
    return loading.run(
        [pin(image, name)],
        tree,
        "x86_64",
        engine=box.engine,
        notes=box.root / "images.json",
        filesystem=Filesystem(),
        report=lambda progress: box.said.append(progress.message),
    )


# -- images -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [DOCKER, OCI], ids=["docker", "oci"])
def test_docker_holds_what_was_laid_out_under_the_locked_digest(
    box: Box, tmp_path: Path, kinds: dict[str, str]
) -> None:
    image = make_image([tar({"a": os.urandom(1 << 20)}), tar({"b": b"b"})], kinds=kinds)
    tag = tag_of("data", image.platform())
    assert load(box, image, tmp_path / "tree", "data") == (tag,)
    assert box.engine.image_id(tag) == f"sha256:{sha256(image.config)}"
    assert load(box, image, tmp_path / "tree", "data") == ()
    assert sweep(box.engine, []) == (tag,)
    assert box.engine.image_id(tag) is None


def test_layers_in_zstd_and_layers_twice_are_loaded_as_they_are(box: Box, tmp_path: Path) -> None:
    zstd = pytest.importorskip(
        "backports.zstd" if sys.version_info < (3, 14) else "compression.zstd"
    )
    contents = [tar({"a": b"a" * 5000}), tar({"b": b"b"}), tar({"a": b"a" * 5000})]
    layers = [zstd.compress(one) for one in contents]
    kinds = {**OCI, "layer": "application/vnd.oci.image.layer.v1.tar+zstd"}
    image = make_image(contents, kinds=kinds, layers=layers)
    assert load(box, image, tmp_path / "tree", "zstd")
    assert sweep(box.engine, []) == (tag_of("zstd", image.platform()),)


def test_a_tampered_layer_never_reaches_docker(box: Box, tmp_path: Path) -> None:
    image = make_image([tar({"a": b"a"})])
    folder = image.write(tmp_path / "tree/images/app")
    (folder / sha256(image.layers[0])).write_bytes(image.layers[0][:-1] + b"x")
    with pytest.raises(VerificationRefused) as caught:
        load(box, image, tmp_path / "tree")
    assert caught.value.reference == "image-refused"
    assert box.engine.tagged("aibox/*") == ()


def test_what_docker_calls_by_another_id_is_refused_and_gone(box: Box, tmp_path: Path) -> None:
    image = make_image([tar({"a": b"a"})])
    folder, platform = image.write(tmp_path / "app"), image.platform()
    # The configuration lies under another digest than its own, and nobody looked at it before.
    claimed = platform.config.model_copy(update={"sha256": "0" * 64})
    (folder / sha256(image.config)).rename(folder / claimed.sha256)
    with pytest.raises(VerificationRefused) as caught:
        unchecked(box, Wanted("app", platform.model_copy(update={"config": claimed}), folder))
    assert caught.value.reference == "image-id-differs"
    assert sha256(image.config) in caught.value.context
    assert box.engine.tagged("aibox/*") == ()


def test_docker_refuses_content_that_the_configuration_does_not_name(
    box: Box, tmp_path: Path
) -> None:
    image = make_image([tar({"a": b"a"})], layers=[tar({"a": b"other"})])
    wanted = Wanted("app", image.platform(), image.write(tmp_path / "app"))
    with pytest.raises(Failed) as caught:
        unchecked(box, wanted)
    assert caught.value.reference == "docker-refused"
    assert box.engine.tagged("aibox/*") == ()


def unchecked(box: Box, wanted: Wanted) -> None:
    ensure(
        box.engine,
        [wanted],
        check=lambda _archive, _on_bytes: None,
        notes=box.root / "images.json",
        filesystem=Filesystem(),
        report=lambda _progress: None,
    )


def test_a_large_image_is_checked_and_loaded_in_little_memory(
    box: Box, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    content = tar({f"{number}": os.urandom(16 << 20) for number in range(8)})
    image = make_image([content], layers=[gzip.compress(content, 1, mtime=0)])
    size = len(image.layers[0]) / (1 << 20)
    image.write(tmp_path / "tree/images/app")
    script = LOAD.format(pin=pin(image).model_dump_json(), tree=str(tmp_path / "tree"))
    done = subprocess.run(
        [sys.executable, "-c", script, str(box.root.parent / "docker.sock")],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "installer")},
        capture_output=True,
        text=True,
        check=True,
    )
    checked, loaded, memory = map(float, done.stdout.split())
    assert sweep(box.engine, []) == (tag_of("app", image.platform()),)
    theirs = by_hand(box, Wanted("app", image.platform(), tmp_path / "tree/images/app"))
    figure(
        f"image of {size:.0f} MiB: checked with {size / checked:.0f} MiB/s, loaded into Docker "
        f"with {size / loaded:.0f} MiB/s against {size / theirs:.0f} MiB/s of docker load from a "
        f"file, {memory / 1024:.0f} MiB of memory"
    )
    assert memory < 128 * 1024


def by_hand(box: Box, wanted: Wanted) -> float:
    """Seconds that `docker load` takes for the same archive."""
    file = box.root.parent / "archive.tar"
    with file.open("wb") as archive:
        archive.writelines(wanted.archive.chunks())
    started = time.monotonic()
    box.host.root("docker", "load", "--quiet", "--input", str(file))
    seconds = time.monotonic() - started
    assert sweep(box.engine, []) == (wanted.archive.tag,)
    file.unlink()
    return seconds


# -- services -----------------------------------------------------------------------------------


def test_apply_starts_the_services_under_their_units(
    box: Box, image: Image, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    load(box, image, tmp_path / "tree")
    tag = tag_of("app", image.platform())
    box.generation(1, tag, {"web": "w1", "qdrant": "q1"})
    assert set(box.states().values()) == {"stopped"}
    started = time.monotonic()
    box.runtime().apply()
    first = time.monotonic() - started
    assert box.states() == {"qdrant": "running", "web": "running"}
    assert box.said.index("services: starting qdrant") < box.said.index("services: starting web")
    assert mounted_generations(box.root) == {1}
    before, started = box.ids(), time.monotonic()
    box.runtime().apply()
    assert box.ids() == before
    again = time.monotonic() - started
    figure(f"two services: started in {first:.1f} s; nothing to do found in {again:.2f} s")


def test_an_upgrade_restarts_exactly_what_changed(box: Box, image: Image) -> None:
    before = box.ids()
    box.generation(2, tag_of("app", image.platform()), {"web": "w2", "qdrant": "q1"})
    box.runtime().apply()
    after = box.ids()
    assert after["qdrant"] == before["qdrant"]
    assert after["web"] != before["web"]
    assert box.running()["web"].labels[INPUTS_LABEL] == "w2"
    assert mounted_generations(box.root) == {1, 2}


def test_killed_in_the_middle_of_an_upgrade_the_next_run_finishes_it(
    box: Box, image: Image
) -> None:
    box.generation(3, tag_of("app", image.platform()), {"web": "w3", "qdrant": "q3"})
    command = [sys.executable, "-c", APPLY, str(box.root), str(box.root.parent / "docker.sock")]
    surroundings = {**os.environ, "PYTHONPATH": str(REPOSITORY / "installer")}
    with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("restarting qdrant" in line for line in process.stdout)
        process.kill()
    box.runtime().apply()
    found = {name: one.labels[INPUTS_LABEL] for name, one in box.running().items()}
    assert found == {"web": "w3", "qdrant": "q3"}
    box.switch(2)
    box.runtime().apply()
    assert mounted_generations(box.root) == {2}


def test_a_killed_container_comes_back_and_is_counted(box: Box) -> None:
    pid = box.running()["web"].pid
    box.host.root("docker", "kill", box.ids()["web"])
    wait_until(lambda: "web" in box.running() and box.running()["web"].pid != pid, 30, "web")
    found = {one.name: one.restarts for one in box.runtime().services()}
    assert found == {"qdrant": 0, "web": 1}


def test_whoever_watches_may_be_killed(box: Box) -> None:
    before = box.ids()["web"]
    box.host.root("systemctl", "kill", "--signal=KILL", "aibox@web.service")
    wait_until(lambda: box.states()["web"] == "running", 30, "web watched again")
    assert box.ids()["web"] == before


def test_docker_may_be_restarted(box: Box) -> None:
    box.host.root("systemctl", "restart", "docker")
    wait_until(lambda: set(box.states().values()) == {"running"}, 60, "both services")
    box.runtime().apply()


def test_reloading_systemd_is_harmless(box: Box) -> None:
    before = box.ids()
    box.host.root("systemctl", "daemon-reload")
    assert (box.ids(), set(box.states().values())) == (before, {"running"})


def test_a_service_that_keeps_dying_is_named_and_a_rollback_heals(box: Box, image: Image) -> None:
    tag = tag_of("app", image.platform())
    box.generation(4, tag, {"web": "w4", "qdrant": "q1"}, web=DIES)
    with pytest.raises(Failed, match="web does not stay up") as caught:
        box.runtime().apply()
    assert "exit code 3: there is nothing to serve" in caught.value.context
    assert "nothing to serve" in box.host.root("journalctl", "--all", "--unit", "aibox@web")
    box.switch(2)
    box.runtime().apply()
    assert box.running()["web"].labels[INPUTS_LABEL] == "w2"


def test_a_service_that_is_dropped_goes_away(box: Box, image: Image) -> None:
    before = box.ids()["qdrant"]
    box.generation(5, tag_of("app", image.platform()), {"qdrant": "q1"})
    box.runtime().apply()
    assert {one.service: one.id for one in box.engine.containers(PROJECT)} == {"qdrant": before}
    assert "aibox@web" not in box.host.root("systemctl", "list-units", "--plain", "aibox@*")


def test_a_container_that_outlived_its_unit_is_watched_again(box: Box) -> None:
    before = box.ids()
    box.host.root("systemctl", "stop", "aibox@qdrant.service")
    box.host.root("docker", "start", before["qdrant"])
    assert box.states() == {"qdrant": "unsupervised"}
    box.runtime().apply()
    assert (box.states(), box.ids()) == ({"qdrant": "running"}, before)


def test_stop_and_removal_leave_nothing_and_may_be_repeated(box: Box) -> None:
    box.runtime().stop()
    assert (box.running(), box.states()) == ({}, {"qdrant": "stopped"})
    assert mounted_generations(box.root) == frozenset()
    box.runtime().stop()
    box.runtime().remove()
    box.runtime().remove()
    assert box.engine.containers(PROJECT) == ()
    assert "aibox_inside" not in box.host.root("docker", "network", "ls")
    assert len(sweep(box.engine, [])) == 1
