"""Tools of the packager's machine: missing ones named, slow ones heard of, proxies passed on."""

from __future__ import annotations

import os
import sys

import pytest

from aibox import process
from aibox.bundle.build import programs
from aibox.errors import Failed
from package_archives import Said


def test_a_missing_tool_is_named_with_its_package() -> None:
    with pytest.raises(Failed, match="no-such-tool") as error:
        programs.require({"no-such-tool": "some-package", "sh": "dash"}, "./aibox lock")
    assert "apt-get install some-package)" in error.value.hint
    assert error.value.hint.endswith("./aibox lock")


def test_tools_that_are_there_are_no_news() -> None:
    programs.require({"sh": "dash"}, "./aibox lock")


def test_a_program_that_takes_long_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "HEARTBEAT_S", 0.0)
    said = Said()
    # It works for longer than two of the reader's ticks of half a second.
    script = "import time; print('working', flush=True); time.sleep(1.2); print('done')"
    done, lines = programs.spoken(
        [sys.executable, "-c", script],
        environment=process.environment(),
        timeout_s=60,
        report=said,
        step="step",
        what="the tool",
    )
    assert (done.status, lines) == (0, ("working", "done"))
    assert any(item.message.endswith("s: working") for item in said.lines)


def test_more_lines_than_are_kept_elsewhere_are_returned() -> None:
    _, lines = programs.spoken(
        [sys.executable, "-c", "for n in range(2000): print(n)"],
        environment=process.environment(),
        timeout_s=60,
        report=Said(),
        step="step",
        what="the tool",
    )
    assert len(lines) == 2000


def test_proxies_are_passed_by_the_names_apt_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower() in programs.PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setenv("SECRET", "x")
    found = programs.network_environment({"APT_CONFIG": "/x"})
    assert found["https_proxy"] == "http://proxy.example:3128"
    assert found["no_proxy"] == "localhost"
    assert found["APT_CONFIG"] == "/x"
    assert "SECRET" not in found


def test_a_workspace_is_open_to_apts_own_user_and_gone_afterwards() -> None:
    with programs.workspace("test") as folder:
        assert folder.stat().st_mode & 0o055 == 0o055
        (folder / "x").write_text("x")
    assert not folder.exists()
