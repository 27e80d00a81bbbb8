"""Docker's library against a double of its interface: what is asked, what failures mean."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aibox.box import docker_engine
from aibox.box.docker_engine import Container, DockerEngine, Ended, Tagged, seconds
from aibox.errors import Failed, Fault, VerificationRefused
from docker_api_double import DockerApiDouble, serving

INSTALLER = Path(docker_engine.__file__).parents[2]
FOUND = {
    "Id": "c1",
    "Image": "sha256:abc",
    "RestartCount": 0,
    "Config": {"Labels": {"com.docker.compose.service": "web", "io.aibox.inputs": "x"}},
    "State": {
        "Status": "running",
        "Pid": 42,
        "ExitCode": 0,
        "StartedAt": "2026-01-01T00:00:00.123456789Z",
        "Health": {"Status": "healthy"},
    },
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[DockerApiDouble]:
    with serving(DockerApiDouble(tmp_path / "docker.sock")) as double:
        yield double


@pytest.fixture
def engine(api: DockerApiDouble) -> DockerEngine:
    return DockerEngine(api.socket)


def test_what_docker_says_of_itself(api: DockerApiDouble, engine: DockerEngine) -> None:
    found = engine.facts()
    assert (found.version, found.api, found.keeps_manifests) == ("26.1.5", (1, 45), False)
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    api.answers["GET /info"] = (200, {"DockerRootDir": "/d", "DriverStatus": status})
    assert engine.facts().keeps_manifests
    assert engine.facts().root == Path("/d")


def test_a_docker_that_cannot_unpack_every_image_is_too_old(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    old = {"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"}
    api.answers["GET /version"] = (200, old)
    with pytest.raises(Failed, match=r"20\.10\.24 is too old"):
        engine.facts()


def test_an_image_has_an_id_or_is_not_there(api: DockerApiDouble, engine: DockerEngine) -> None:
    api.answers["GET /images/aibox/app:1/json"] = (200, {"Id": "sha256:abc"})
    assert engine.image_id("aibox/app:1") == "sha256:abc"
    assert engine.image_id("aibox/app:2") is None


def test_images_are_listed_by_every_name(api: DockerApiDouble, engine: DockerEngine) -> None:
    both = {"Id": "sha256:a", "RepoTags": ["aibox/b:2", "aibox/a:1"]}
    api.answers["GET /images/json"] = (200, [both, {"Id": "sha256:c", "RepoTags": None}])
    names = (Tagged("aibox/a:1", "sha256:a"), Tagged("aibox/b:2", "sha256:a"))
    assert engine.tagged("aibox/*") == names
    assert '"reference": ["aibox/*"]' in api.asked[-1]


def test_containers_of_the_project_with_all_that_supervision_needs(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    api.answers["GET /containers/json"] = (200, [{"Id": "c1"}, {"Id": "gone"}])
    api.answers["GET /containers/c1/json"] = (200, FOUND)
    assert engine.containers("aibox") == (
        Container(
            id="c1",
            service="web",
            labels={"com.docker.compose.service": "web", "io.aibox.inputs": "x"},
            image="sha256:abc",
            state="running",
            health="healthy",
            pid=42,
            started=pytest.approx(1767225600.123),
        ),
    )
    listed = next(line for line in api.asked if "/containers/json" in line)
    assert "all=1" in listed
    assert '"label": ["com.docker.compose.project=aibox"]' in listed


def test_an_image_goes_to_docker_as_a_stream(api: DockerApiDouble, engine: DockerEngine) -> None:
    said: list[str] = []
    told = [{"status": "Loading layer", "progress": "1 kB"}, {"stream": "Loaded image: a\n"}]
    api.answers["POST /images/load"] = (200, ["stream", *told])
    engine.load(iter([b"one", b"", b"two"]), said.append)
    assert (api.body, said) == (b"onetwo", ["Loading layer 1 kB", "Loaded image: a"])
    assert api.asked[-1].endswith("?quiet=False")


def test_an_error_in_the_middle_of_an_answer_is_an_error(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    told = {"errorDetail": {"message": "invalid diffID"}, "error": "invalid diffID for layer 1"}
    api.answers["POST /images/load"] = (200, ["stream", {"status": "Loading layer"}, told])
    with pytest.raises(Failed, match="refused") as caught:
        engine.load(iter([b"one"]), lambda _line: None)
    assert "invalid diffID" in caught.value.context


@pytest.mark.parametrize("place", ["at once", "in the middle"])
def test_a_full_disk_of_docker_is_called_that(
    api: DockerApiDouble, engine: DockerEngine, place: str
) -> None:
    why = "write /var/lib/docker/tmp/docker-import-1/layer: no space left on device"
    api.answers["POST /images/load"] = (
        (500, {"message": why}) if place == "at once" else (200, ["stream", {"error": why}])
    )
    with pytest.raises(Failed) as caught:
        engine.load(iter([b"one"]), lambda _line: None)
    assert caught.value.reference == "docker-disk-full"


def test_docker_may_refuse_before_it_has_read_everything(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    def only_the_first(stream: Any) -> bytes:
        return bytes(stream.readline())

    api.read_body = only_the_first
    api.answers["POST /images/load"] = (500, {"message": "no space left on device"})
    with pytest.raises(Failed) as caught:
        engine.load((bytes(1 << 20) for _ in range(64)), lambda _line: None)
    assert caught.value.reference in ("docker-disk-full", "docker-no-answer")


def test_what_the_archive_raises_comes_out_as_it_is(engine: DockerEngine) -> None:
    def archive() -> Iterator[bytes]:
        yield b"one"
        raise VerificationRefused("image-incomplete", "m", hint="h", fault=Fault.HOST)

    with pytest.raises(VerificationRefused):
        engine.load(archive(), lambda _line: None)


def test_what_is_gone_already_need_not_be_removed(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    engine.remove_image("aibox/app:1")
    engine.remove_container("c1")
    engine.stop_container("c1")
    assert engine.logs("c1", 5) == ()
    busy = {"message": "removal of container c2 is already in progress"}
    api.answers["DELETE /containers/c2"] = (409, busy)
    engine.remove_container("c2")
    assert "force=True" in api.asked[-1]


def test_an_image_in_use_is_a_refusal(api: DockerApiDouble, engine: DockerEngine) -> None:
    used = {"message": "conflict: unable to remove repository reference (must force)"}
    api.answers["DELETE /images/aibox/app:1"] = (409, used)
    with pytest.raises(Failed) as caught:
        engine.remove_image("aibox/app:1")
    assert caught.value.reference == "docker-refused"


def test_networks_of_the_project_are_removed_one_by_one(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    api.answers["GET /networks"] = (200, [{"Id": "n1"}, {"Id": "n2"}])
    api.answers["DELETE /networks/n2"] = (204, None)
    engine.remove_networks("aibox")
    assert api.asked[-2:] == ["DELETE /networks/n1?", "DELETE /networks/n2?"]


def test_last_lines_of_a_container(api: DockerApiDouble, engine: DockerEngine) -> None:
    lines = b"\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n"
    api.answers["GET /containers/c1/json"] = (200, {"Config": {"Tty": False}})
    api.answers["GET /containers/c1/logs"] = (200, lines)
    assert engine.logs("c1", 2) == ("one", "two")
    assert any("tail=2" in line for line in api.asked)


def test_what_a_container_wrote_since_its_start_is_read_up_to_a_limit(
    api: DockerApiDouble, engine: DockerEngine
) -> None:
    words = (b"one\n", b"two\n")
    api.answers["GET /containers/c1/json"] = (200, {"Config": {"Tty": False}})
    lines = b"".join(b"\1\0\0\0" + len(one).to_bytes(4, "big") + one for one in words)
    api.answers["GET /containers/c1/logs"] = (200, lines)
    assert engine.log_since("c1", 1767225600.5, 1000) == "one\ntwo\n"
    assert engine.log_since("c1", 1767225600.5, 6) == "one\ntw"
    asked = next(line for line in api.asked if "/logs" in line)
    assert "since=1767225600.5" in asked
    assert "follow=0" in asked


def test_a_log_of_nobody_is_an_error(api: DockerApiDouble, engine: DockerEngine) -> None:
    with pytest.raises(Failed) as caught:
        engine.log_since("absent", 0.0, 1000)
    assert caught.value.reference == "docker-refused"


def frame(stream: int, words: bytes) -> bytes:
    """What a program said, as Docker puts both of its streams into one."""
    return bytes([stream, 0, 0, 0]) + len(words).to_bytes(4, "big") + words


LOST = b"OCI runtime exec failed: exec failed: read init-p: connection reset by peer: unknown"


@pytest.fixture
def program(api: DockerApiDouble, monkeypatch: pytest.MonkeyPatch) -> DockerApiDouble:
    """A double whose container runs a program that says two words and ends well."""
    monkeypatch.setattr(docker_engine, "_PAUSES_S", (0.0, 0.0))
    api.answers["POST /containers/c1/exec"] = (201, {"Id": "e1"})
    api.answers["POST /exec/e1/start"] = (200, frame(1, b"out") + frame(2, b"err"))
    api.answers["GET /exec/e1/json"] = (200, {"ExitCode": 0})
    return api


def test_a_program_in_a_container_is_run_to_its_end(
    program: DockerApiDouble, engine: DockerEngine
) -> None:
    program.answers["GET /exec/e1/json"] = (200, {"ExitCode": 3})
    assert engine.execute("c1", ("true",), 5) == Ended(3, "out", "err")
    assert program.asked.count("POST /exec/e1/start?") == 1


def test_a_program_that_docker_could_not_begin_is_begun_again(
    program: DockerApiDouble, engine: DockerEngine
) -> None:
    program.in_turn["POST /exec/e1/start"] = [(200, frame(1, LOST))]
    program.in_turn["GET /exec/e1/json"] = [(200, {"ExitCode": 126})]
    assert engine.execute("c1", ("true",), 5) == Ended(0, "out", "err")


def test_a_program_that_docker_never_begins_is_told_by_its_words(
    program: DockerApiDouble, engine: DockerEngine
) -> None:
    program.answers["POST /exec/e1/start"] = (200, frame(1, LOST))
    program.answers["GET /exec/e1/json"] = (200, {"ExitCode": 126})
    assert engine.execute("c1", ("true",), 5) == Ended(126, LOST.decode(), "")
    assert program.asked.count("POST /exec/e1/start?") == 3


def test_a_program_that_ends_with_126_itself_is_not_begun_again(
    program: DockerApiDouble, engine: DockerEngine
) -> None:
    program.answers["GET /exec/e1/json"] = (200, {"ExitCode": 126})
    assert engine.execute("c1", ("true",), 5) == Ended(126, "out", "err")
    assert program.asked.count("POST /exec/e1/start?") == 1


def test_without_docker_its_absence_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed) as caught:
        DockerEngine(tmp_path / "none.sock").facts()
    assert caught.value.reference == "docker-absent"


@pytest.mark.parametrize("left", ["no socket", "a socket of nobody"])
def test_a_docker_that_is_down_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    (tmp_path / "dockerd").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    socket = tmp_path / "docker.sock"
    if left != "no socket":
        with serving(DockerApiDouble(socket)):
            pass
        assert socket.exists()
    with pytest.raises(Failed) as caught:
        DockerEngine(socket).facts()
    assert caught.value.reference == "docker-no-answer"
    assert "systemctl restart docker" in caught.value.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may speak to every socket")
def test_a_user_without_the_right_is_told(api: DockerApiDouble, engine: DockerEngine) -> None:
    api.socket.chmod(0)
    with pytest.raises(Failed) as caught:
        engine.facts()
    assert caught.value.reference == "docker-not-permitted"


def test_a_denied_socket_is_a_matter_of_rights(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("docker.transport.unixconn.UnixHTTPConnection.connect", denied)
    with pytest.raises(Failed) as caught:
        engine.facts()
    assert caught.value.reference == "docker-not-permitted"


def test_nothing_that_only_container_boxes_need_is_imported_before_it_is_used() -> None:
    modules = "aibox.box.containers, aibox.box.container_images, aibox.loading, aibox.gc"
    script = f"import sys, {modules}; print({{'docker', 'requests', 'yaml'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(INSTALLER)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"


def test_times_of_docker() -> None:
    assert seconds("2026-01-01T00:00:00Z") == 1767225600.0
    assert seconds("0001-01-01T00:00:00Z") == 0.0
    assert seconds("") == 0.0
