"""The program that asks an engine for a word: what it calls stalled, ends, and tells."""

from __future__ import annotations

import http.server
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import stack_examples

STALLED_S = 100.0


def program() -> ModuleType:
    """The rendered program as a module, not run."""
    made = stack_examples.rendered()
    module = ModuleType("ask")
    exec(compile(made.files["config/chat.ask.py"], "ask.py", "exec"), module.__dict__)
    return module


ASK: Any = program()

COUNTER = st.none() | st.integers(0, 3).map(float)
PART = st.tuples(
    st.floats(0, 60), st.floats(0, 60), st.sampled_from(["answers", "silent", "no answer: x"]),
    COUNTER, COUNTER,
)  # fmt: skip


@st.composite
def samples(draw: st.DrawFn) -> list[list[Any]]:
    """What was seen, one after the other."""
    now, made = 0.0, []
    for pause, lasted, how, before, after in draw(st.lists(PART, min_size=1, max_size=12)):
        begun = now + pause
        now = begun + lasted
        made.append([begun, now, how, before, after])
    return made


def silent(begun: float, ended: float, before: float | None, after: float | None) -> list[Any]:
    return [begun, ended, "silent", before, after]


@given(samples())
def test_who_answers_is_never_stalled_whatever_was_before(seen: list[list[Any]]) -> None:
    answered = [*seen, [seen[-1][1], seen[-1][1] + 1, "answers", 1.0, 1.0]]
    assert ASK.verdict(answered, STALLED_S) == "answers"


@given(samples())
def test_stalled_means_silence_without_progress_for_as_long(seen: list[list[Any]]) -> None:
    if ASK.verdict(seen, STALLED_S) != "stalled":
        return
    end = seen[-1][1]
    window = [one for one in seen if one[1] > end - STALLED_S]
    assert all(how == "silent" for _, _, how, _, _ in window)
    assert len({counter for one in window for counter in one[3:] if counter is not None}) <= 1
    silence = list(itertools.takewhile(lambda one: one[2] == "silent", reversed(seen)))
    assert silence[-1][0] <= end - STALLED_S


@given(samples(), st.floats(0, 500))
def test_more_patience_never_makes_it_worse(seen: list[list[Any]], more_s: float) -> None:
    patient = ASK.verdict(seen, STALLED_S + more_s)
    assert patient != "stalled" or ASK.verdict(seen, STALLED_S) == "stalled"


@given(samples())
def test_an_engine_that_computes_works_however_long_the_question_waits(
    seen: list[list[Any]],
) -> None:
    end = seen[-1][1]
    assert ASK.verdict([*seen, silent(end, end + 900, 7.0, 8.0)], STALLED_S) == "works"


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        ([silent(0, 40, 5.0, 5.0)], "waits"),
        ([silent(0, 40, 5.0, 5.0), silent(70, 110, 5.0, 5.0)], "stalled"),
        ([silent(0, 40, 4.0, 5.0), silent(70, 110, 5.0, 5.0)], "waits"),
        ([silent(0, 40, None, None), silent(70, 110, None, None)], "stalled"),
        ([silent(0, 40, 5.0, None), silent(70, 110, None, 5.0)], "stalled"),
        ([silent(0, 40, 5.0, 5.0), silent(70, 110, 0.0, 0.0)], "waits"),
        ([[0, 1, "no answer: refused", None, None], silent(2, 42, None, None)], "waits"),
    ],
)
def test_verdicts(seen: list[list[Any]], found: str) -> None:
    assert ASK.verdict(seen, STALLED_S) == found


@given(st.lists(st.floats(0, 20_000), max_size=12), st.floats(0, 20_000))
def test_an_engine_is_ended_so_often_and_no_oftener(ended: list[float], now: float) -> None:
    recent = [moment for moment in ended if now - ASK.WITHIN_S < moment <= now]
    assert ASK.may_end(ended, now) == (len(recent) < ASK.RESTARTS)


# -- with an engine: a double that answers, is full, or hangs ------------------------------------


