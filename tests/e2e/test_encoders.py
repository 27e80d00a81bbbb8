"""The real vLLM, on the CPU, with hand-made models: what the application asks of it and gets.

The arguments are those that profiles lock for embedding, reranking and the two models that write;
the application's clients and the engine's own health question are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import secrets
import subprocess
import time
import tomllib
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml

import hand_made_encoders
import hand_made_model
import pin_examples
import stack_examples as stacks
from aibox import content, lock, release
from aibox import profile as profiles
from rag_app.answer import Answerer, Finished, SmallModel
from rag_app.config import Config, Embedding, Engine, Rerank
from rag_app.conversation import Question
from rag_app.embedding import EmbeddingClient
from rag_app.engines.openai import OpenAIEngine
from rag_app.errors import EmbeddingFailed, RerankFailed
from rag_app.interfaces import Extract, Readiness
from rag_app.model import Answer, Passage
from rag_app.prompts import load
from rag_app.reranking import RerankClient
from rag_app.retrieval import Ranking
from rag_app.routing import Router, limits_of

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
MADE = {
    "embedding": hand_made_encoders.embedding,
    "rerank": hand_made_encoders.reranking,
    "chat": hand_made_model.files,
    "small": hand_made_model.files,
}
READY_S = 900.0
# Of a GPU: on the CPU a share is one of the host's memory, of which others here have theirs.
NOT_HERE = {"tensor-parallel-size": None, "gpu-memory-utilization": 0.1, "enforce-eager": True}
NOT_HERE |= {"kv-cache-memory-bytes": None, "kv-cache-dtype": None}


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
        *("--env", "VLLM_CPU_KVCACHE_SPACE=1"),
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


class SearcherDouble:
    """A double of the search: it finds one passage that holds everything."""

    async def search(self, question: str, limit: int, language: str | None = None) -> list[Passage]:
        text = "The key is in the safe. 열쇠는 금고에 있습니다."
        return [Passage(1, "d1", "keys.md", text, 0, len(text), score=1.0, evidence=1.0)]

    async def ready(self, corpus: str) -> Readiness:
        return Readiness(ready=True)


class NoExtractor:
    """A double that nobody asks, as long as one of the models answers."""

    def extract(self, question: str, passages: Sequence[Passage], language: str) -> Extract:
        raise AssertionError("neither model has answered")


def configured(small: str, chat: str, key: Path) -> Config:
    """The rendered settings of the profile, with the addresses of these engines."""
    config = Config.model_validate(tomllib.loads(rendered()["config/rag.toml"].decode()))
    assert config.small is not None
    changes: dict[str, object] = {}
    for name, engine, url in (("small", config.small, small), ("engine", config.engine, chat)):
        changes[name] = engine.model_copy(
            update={"url": f"{url}/v1", "api_key_file": key, "timeout_s": 60.0}
        )
    folder = content.find().root / "stacks/prompts"
    paths = {name: getattr(config.prompts, name) for name in type(config.prompts).model_fields}
    own = {name: folder / path.name for name, path in paths.items() if isinstance(path, Path)}
    words = tuple(folder / path.name for path in config.prompts.large_words)
    changes["prompts"] = config.prompts.model_copy(update={**own, "large_words": words})
    return config.model_copy(update=changes)


async def answered(config: Config, question: str) -> Answer:
    """The application's answer, from engines and a router made as its settings say."""
    texts = load(config.prompts)

    def engine(settings: Engine) -> OpenAIEngine:
        return OpenAIEngine(settings, config.tuning, texts, connections=2, patience_s=0.0)

    assert config.small is not None
    large, small = engine(config.engine), engine(config.small)
    answerer = Answerer(
        ranking=Ranking(SearcherDouble(), None),
        extractor=NoExtractor(),
        model=large,
        small=SmallModel(small, Router(limits_of(config.tuning), texts.large_words)),
        prompts=texts,
        tuning=config.tuning,
        release=config.release,
    )
    try:
        events = [event async for event in answerer.events(Question(question))]
    finally:
        await small.close()
        await large.close()
    assert isinstance(events[-1], Finished) and events[-1].usage is not None
    return events[-1].answer


def test_two_engines_share_the_questions_and_the_large_one_steps_in(
    tmp_path: Path, key: Path
) -> None:
    with served("chat", tmp_path / "chat") as chat:
        with served("small", tmp_path / "small") as small:
            config = configured(small, chat, key)
            names = (config.small.model if config.small else "", config.engine.model)
            for question, name, route in (
                ("Where is the key?", names[0], "simple"),
                ("열쇠는 어디에 있나요?", names[0], "simple"),
                ("Why is the key in the safe?", names[1], "large-words"),
                ("두 금고의 차이는 무엇인가요?", names[1], "large-words"),
            ):
                answer = run(answered(config, question))
                assert (answer.engine, answer.route) == (name, route)
                assert (answer.answer, answer.grounded) == (hand_made_model.ANSWER, True)
        answer = run(answered(config, "Where is the key?"))
        assert (answer.engine, answer.route) == (names[1], "small-failed")
        assert (answer.answer, answer.degraded) == (hand_made_model.ANSWER, "")
