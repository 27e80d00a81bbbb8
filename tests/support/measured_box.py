"""A box of containers whose engine is a double: a real store, a real model's files, no Docker.

The double of Docker answers with what a real engine wrote (tests/assets/engine), and stands in
for its benchmark client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import hand_made_model
import stack_examples
from aibox import content, measure
from aibox.activate import activate
from aibox.box import guard
from aibox.box.docker_engine import Container, Ended
from aibox.box.importing import import_all
from aibox.box.store import Store
from aibox.box.transaction import staging
from aibox.hardware import Gpu, Machine
from aibox.prepare import Workplace
from aibox.progress import Progress
from aibox.record import Action
from aibox.release import Release
from aibox.verdict import Verdict
from boxes import RuntimeDouble, incoming, sha256

ENGINE = Path(__file__).parents[1] / "assets/engine"
METRICS = (ENGINE / "metrics-0.32.0.txt").read_text(encoding="utf-8")
RESULT = json.loads((ENGINE / "bench-0.32.0.json").read_text(encoding="utf-8"))
CPU_LOG = (ENGINE / "cpu-0.32.0.log").read_text(encoding="utf-8")
GOOD = Verdict(passed=True)
CHAT = """
[serving.chat]
image = "vllm"
model = "small"
memory_mib = 6000
kv_cache_gib = 1
[serving.chat.arguments]
dtype = "float32"
max-model-len = 16384
max-num-seqs = 4
"""
ON_GPU = CHAT.replace("kv_cache_gib = 1", "gpus = [0]")
TWO_ON_GPU = ON_GPU.replace(
    "[serving.chat.arguments]",
    "[serving.chat.arguments]\ngpu-memory-utilization = 0.7\nkv-cache-memory-bytes = 42949672960",
)
SMALL_ON_GPU = """
[serving.small]
image = "vllm"
model = "smaller"
memory_mib = 6000
gpus = [0]
[serving.small.arguments]
max-model-len = 4096
max-num-seqs = 4
max-num-queued-reqs = 8
gpu-memory-utilization = 0.1
kv-cache-memory-bytes = 1073741824
"""
HARDWARE = stack_examples.HARDWARE.replace("count = 2", "count = 1")
CARD = Gpu(
    address="0000:01:00.0",
    pci_id="10de:20b2",
    name="NVIDIA A100-SXM4-80GB",
    memory_mib=81920,
)
MACHINE = Machine(gpus=(CARD,), architecture="x86_64", memory_mib=24000)


@dataclass
class DoubleOfDocker:
    """Docker with containers of engines. `written_per_s` is what their client measures.

    `ends` are exit codes of the client, 0 once they are used up; `services` are the engines that
    run, `asked` the containers in which something was run. `during` happens while the client runs;
    `told` is what it says otherwise than usually.
    """

    log: str = CPU_LOG
    metrics: str = METRICS
    written_per_s: float = 100.0
    state: str = "running"
    started: float = 5.0
    ends: list[int] = field(default_factory=list)
    services: tuple[str, ...] = ("chat",)
    commands: list[tuple[str, ...]] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    during: Callable[[], None] | None = None
    told: dict[str, Any] = field(default_factory=dict)
    _result: str = ""

    def containers(self, _project: str) -> tuple[Container, ...]:
        return tuple(
            Container(f"of-{name}", name, {}, "sha256:x", self.state, started=self.started)
            for name in self.services
        )

    def log_since(self, _container: str, since: float, _most: int) -> str:
        assert since == self.started
        return self.log

    def execute(self, container: str, command: Sequence[str], _timeout_s: float) -> Ended:
        words = tuple(command)
        self.asked.add(container)
        self.commands.append(words)
        if words[0] == "python3":
            return Ended(0, self.metrics, "")
        if words[0] == "cat":
            return Ended(0, self._result, "")
        if "bench" in words:
            return self._bench(words)
        return Ended(0, "", "")

    def _bench(self, words: tuple[str, ...]) -> Ended:
        if self.during is not None:
            self.during()
        asked = int(words[words.index("--num-prompts") + 1])
        told = {"completed": self.answered(asked), "failed": asked - self.answered(asked)}
        told |= {"output_throughput": self.written_per_s}
        self._result = json.dumps({**RESULT, **told, **self.told})
        code = self.ends.pop(0) if self.ends else 0
        return Ended(code, "", "something went wrong" if code else "")

    @staticmethod
    def answered(asked: int) -> int:
        """How many of so many requests get an answer."""
        return asked

    @property
    def benched(self) -> list[tuple[str, ...]]:
        """The words of every run of the client."""
        return [words for words in self.commands if "bench" in words]


@dataclass
class MeasuredBox:
    """A box at `root` and what was said to whoever waits."""

    root: Path
    docker: DoubleOfDocker
    machine: Machine = MACHINE
    free_mib: int | None = 3072
    said: list[str] = field(default_factory=list)

    @property
    def place(self) -> Workplace:
        return Workplace(self.root, content.find(), self.report)

    @property
    def store(self) -> Store:
        return Store(self.root)

    def report(self, progress: Progress) -> None:
        self.said.append(f"[{progress.step}] {progress.message}")

    def seal(self, release: Release) -> int:
        """A generation of the release, with the files of the hand-made model."""
        store = self.store
        store.initialise()
        files = hand_made_model.files()
        import_all(store, incoming(*files.values()), workers=1)
        tree = {
            f"models/{model}/{name}": sha256(data)
            for model in {"small", *(served.model for served in release.serving.values())}
            for name, data in files.items()
        }
        plan = json.dumps({"site": {}, "environment": None}).encode()
        return store.prepare_generation(release.manifest(), tree, {"plan.json": plan})

    def serve(self, release: Release, gate: Callable[[], Verdict] = lambda: GOOD) -> Any:
        """Seal and activate it, as an upgrade does."""
        with guard.hold(self.root):
            store = self.store
            store.initialise()
            with staging(store, Action.UPGRADE, release=release.id) as transaction:
                return activate(
                    store,
                    self.seal(release),
                    action=Action.UPGRADE,
                    runtime=RuntimeDouble(self.root),
                    gate=gate,
                    transaction=transaction,
                )


def make(root: Path, monkeypatch: pytest.MonkeyPatch, **docker: Any) -> MeasuredBox:
    """An empty box; its Docker and its GPUs are doubles."""
    made = MeasuredBox(root, DoubleOfDocker(**docker))
    monkeypatch.setattr(measure, "DockerEngine", lambda: made.docker)
    monkeypatch.setattr(measure.gpus, "detect", lambda: made.machine)
    monkeypatch.setattr(measure.gpus, "free_mib", lambda found: (made.free_mib,) * len(found))
    return made


def with_router(text: str) -> str:
    """A profile's text with what decides who answers, and the service of its small model."""
    values = "".join(f"{name} = {value}\n" for name, value in stack_examples.ROUTER.items())
    return text.replace("'chat'", "'chat', 'small'").replace("[tuning]\n", f"[tuning]\n{values}")


def release(serving: str = CHAT, gate: str = "", hardware: str = "", **images: Any) -> Release:
    """A release with an engine; `gate` are more lines of its [gate]."""
    text = stack_examples.profile_text(serving, extra=hardware)
    if "[serving.small]" in serving:
        text = with_router(text)
    text = text.replace("question_deadline_s = 1.0\n", f"question_deadline_s = 1.0\n{gate}")
    return stack_examples.release(text, **images)
