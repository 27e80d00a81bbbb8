"""The real vLLM, on the CPU, with small encoders: what the application asks of it and gets.

The arguments are those that profiles lock for embedding and reranking, the application's clients
and the engine's own health question are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import subprocess
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

import hand_made_encoders
import pin_examples
import stack_examples as stacks
from aibox import content, lock, release
from aibox import profile as profiles
from rag_app.config import Embedding, Rerank
from rag_app.embedding import EmbeddingClient
from rag_app.errors import EmbeddingFailed, RerankFailed
from rag_app.reranking import RerankClient

from . import service_images
from .systemd_host import daemon, docker, why_not

Result = TypeVar("Result")

REASON = why_not() or service_images.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(REASON), reason=REASON),
    pytest.mark.usefixtures("docker_runs"),
]

PROFILE = "l40sx1"
KEY = secrets.token_hex(16)
MADE = {"embedding": hand_made_encoders.embedding, "rerank": hand_made_encoders.reranking}
READY_S = 900.0
# Of a GPU: on the CPU a share is one of the host's memory, of which others here have theirs.
NOT_HERE = {"tensor-parallel-size": None, "gpu-memory-utilization": 0.1}


def run(wanted: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(wanted)


def rendered() -> dict[str, bytes]:
    """The files of the profile, with made-up digests of its images."""
    found = content.find()
    made = release.make(lock.load(found.lockfile), profiles.load(found.profiles, PROFILE))
    images = [
        pin.model_copy(update={"platforms": (pin_examples.platform(seed=pin.name),)})
        for pin in made.images
    ]
    return dict(stacks.rendered(made.model_copy(update={"images": tuple(images)})).files)


@contextlib.contextmanager
def served(service: str, folder: Path) -> Iterator[str]:
    """One engine in a container, ready; gives its address."""
    files = rendered()
    settings = yaml.safe_load(files[f"config/{service}.serve.yaml"])
    settings = {key: value for key, value in {**settings, **NOT_HERE}.items() if value is not None}
    folder.mkdir()
    model = folder / "model"
    for path, data in MADE[service]().items():
        (model / path).parent.mkdir(parents=True, exist_ok=True)
        (model / path).write_bytes(data)
    (folder / "serve.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    (folder / "ask.py").write_bytes(files[f"config/{service}.ask.py"])
    (folder / "key").write_text(KEY, encoding="utf-8")
    name = f"aibox-test-{service}-{secrets.token_hex(4)}"
    image = service_images.engine(folder)
    docker(
        *("run", "--detach", "--name", name, "--memory", "6g", "--shm-size", "1g"),
        *("--publish", "127.0.0.1::8000", "--security-opt", "seccomp=unconfined"),
        *("--env", f"VLLM_API_KEY={KEY}", "--env", "HF_HUB_OFFLINE=1", "--env", "HOME=/tmp"),
        *("--env", "VLLM_NO_USAGE_STATS=1", "--env", "VLLM_CPU_OMP_THREADS_BIND=nobind"),
        *("--volume", f"{folder}:/box:ro", "--volume", f"{model}:/model:ro"),
        *("--volume", f"{folder / 'key'}:/run/secrets/{service}-api-key:ro"),
        *(image, "vllm", "serve", "--config", "/box/serve.yaml"),
    )
    try:
        address = "http://" + docker("port", name, "8000/tcp").out.split()[0]
        _await(address, name)
        yield address
        docker("exec", name, "python3", "/box/ask.py")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def _await(address: str, name: str) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{address}/health", timeout=5).status_code == httpx.codes.OK:
                return
        if docker("inspect", "--format", "{{.State.Running}}", name).out.strip() != "true":
            break
        time.sleep(3)
    logs = subprocess.run(["docker", "logs", "--tail", "150", name], capture_output=True, text=True)
    pytest.fail(f"the engine is not ready:\n{logs.stdout}{logs.stderr}")


@pytest.fixture(scope="module")
def docker_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with daemon(tmp_path_factory.mktemp("docker")):
        yield


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "app-key"
    path.write_text(KEY, encoding="ascii")
    path.chmod(0o600)
    return path


def test_the_engine_embeds_what_the_application_sends(tmp_path: Path, key: Path) -> None:
    with served("embedding", tmp_path / "engine") as address:
        settings = {
            "url": f"{address}/v1",
            "model": "bge-m3",
            "dimension": hand_made_encoders.DIMENSION,
        }
        client = EmbeddingClient(Embedding.model_validate({**settings, "api_key_file": key}))
        texts = ["백업은 매일 밤 합니다.", "Roses need sun.", "x" * 10_000]
        vectors = client.passages(texts)
        assert [len(vector) for vector in vectors] == [hand_made_encoders.DIMENSION] * 3
        assert all(math.hypot(*vector) == pytest.approx(1, abs=0.01) for vector in vectors)
        alone = run(client.question(texts[1]))
        assert alone == pytest.approx(vectors[1], abs=0.02)
        with pytest.raises(EmbeddingFailed, match="HTTP 401"):
            EmbeddingClient(Embedding.model_validate(settings)).passages(["x"])


def test_the_engine_ranks_what_the_application_sends(tmp_path: Path, key: Path) -> None:
    with served("rerank", tmp_path / "engine") as address:
        settings = {"url": f"{address}/v1", "model": "bge-reranker-v2-m3", "candidates": 30}
        settings["timeout_s"] = 30.0
        texts = [f"Passage {number}: 백업은 매일 밤 합니다. " * 5 for number in range(30)]

        async def scores(chosen: list[str], **more: object) -> list[float]:
            client = RerankClient(Rerank.model_validate({**settings, **more}))
            try:
                return await client.scores("언제 백업합니까?", chosen)
            finally:
                await client.close()

        found = run(scores(texts, api_key_file=key))
        assert len(found) == 30 and len(set(found)) > 10
        assert all(0 < score < 1 for score in found)
        assert run(scores(texts[7:8], api_key_file=key)) == pytest.approx(found[7:8], abs=0.02)
        with pytest.raises(RerankFailed, match="HTTP 401"):
            run(scores(texts))