class Engine(http.server.BaseHTTPRequestHandler):
    """A double of vLLM's server: `behaviour` says what becomes of a question."""

    behaviour = "answers"
    tokens = 0
    moves = False
    keys: set[str] = set()  # noqa: RUF012 - one double at a time

    def do_GET(self) -> None:
        Engine.tokens += Engine.moves
        text = f'vllm:generation_tokens_total{{engine="0"}} {Engine.tokens}.0\n'
        self._say(200, text.encode())

    def do_POST(self) -> None:
        Engine.keys.add(self.headers["Authorization"])
        self.rfile.read(int(self.headers["Content-Length"]))
        match Engine.behaviour:
            case "answers":
                self._say(200, json.dumps({"choices": [{"text": "1"}]}).encode())
            case "full":
                self._say(503, b"{}")
            case "refuses":
                self._say(401, b"{}")
            case _:
                time.sleep(0.5)

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def engine(behaviour: str, *, moves: bool = False) -> Iterator[str]:
    Engine.behaviour, Engine.moves, Engine.tokens = behaviour, moves, 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """The program with its files in a folder, short times, and an end that is only noted."""
    (tmp_path / "key").write_text("k\n")
    values = {
        "KEY_FILE": str(tmp_path / "key"), "SAMPLES": str(tmp_path / "samples"),
        "ENDED": str(tmp_path / "stalls.json"), "ANSWER_S": 0.1, "METRICS_S": 1, "STALLED_S": 0.25,
        "READY_S": 0.25, "LOOK_S": 0.05,
    }  # fmt: skip
    for name, value in values.items():
        monkeypatch.setattr(ASK, name, value)
    monkeypatch.setattr(ASK, "end", lambda: (tmp_path / "was-ended").touch())

    def run(address: str) -> int:
        monkeypatch.setattr(ASK, "ADDRESS", address)
        return int(ASK.main())

    return run


def test_an_answer_is_health(asking: Callable[[str], int]) -> None:
    with engine("answers") as address:
        assert asking(address) == 0
    assert Engine.keys == {"Bearer k"}


def test_a_hanging_engine_is_ended_a_few_times_and_then_left(
    asking: Callable[[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine("hangs") as address:
        for restarts in range(ASK.RESTARTS):
            while not (tmp_path / "was-ended").exists():
                assert asking(address) == 1
                time.sleep(0.05)
            assert len(json.loads((tmp_path / "stalls.json").read_text())) == restarts + 1
            assert "started anew" in capsys.readouterr().out
            (tmp_path / "was-ended").unlink()
            (tmp_path / "samples").unlink()
        for _ in range(4):
            asking(address)
        assert not (tmp_path / "was-ended").exists()
    assert "left as it is" in capsys.readouterr().out


def test_an_engine_that_still_loads_its_weights_has_as_long_as_a_start_may_take(
    asking: Callable[[str], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ASK, "READY_S", 60)
    with engine("full") as address:
        for _ in range(8):
            assert asking(address) == 1
            time.sleep(0.05)
        assert not (tmp_path / "was-ended").exists()
        Engine.behaviour = "answers"
        assert asking(address) == 0
        Engine.behaviour = "full"
        while not (tmp_path / "was-ended").exists():
            assert asking(address) == 1
            time.sleep(0.05)


@pytest.mark.parametrize("behaviour", ["hangs", "full"])
def test_an_engine_that_is_full_and_works_is_healthy(
    asking: Callable[[str], int], tmp_path: Path, behaviour: str
) -> None:
    with engine(behaviour, moves=True) as address:
        assert [asking(address) for _ in range(5)] == [0] * 5
    assert not (tmp_path / "was-ended").exists()


def test_an_engine_that_refuses_or_is_not_there_yet_is_not_ended(
    asking: Callable[[str], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine("refuses") as address:
        assert [asking(address) for _ in range(4)] == [1] * 4
        assert "401" in capsys.readouterr().out
    assert [asking("http://127.0.0.1:9") for _ in range(4)] == [1] * 4
    assert not (tmp_path / "was-ended").exists()
