"""Stopping Ansible, with doubles of it that lose a worker or a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest

from aibox.box import ansible_interrupter
from aibox.box.ansible_interrupter import Interrupter, holders

# Both ignore nothing; the worker is a session of its own, like Ansible's, and holds the pipe.
LOSES_ITS_WORKER = """
import os, signal, time
worker = os.fork()
if worker == 0:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    print("worker", flush=True)
else:
    signal.signal(signal.SIGINT, lambda *_: os._exit(99))
time.sleep(60)
"""
HEARS_THE_SECOND_SIGNAL_ONLY = """
import signal, time
signal.signal(signal.SIGINT, lambda *_: signal.signal(signal.SIGINT, signal.SIG_DFL))
print("ready", flush=True)
while True:
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def prompt() -> Iterator[None]:
    """Fails a test in which a double slept to its end instead of being stopped."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30


def start(code: str) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    return process, process.stdout


@pytest.mark.parametrize("code", [LOSES_ITS_WORKER, HEARS_THE_SECOND_SIGNAL_ONLY])
def test_asks_until_nobody_holds_the_pipe(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ansible_interrupter, "ASK_AGAIN_S", 0.2)
    process, pipe = start(code)
    with Interrupter() as interrupter, pipe, interrupter.watching(process, pipe):
        pipe.readline()
        os.kill(os.getpid(), signal.SIGTERM)
        assert pipe.read() == b""
    assert interrupter.asked
    assert process.returncode in (99, -signal.SIGINT)


def test_waits_for_lost_workers_also_when_nobody_reads_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ansible_interrupter, "ASK_AGAIN_S", 0.2)
    process, pipe = start(LOSES_ITS_WORKER)
    inode = os.fstat(pipe.fileno()).st_ino
    with Interrupter() as interrupter:
        with pytest.raises(ValueError, match="display"), interrupter.watching(process, pipe), pipe:
            pipe.readline()
            raise ValueError("the display broke")
        assert not interrupter.asked
    assert holders(inode) == set()


def test_a_signal_before_the_start_stops_at_once() -> None:
    with Interrupter() as interrupter:
        os.kill(os.getpid(), signal.SIGINT)
        process, pipe = start("import time; time.sleep(60)")
        with pipe, interrupter.watching(process, pipe):
            assert pipe.read() == b""


def test_leaves_a_process_alone_that_ends_by_itself() -> None:
    process, pipe = start("print('done')")
    with Interrupter() as interrupter, pipe, interrupter.watching(process, pipe):
        assert pipe.read() == b"done\n"
    assert (process.returncode, interrupter.asked) == (0, False)
