"""The real vLLM for the CPU in a container, started as a box starts it; weights set by hand."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import yaml

import hand_made_model
import stack_examples as stacks

from . import service_images
from .systemd_host import docker

KEY = secrets.token_hex(16)


class Engine:
    """One engine in a container, with the files that a box renders for it."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder

    def asks(self) -> subprocess.CompletedProcess[str]:
        """The health check, as Docker runs it."""
        words = ["docker", "exec", self.name, "python3", "/box/ask.py"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def address(self) -> str:
        return "http://" + docker("port", self.name, "8000/tcp").out.split()[0]

    def health_page(self) -> int:
        return httpx.get(f"{self.address()}/health", timeout=5, trust_env=False).status_code

    def is_up(self) -> bool:
        """Whether its own health page says that all is well."""
        with contextlib.suppress(httpx.HTTPError):
            return self.health_page() == httpx.codes.OK
        return False

    def runs(self) -> bool:
        said = docker("inspect", "--format", "{{.State.Running}}", self.name).out
        return said.strip() == "true"

    def core(self) -> int:
        """The process that computes, as this machine counts it."""
        lines = docker("top", self.name, "-eo", "pid,args").out.splitlines()
        return next(int(line.split()[0]) for line in lines if "EngineCore" in line)

    def log(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True)
        return done.stdout + done.stderr


@contextlib.contextmanager
def started(
    folder: Path, cache: Path, serving: str = stacks.CHAT, instead: Mapping[str, str] | None = None
) -> Iterator[Engine]:
    """An engine that has been told to start; `cache` is what it keeps from start to start.

    `serving` is the profile's part about it, `instead` what its health check says instead.
    """
    files = stacks.rendered(stacks.release(stacks.profile_text(serving))).files
    chat = yaml.safe_load(files["config/compose.yaml"])["services"]["chat"]
    _write(folder, files, instead or {})
    cache.mkdir(exist_ok=True)
    cache.chmod(0o777)
    name = f"aibox-test-engine-{secrets.token_hex(4)}"
    entry, *first = [word.replace("$$", "$") for word in chat["entrypoint"]]
    docker(
        *("run", "--detach", "--name", name, "--memory", "6g", "--shm-size", "1g", "--read-only"),
        *("--user", chat["user"], "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *(f"--env={key}={value}" for key, value in chat["environment"].items()),
        *("--env=VLLM_CPU_OMP_THREADS_BIND=nobind", "--workdir", chat["working_dir"]),
        *("--publish", "127.0.0.1::8000", "--tmpfs", "/tmp:size=1024m,mode=1777,exec"),
        *("--volume", f"{folder}:/box:ro", "--volume", f"{folder / 'model'}:/model:ro"),
        *("--volume", f"{cache}:/cache"),
        *("--volume", f"{folder / 'key'}:/run/secrets/chat-api-key:ro"),
        *("--entrypoint", entry, service_images.engine(folder), *first, *chat["command"]),
    )
    try:
        yield Engine(name, folder)
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _write(folder: Path, files: Mapping[str, bytes], instead: Mapping[str, str]) -> None:
    (folder / "model").mkdir(parents=True)
    for path, data in hand_made_model.files().items():
        (folder / "model" / path).write_bytes(data)
    settings = yaml.safe_load(files["config/chat.serve.yaml"])
    del settings["chat-template"]  # The model has its own.
    (folder / "serve.yaml").write_text(yaml.safe_dump(settings | {"gpu-memory-utilization": 0.2}))
    asking = files["config/chat.ask.py"].decode()
    for old, new in instead.items():
        assert old in asking, old
        asking = asking.replace(old, new)
    (folder / "ask.py").write_text(asking)
    (folder / "key").write_text(KEY)
    folder.chmod(0o755)
