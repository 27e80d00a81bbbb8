"""The real llama-server in a container as a box starts it: the second kind of engine.

The image is made here of Debian's packages; the model has weights set by hand, so what it answers
is known. The application's client and the health check are the real ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

import hand_made_gguf
import hand_made_model
import stack_examples as stacks
from aibox.engine_kinds import KINDS, KindName
from rag_app.config import Engine, Tuning
from rag_app.engines.openai import OpenAIEngine, Usage
from rag_app.errors import EngineFailed
from rag_app.model import Passage
from rag_app.prompts import PromptTexts

from . import service_images
from .journey import wait_until
from .systemd_host import daemon, docker, why_not

REASON = why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.enable_socket,
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

KEY = secrets.token_hex(16)
SERVING = """
[serving.chat]
kind = "llama-server"
image = "vllm"
model = "small"
memory_mib = 2000
[serving.chat.arguments]
ctx-size = 8192
parallel = 2
threads = 2
"""
# Each argument that a profile may set and that is not set above, with a value to start with.
OTHERS = """
batch-size = 512
cache-ram = 64
cache-reuse = 16
cache-type-k = "q8_0"
cache-type-v = "q8_0"
chat-template-kwargs = { enable_thinking = false }
flash-attn = true
load-mode = "mmap"
main-gpu = 0
n-gpu-layers = 0
n-predict = 100
reasoning = false
reasoning-budget = 0
seed = 1
split-mode = "none"
swa-full = true
tensor-split = [1, 1]
threads-batch = 2
ubatch-size = 256
"""


def service(serving: str = SERVING) -> tuple[dict[str, Any], bytes]:
    """What is rendered for the engine: its part of the Compose file, and its question."""
    release = stacks.release(stacks.profile_text(serving))
    models = [
        pin.model_copy(
            update={"files": (pin.files[0].model_copy(update={"path": hand_made_gguf.NAME}),)}
        )
        for pin in release.models
    ]
    made = stacks.rendered(release.model_copy(update={"models": tuple(models)})).files
    chat = yaml.safe_load(made["config/compose.yaml"])["services"]["chat"]
    return chat, made["config/chat.ask.py"]


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory, figures: list[str]) -> Iterator[str]:
    """The name of the running container."""
    folder = tmp_path_factory.mktemp("llama")
    with contextlib.ExitStack() as stack:
        stack.enter_context(daemon(tmp_path_factory.mktemp("docker")))
        name = stack.enter_context(started(folder))
        begun = time.monotonic()
        wait_until(lambda: asks(name).returncode == 0, 120, "an answer of the engine")
        figures.append(f"llama-server answered {time.monotonic() - begun:.1f} s after its start")
        yield name


@pytest.fixture(scope="module")
def figures() -> list[str]:
    return []


@contextlib.contextmanager
def started(folder: Path, serving: str = SERVING) -> Iterator[str]:
    chat, asking = service(serving)
    (folder / "model").mkdir()
    (folder / "model" / hand_made_gguf.NAME).write_bytes(hand_made_gguf.file())
    (folder / "ask.py").write_bytes(asking)
    (folder / "key").write_text(KEY)
    (folder / "cache").mkdir()
    (folder / "cache").chmod(0o777)
    folder.chmod(0o755)
    name = f"aibox-test-llama-{secrets.token_hex(4)}"
    # Compose's own dollars are doubled.
    entry, *first = [word.replace("$$", "$") for word in chat["entrypoint"]]
    environment = [f"--env={key}={value}" for key, value in chat["environment"].items()]
    docker(
        *("run", "--detach", "--name", name, "--memory", "2g", "--read-only", "--cap-drop", "ALL"),
        *("--user", chat["user"], "--security-opt", "no-new-privileges", *environment),
        *("--publish", "127.0.0.1::8000", "--tmpfs", "/tmp:mode=1777", "--entrypoint", entry),
        *("--volume", f"{folder / 'model'}:/model:ro", "--volume", f"{folder}:/box:ro"),
        *("--volume", f"{folder / 'cache'}:/cache"),
        *("--volume", f"{folder / 'key'}:/run/secrets/chat-api-key:ro"),
        *(service_images.llama(folder), *first, *chat["command"]),
    )
    try:
        yield name
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)


def asks(name: str) -> subprocess.CompletedProcess[str]:
    """The health check, as Docker runs it."""
    words = ["docker", "exec", name, "python3", "/box/ask.py"]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def runs(name: str) -> bool:
    return docker("inspect", "--format", "{{.State.Running}}", name).out.strip() == "true"


def address(name: str) -> str:
    return "http://" + docker("port", name, "8000/tcp").out.split()[0]


def answer(
    name: str, folder: Path, key: str = KEY, text: str = "Text."
) -> tuple[str, Usage | None]:
    """What the application's own client gets for a question."""
    file = folder / "key"
    file.write_text(key)
    file.chmod(0o600)
    settings = Engine(kind="openai", url=f"{address(name)}/v1", model="small", api_key_file=file)
    tuning = Tuning(
        chunk_size=600, chunk_overlap=80, top_k=4, candidates=20, fusion_k=60, weight_sparse=1,
        weight_dense=0, bm25_k1=1.2, bm25_b=0.75, evidence_threshold=0.3, max_quotes=3,
        max_answer_tokens=40,
    )  # fmt: skip
    prompts = PromptTexts("Answer.", "{passages}\n{question}", {"en": "none", "ko": "없음"})
    passage = Passage(
        chunk_id=1, document_id="d", document="d.md", text=text, start=0, end=5, score=1,
        evidence=1, page=1,
    )  # fmt: skip

    async def work() -> list[str | Usage]:
        engine = OpenAIEngine(settings, tuning, prompts, connections=2)
        try:
            return [piece async for piece in engine.stream("Why?", [passage], "en")]
        finally:
            await engine.close()

    pieces = asyncio.run(work())
    usage = pieces[-1] if isinstance(pieces[-1], Usage) else None
    return "".join(piece for piece in pieces if isinstance(piece, str)), usage


