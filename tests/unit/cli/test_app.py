"""The error boundary: exit codes, one JSON contract, never a traceback for bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox import pipeline
from aibox.cli import app
from aibox.errors import (
    AiboxError,
    BadUsage,
    ExitCode,
    Failed,
    Fault,
    NeedsPerson,
    PreflightVeto,
    RolledBack,
    VerificationRefused,
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """The whole command line in this process, on a box root that does not exist."""
    monkeypatch.setenv("AIBOX_HOME", str(tmp_path / "box"))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["aibox", *words])
        with pytest.raises(SystemExit) as caught:
            app.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (Failed, 1),
        (BadUsage, 2),
        (PreflightVeto, 3),
        (VerificationRefused, 4),
        (RolledBack, 5),
        (NeedsPerson, 6),
    ],
)
def test_every_kind_of_error_has_its_exit_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, kind: type[AiboxError], code: int
) -> None:
    def fail(*_: object) -> None:
        raise kind("some-reference", "it broke", hint="type: aibox status", fault=Fault.HOST)

    monkeypatch.setattr(pipeline, "history", fail)
    status, out, err = run("history", "--json")
    assert status == code
    assert json.loads(out)["exit_code"] == code
    assert "error[some-reference]: it broke" in err


def test_an_error_in_json_names_what_scripts_rely_on(run: Run) -> None:
    status, out, _ = run("ask", "anything?", "--json")
    assert status == ExitCode.BAD_USAGE
    assert {"reference", "message", "hint", "fault", "exit_code"} <= json.loads(out).keys()


def test_a_bug_is_called_a_bug_and_shows_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(pipeline, "history", bug)
    status, out, err = run("history")
    assert (status, out) == (1, "")
    assert "error[bug]" in err
    assert "Traceback" not in err
    assert "fault: us" in err


def test_an_interrupt_says_how_to_recover(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "history", interrupt)
    status, _, err = run("history")
    assert status == ExitCode.FAILED
    assert "./aibox recover" in err


@pytest.mark.parametrize(
    "words",
    [
        ("no-such-command",),
        ("install", "--profile"),
        ("install", "--port", "80"),
        ("rollback", "--to", "zero"),
        ("gc", "--keep", "1"),
        ("docs", "remove"),
        ("profiles", "show"),
        ("install", "--profile", "no-such-profile"),
        ("install",),
        ("install", "--profile", "local", "--engine-model", "m"),
        ("install", "--profile", "local", "--engine-url", "not a url", "--engine-model", "m"),
        ("install", "--profile", "local", "--lockfile", "/does/not/exist"),
        ("install", "--profile", "local", "--inventory", "/does/not/exist"),
        ("upgrade",),
        ("rollback",),
        ("start",),
        ("health",),
        ("docs", "list"),
        ("uninstall",),
    ],
)
def test_bad_usage_is_exit_2_without_a_traceback(run: Run, words: tuple[str, ...]) -> None:
    status, _, err = run(*words)
    assert status == ExitCode.BAD_USAGE, err
    assert "Traceback" not in err


def test_a_wrong_option_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    run("install", "--profile", "local", "--inventory", "/does/not/exist")
    assert not (tmp_path / "box").exists()


def test_looking_at_a_box_that_does_not_exist_makes_nothing(run: Run, tmp_path: Path) -> None:
    for command in ("status", "history"):
        status, _, _ = run(command, "--json")
        assert status == ExitCode.DONE
    assert not (tmp_path / "box").exists()


def test_data_goes_to_stdout_alone(run: Run) -> None:
    status, out, err = run("profiles", "--json")
    assert status == ExitCode.DONE
    assert "local" in {row["name"] for row in json.loads(out)}
    assert err == ""


def test_every_command_explains_itself(run: Run) -> None:
    status, out, _ = run("--help")
    assert status == ExitCode.DONE
    for command in ("install", "upgrade", "rollback", "recover", "status", "ask", "doctor"):
        assert command in out
        assert run(command, "--help")[0] == ExitCode.DONE


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (("bundle", "build"), "./aibox bundle build --help"),
        (("bundle", "build", "--profile", "local", "--bogus"), "./aibox bundle build --help"),
        (("bundle", "bild"), "./aibox bundle --help"),
        (("trust", "init"), "./aibox trust init --help"),
        (("rollback", "--to", "x"), "./aibox rollback --help"),
        (("nonsense",), "./aibox --help"),
    ],
)
def test_words_that_are_not_understood_are_an_error_like_any_other(
    run: Run, words: tuple[str, ...], command: str
) -> None:
    status, out, err = run(*words, "--json")
    told = json.loads(out)
    assert (status, told["reference"], told["exit_code"]) == (2, "wrong-usage", 2)
    assert told["hint"].endswith(command)
    assert "error[wrong-usage]" in err


@pytest.mark.parametrize("words", [(), ("bundle",), ("trust",)])
def test_a_group_without_a_command_explains_itself(run: Run, words: tuple[str, ...]) -> None:
    status, out, err = run(*words)
    assert (status, out) == (2, "")
    assert "Usage: aibox" in err


def test_help_is_no_error(run: Run) -> None:
    status, out, _ = run("bundle", "build", "--help")
    assert status == 0
    assert "--output" in out


@pytest.mark.parametrize(
    ("words", "stdout", "code", "told"),
    [
        ("--version", ">/dev/full", 1, "output-not-written"),
        ("--help", ">/dev/full", 1, "output-not-written"),
        ("--version", ">&-", 1, "output-not-written"),
        ("profiles junk --json", ">&-", 2, "profiles-usage"),
        ("profiles junk --json", "| true", 2, "profiles-usage"),
        ("profiles show local", "2>&- <&-", 0, ""),
    ],
)
def test_an_output_that_takes_nothing_is_told_and_has_an_exit_code(
    words: str, stdout: str, code: int, told: str
) -> None:
    command = f"{sys.executable} -P -m aibox {words} {stdout}"
    if stdout.startswith("|"):
        command = f"set -o pipefail; (sleep 0.2; {command.replace('|', ') |')}"
    ended = subprocess.run(
        ["bash", "-c", command],
        env={"PYTHONPATH": str(Path(app.__file__).parents[2]), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


@pytest.mark.parametrize("where", ["history", "in the command"])
def test_an_interrupt_is_told_like_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if where == "history":
        monkeypatch.setattr(pipeline, "history", interrupt)
    else:
        monkeypatch.setattr(app, "program", interrupt)
    status, out, err = run("history", "--json")
    assert (status, json.loads(out)["reference"]) == (1, "interrupted")
    assert "error[interrupted]" in err


@pytest.mark.parametrize("command", ["recover", "start", "stop", "rollback", "gc", "uninstall"])
def test_what_needs_a_box_refuses_without_one_and_makes_none(
    run: Run, tmp_path: Path, command: str
) -> None:
    code, out, _ = run(command, "--json")
    assert (code, json.loads(out)["reference"]) == (ExitCode.BAD_USAGE, "no-box")
    assert list(tmp_path.iterdir()) == []
