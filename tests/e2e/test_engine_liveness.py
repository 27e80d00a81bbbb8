"""The real vLLM, on the CPU, whose computing process stops: its health check notices and ends it.

What is stopped is the engine's core alone (SIGSTOP), so its server goes on saying that it is
healthy. Docker's own clock and systemd are not waited for: the check is run as Docker runs it, and
the container is started again as its unit does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

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
SHORT = {"ANSWER_S = 40": "ANSWER_S = 4", "STALLED_S = 120": "STALLED_S = 12"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = tmp_path_factory.mktemp("engine")
    with (
        daemon(tmp_path_factory.mktemp("docker")),
        started(folder, folder / "cache", instead=SHORT) as made,
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
