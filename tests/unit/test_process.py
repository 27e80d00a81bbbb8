from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aibox import process
from aibox.errors import Failed

PYTHON = sys.executable


def run(script: str, **options: object) -> process.Completed:
    settings: dict[str, object] = {"environment": process.environment(), "timeout_s": 20}
    return process.run([PYTHON, "-c", script], **(settings | options))  # type: ignore[arg-type]


def test_both_streams_arrive_line_by_line_and_a_progress_bar_counts_as_lines() -> None:
    told: list[str] = []
    done = run(
        "import sys; print('one', flush=True); sys.stderr.write('two\\rthree'); sys.exit(3)",
        on_line=told.append,
    )
    assert told == ["one", "two", "three"]
    assert (done.status, done.lines) == (3, ("one", "two", "three"))


def test_output_just_before_the_end_is_not_lost() -> None:
    assert len(run("print('x' * 60000)").lines[0]) == 60000


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    done = run("import sys; sys.stdout.write('x' * 1_000_000)")
    assert max(map(len, done.lines)) <= 2 * process.LONGEST_LINE


def test_only_listed_variables_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "hush")
    monkeypatch.setenv("PIP_INDEX_URL", "file:///mirror")
    chosen = process.environment({"EXTRA": "1"}, keep_prefixes=("PIP_",))
    assert "SECRET_TOKEN" not in chosen
    assert (chosen["PIP_INDEX_URL"], chosen["EXTRA"], chosen["LANG"]) == (
        "file:///mirror",
        "1",
        "C.UTF-8",
    )


def test_a_program_that_is_too_slow_is_ended_with_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = (
        "import subprocess, pathlib, time;"
        f"child = subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(60)']);"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    with pytest.raises(Failed) as caught:
        run(script, timeout_s=1.5)
    assert caught.value.reference == "program-too-slow"
    assert is_gone(int(note.read_text()))


def test_a_grandchild_that_keeps_the_output_open_is_not_waited_for() -> None:
    script = (
        "import subprocess;"
        f"print(subprocess.Popen([{PYTHON!r}, '-c', 'import time; time.sleep(30)']).pid)"
    )
    done = run(script)
    os.kill(int(done.lines[0]), 9)
    assert done.seconds < 10


def test_a_missing_program_is_an_error_with_a_way_out() -> None:
    with pytest.raises(Failed, match="no-such-program") as caught:
        process.run(["no-such-program"], environment=process.environment(), timeout_s=5)
    assert caught.value.reference == "program-not-started"


def test_the_caller_hears_from_a_silent_program() -> None:
    ticks: list[float] = []
    run("import time; time.sleep(1.3)", on_tick=lambda: ticks.append(time.monotonic()))
    assert len(ticks) >= 2


def test_open_files_are_not_inherited(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    try:
        done = run(f"import os; print(os.path.exists('/proc/self/fd/{descriptor}'))")
    finally:
        os.close(descriptor)
    assert done.text == "False"


def test_a_killed_caller_takes_the_program_along() -> None:
    script = (
        "from aibox import process; import sys;"
        "process.run([sys.executable, '-c', "
        "'import os, time; print(os.getpid(), flush=True); time.sleep(60)'],"
        "environment=process.environment(), timeout_s=60, on_line=lambda x: print(x, flush=True))"
    )
    caller = subprocess.Popen(
        [PYTHON, "-c", script],
        env={"PYTHONPATH": str(Path(process.__file__).parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert caller.stdout is not None
    program = int(caller.stdout.readline())
    caller.kill()
    caller.communicate()
    assert is_gone(program)


def is_gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False