def test_the_application_gets_its_answer_and_its_count_of_tokens(
    name: str, tmp_path: Path, figure: Callable[[str], None], figures: list[str]
) -> None:
    for line in figures:
        figure(line)
    text, usage = answer(name, tmp_path)
    assert text == hand_made_model.ANSWER
    assert usage is not None
    assert usage.completion_tokens > 0


def test_nobody_is_answered_without_the_key(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="HTTP 401"):
        answer(name, tmp_path, key="another")
    for path in ("/metrics", "/slots", "/props", "/v1/completions"):
        assert httpx.get(address(name) + path, trust_env=False).status_code in {401, 404}
    assert KEY not in docker("inspect", name).out
    assert KEY not in docker("top", name, "-eo", "pid,args").out


def test_its_counters_are_those_that_the_health_check_looks_at(name: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    seen = {}
    exec(compile(service()[1], "ask.py", "exec"), seen)

    def computed() -> float:
        text = httpx.get(f"{address(name)}/metrics", headers=headers, trust_env=False).text
        return sum(float(value) for value in seen["COUNTERS"].findall(text))

    before = computed()
    assert asks(name).returncode == 0
    assert computed() > before > 0


def test_more_questions_than_it_works_at_wait_and_are_answered(name: str, tmp_path: Path) -> None:
    body = {"model": "small", "prompt": "1", "max_tokens": 200, "ignore_eos": True}

    async def ask(client: httpx.AsyncClient) -> int:
        return (await client.post("/v1/completions", json=body)).status_code

    async def work() -> list[int]:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            base_url=address(name), headers=headers, trust_env=False, timeout=120
        ) as client:
            return list(await asyncio.gather(*(ask(client) for _ in range(12))))

    assert asyncio.run(work()) == [200] * 12
    assert asks(name).returncode == 0


def test_passages_that_are_too_long_for_it_are_told_as_such(name: str, tmp_path: Path) -> None:
    # Of its context each answer has an even share, whatever the others leave free.
    with pytest.raises(EngineFailed, match=r"longer than .* can read \(HTTP 400\)"):
        answer(name, tmp_path, text="word " * 1000)
    assert answer(name, tmp_path)[0] == hand_made_model.ANSWER


def test_another_path_is_told_as_such_and_another_model_is_not(name: str, tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=address(name), headers=headers, trust_env=False) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == ["small"]
        assert client.post("/v1/v1/chat/completions", json={}).status_code == httpx.codes.NOT_FOUND
        # It has one model and writes with it, whoever is asked for.
        body = {"model": "another", "prompt": "1", "max_tokens": 1}
        assert client.post("/v1/completions", json=body).json()["model"] == "small"


def test_it_starts_with_every_argument_that_a_profile_may_set(tmp_path: Path, name: str) -> None:
    serving = SERVING + OTHERS
    said = tomllib.loads(serving)["serving"]["chat"]["arguments"]
    assert set(said) == KINDS[KindName.LLAMA].arguments
    with started(tmp_path, serving) as other:
        wait_until(lambda: asks(other).returncode == 0 or not runs(other), 60, "an answer")
        assert runs(other), docker("logs", other).err[-2000:]


def test_it_stops_when_it_is_told_to(name: str) -> None:
    begun = time.monotonic()
    docker("stop", "--time", "30", name)
    assert time.monotonic() - begun < 15
