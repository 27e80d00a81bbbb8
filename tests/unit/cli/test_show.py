"""What people and scripts see."""

from __future__ import annotations

import errno
import io
import sys
import time

import pytest

from aibox.cli import show
from aibox.errors import Failed
from aibox.progress import Meter, Progress


def test_silence_is_filled_within_five_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "_HEARTBEAT_S", 0.1)
    with show.progress() as report:
        report(Progress("stage", "importing"))
        deadline = time.monotonic() + 5
        err = ""
        while "… " not in err and time.monotonic() < deadline:
            time.sleep(0.05)
            err += capsys.readouterr().err
    assert "[stage] importing" in err
    assert "s: importing" in err


def test_a_table_lines_its_columns_up(capsys: pytest.CaptureFixture[str]) -> None:
    show.table([{"name": "a", "state": "ready"}, {"name": "long", "state": "x"}], ("name", "state"))
    assert capsys.readouterr().out == "name  state\na     ready\nlong  x\n"


class FullDisk(io.StringIO):
    """A double of an output that a full disk is behind."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_behind_the_output_is_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    for tell in (lambda: show.data({}), lambda: show.text("x")):
        with pytest.raises(Failed) as caught:
            tell()
    show.error(caught.value, as_json=True)
    assert "error[output-not-written]" in capsys.readouterr().err
    assert caught.value.hint.endswith("df -h .")


def test_a_transfer_tells_bytes_rate_and_time_left() -> None:
    lines: list[str] = []
    now = [0.0]
    meter = Meter("stage", "packages", 4 << 20, lambda p: lines.append(p.message), lambda: now[0])
    meter.add(1 << 20)
    now[0] = 2.0
    meter.add(1 << 20)
    assert lines == ["packages: 2.0 of 4.0 MiB, 1.0 MiB/s, 2 s left"]
