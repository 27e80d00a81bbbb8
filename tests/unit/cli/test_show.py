"""What people and scripts see."""

from __future__ import annotations

import errno
import io
import json
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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_bug_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    monkeypatch.setattr(sys, stream, None)
    show.note("beside the data")
    if stream == "stderr":
        show.text("the data")
        assert capsys.readouterr().out == "the data\n"
        return
    with pytest.raises(Failed) as caught:
        show.text("the data")
    show.error(caught.value, as_json=True)
    assert "it is closed" in capsys.readouterr().err


def test_the_name_of_a_file_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show.text("a\x1b[31m\x9bb\tc\nd")
    show.note("upload e\x1b]0;x\x07.md")
    show.table([{"name": "two\nlines\x1b[2J"}], ("name",))
    told = capsys.readouterr()
    assert told.out.startswith("a\\x1b[31m\\x9bb\tc\nd\n")
    assert told.out.endswith("name\ntwo\\nlines\\x1b[2J\n")
    assert told.err == "upload e\\x1b]0;x\\x07.md\n"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "euc-kr"])
def test_what_a_terminal_has_no_characters_for_is_written_out(
    monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding, errors="surrogateescape"))
    said = {"name": "휴가 é \udcff 🙂"}
    show.data(said)
    assert json.loads(raw.getvalue().decode(encoding)) == said
    show.text("휴가 \udcff")
    assert raw.getvalue().decode(encoding).endswith("\\udcff\n")


def test_a_transfer_tells_bytes_rate_and_time_left() -> None:
    lines: list[str] = []
    now = [0.0]
    meter = Meter("stage", "packages", 4 << 20, lambda p: lines.append(p.message), lambda: now[0])
    meter.add(1 << 20)
    now[0] = 2.0
    meter.add(1 << 20)
    assert lines == ["packages: 2.0 of 4.0 MiB, 1.0 MiB/s, 2 s left"]
