"""Programs in the engine's container. Docker is a double; what a shell makes of it is real."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from aibox.box import engine_container
from aibox.box.docker_engine import Container, Ended
from aibox.box.engine_container import EngineContainer
from aibox.errors import Failed

HERE = Container("c1", "chat", {}, "sha256:x", "running", started=5.0)


class DoubleThatRuns:
    """A double of Docker that runs what it is told in a shell of this machine."""

    def __init__(self, *found: Container) -> None:
        self.found, self.commands = found, list[tuple[str, ...]]()

    def containers(self, _project: str) -> tuple[Container, ...]:
        return self.found

    def log_since(self, container: str, since: float, most: int) -> str:
        return f"{container} {since} {most}"

    def execute(self, _container: str, command: Sequence[str], timeout_s: float) -> Ended:
        self.commands.append(tuple(command))
        done = subprocess.run(
            list(command), capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineContainer:
    monkeypatch.setattr(engine_container, "FOLDER", str(tmp_path))
    for name in ("_PID", "_RUN", "_END"):
        text = getattr(engine_container, name).replace("/tmp", str(tmp_path))
        monkeypatch.setattr(engine_container, name, text)
    (tmp_path / "key").write_text("se$(cret) 'x'\n")
    return EngineContainer(DoubleThatRuns(HERE), HERE, str(tmp_path / "key"))


def writes(text: str) -> tuple[str, ...]:
    folder, name = EngineContainer.result()
    return ("sh", "-c", f"printf %s {text} >{folder}/{name}")


def test_the_running_one_is_found_and_no_other() -> None:
    stopped = Container("c2", "chat", {}, "sha256:x", "exited")
    other = Container("c3", "web", {}, "sha256:x", "running")
    found = EngineContainer.find(DoubleThatRuns(stopped, other, HERE), "chat", "chat-api-key")
    assert (found.container, found.secret) == (HERE, "/run/secrets/chat-api-key")
    assert found.log() == f"c1 5.0 {engine_container.LOG_BYTES}"
    with pytest.raises(Failed) as caught:
        EngineContainer.find(DoubleThatRuns(stopped, other), "chat", "chat-api-key")
    assert caught.value.reference == "engine-not-running"


def test_the_client_gets_the_secret_in_its_environment_alone(engine: EngineContainer) -> None:
    said = engine.measure(writes('"$OPENAI_API_KEY|$NO_PROXY"'), 5)
    assert said == "se$(cret) 'x'|127.0.0.1"
    assert "OPENAI_API_KEY" not in os.environ
    for command in engine.docker.commands:  # type: ignore[attr-defined]
        assert "cret" not in " ".join(command)


def test_nothing_is_left_but_the_answer(engine: EngineContainer, tmp_path: Path) -> None:
    engine.measure(writes("x"), 5)
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("words", "reference", "context"),
    [
        (("sleep", "30"), "bench-too-slow", ""),
        (("sh", "-c", "echo no model >&2; exit 3"), "bench-failed", "no model"),
        (("absent-program",), "bench-failed", "absent-program"),
    ],
)
def test_a_client_that_ends_badly_is_an_error_with_its_last_words(
    engine: EngineContainer, words: tuple[str, ...], reference: str, context: str
) -> None:
    with pytest.raises(Failed) as caught:
        engine.measure(words, 1)
    assert caught.value.reference == reference
    assert context in caught.value.context


def test_without_its_secret_the_client_is_not_started(
    engine: EngineContainer, tmp_path: Path
) -> None:
    (tmp_path / "key").unlink()
    with pytest.raises(Failed) as caught:
        engine.measure(("touch", str(tmp_path / "started")), 5)
    assert caught.value.reference == "bench-failed"
    assert not (tmp_path / "started").exists()


def test_an_interrupt_ends_the_client(
    engine: EngineContainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_container: str, command: Sequence[str], _timeout_s: float) -> Ended:
        ended.append(tuple(command))
        if len(ended) == 1:
            raise KeyboardInterrupt
        return Ended(0, "", "")

    ended: list[tuple[str, ...]] = []
    monkeypatch.setattr(engine.docker, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.measure(("sleep", "30"), 60)
    assert ended[1][-1].startswith("kill -TERM")


def test_an_engine_without_metrics_is_an_error(engine: EngineContainer) -> None:
    with pytest.raises(Failed) as caught:
        engine.metrics()
    assert caught.value.reference == "engine-no-metrics"
    assert "refused" in caught.value.context
