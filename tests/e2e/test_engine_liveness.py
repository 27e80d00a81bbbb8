"""The real vLLM, on the CPU, whose computing process stops: its health check notices and ends it.

What is stopped is the engine's core alone (SIGSTOP), so its server goes on saying that it is
healthy. Docker's own clock and systemd are not waited for: the check is run as Docker runs it, and
the container is started again as its unit does.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

import hand_made_model
import stack_examples as stacks
from rag_app.config import Engine as RagEngine
from rag_app.config import Tuning
from rag_app.engines.openai import OpenAIEngine
from rag_app.errors import EngineBusy
from rag_app.model import Passage
from rag_app.prompts import PromptTexts

from . import service_images
from .journey import wait_until
from .real_engine import KEY, Engine, started
from .systemd_host import daemon, docker, why_not

REASON = why_not() or service_images.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(900),
    pytest.mark.enable_socket,
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

# Shorter than a site's, so that nobody waits for minutes here.
MOST = 2
SERVING = stacks.CHAT + f"max-num-queued-reqs = {MOST}\n"
TUNING = Tuning(
    chunk_size=600, chunk_overlap=80, top_k=4, candidates=20, fusion_k=60, weight_sparse=1,
    weight_dense=0, bm25_k1=1.2, bm25_b=0.75, evidence_threshold=0.3, max_quotes=3,
    max_answer_tokens=40,
)  # fmt: skip
PASSAGE = Passage(
    chunk_id=1, document_id="d", document="d.md", text="Text.", start=0, end=5, score=1,
    evidence=1, page=1,
)  # fmt: skip
SHORT = {"ANSWER_S = 40": "ANSWER_S = 4", "STALLED_S = 120": "STALLED_S = 12"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    with (
        daemon(tmp_path_factory.mktemp("docker")),
        started(folder, folder / "cache", SERVING, instead=SHORT) as made,
    ):
        # The first question compiles.
        wait_until(lambda: made.asks().returncode == 0, 300, "an answer of the engine")
        yield made


def test_an_engine_whose_core_stops_is_ended_and_answers_after_its_next_start(
    engine: Engine, figure: Callable[[str], None]
) -> None:
    os.kill(engine.core(), signal.SIGSTOP)
    begun = time.monotonic()
    first = engine.asks()
    assert (first.returncode, first.stdout) == (1, "it does not answer yet\n")
    assert engine.health_page() == 200
    while engine.runs():
        assert time.monotonic() - begun < 120, engine.log()[-3000:]
        engine.asks()
        time.sleep(1)
    figure(f"an engine that hangs: ended {time.monotonic() - begun:.1f} s after its core stopped")
    assert "neither answered nor computed for 12 s" in engine.log()
    assert len(json.loads((engine.folder / "cache/stalls.json").read_text())) == 1
    docker("start", engine.name)
    wait_until(lambda: engine.asks().returncode == 0, 300, "an answer after the start")
    figure(f"and it answered again after {time.monotonic() - begun:.1f} s")


def test_a_core_that_is_only_slow_for_a_while_is_left_alone(engine: Engine) -> None:
    core = engine.core()
    os.kill(core, signal.SIGSTOP)
    try:
        assert engine.asks().returncode == 1
    finally:
        os.kill(core, signal.SIGCONT)
    wait_until(lambda: engine.asks().returncode == 0, 60, "an answer again")
    assert engine.core() == core


def test_an_engine_that_is_full_says_so_to_the_application_and_is_left_alone(
    engine: Engine, tmp_path: Path
) -> None:
    """Its own limit (`max-num-queued-reqs`), which no box of ours should ever reach."""
    wanted = {"model": "small", "prompt": "1", "max_tokens": 900, "ignore_eos": True}
    headers = {"Authorization": f"Bearer {KEY}"}

    async def work() -> int:
        async with AsyncExitStack() as open_until_the_end:
            client = await open_until_the_end.enter_async_context(
                httpx.AsyncClient(
                    base_url=engine.address(), headers=headers, trust_env=False, timeout=120
                )
            )
            under_way = []
            for _ in range(MOST):
                answer = client.stream("POST", "/v1/completions", json={**wanted, "stream": True})
                lines = (await open_until_the_end.enter_async_context(answer)).aiter_lines()
                assert "text" in await anext(lines), "it is written, so it has its place"
                under_way.append(lines)
            with pytest.raises(EngineBusy):
                await _asked(engine.address(), tmp_path)
            check = await asyncio.to_thread(engine.asks)
            for lines in under_way:
                assert "data: [DONE]" in [line async for line in lines]
            assert await _asked(engine.address(), tmp_path) == hand_made_model.ANSWER
            return check.returncode

    assert asyncio.run(work()) == 0


async def _asked(address: str, folder: Path) -> str:
    """What the application's own client gets; it does not wait for a place."""
    key = folder / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    client = OpenAIEngine(
        RagEngine(kind="openai", url=f"{address}/v1", model="small", api_key_file=key),
        TUNING,
        PromptTexts("Answer.", "{passages}\n{question}", {"en": "none", "ko": "none"}),
        connections=1,
        patience_s=0.0,
    )
    try:
        pieces = [piece async for piece in client.stream("Why?", [PASSAGE], "en")]
    finally:
        await client.close()
    return "".join(piece for piece in pieces if isinstance(piece, str))


def test_an_answer_in_the_works_is_written_to_its_end_when_the_engine_is_told_to_stop(
    engine: Engine, figure: Callable[[str], None]
) -> None:
    """The last test: after it the engine is gone."""
    wanted = {"model": "small", "prompt": "1", "max_tokens": 900, "ignore_eos": True}
    request = {"json": {**wanted, "stream": True}, "headers": {"Authorization": f"Bearer {KEY}"}}
    with (
        httpx.Client(trust_env=False, timeout=120) as client,
        client.stream("POST", f"{engine.address()}/v1/completions", **request) as response,
    ):
        lines = (line for line in response.iter_lines() if line.startswith("data: {"))
        pieces = [next(lines)]
        stopping = subprocess.Popen(["docker", "stop", "--time", "150", engine.name])
        begun = time.monotonic()
        pieces += lines
    assert json.loads(pieces[-1].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
    figure(f"told to stop, the engine wrote {time.monotonic() - begun:.1f} s to the answer's end")
    assert stopping.wait(150) == 0
    figure(f"and ended after {time.monotonic() - begun:.1f} s, of the 150 that it has")
    assert time.monotonic() - begun < 140
