"""systemctl double: a script that notes how it was called and says what it was told to say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aibox.box.system_units import SystemUnits, UnitState, parse_states
from aibox.errors import Failed

SHOW = """\
Id=aibox@web.service
LoadState=loaded
ActiveState=active
SubState=running
NRestarts=4
Result=success

Id=aibox@old.service
LoadState=not-found
ActiveState=inactive
SubState=dead
NRestarts=
Result=success
"""


class SystemctlDouble:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.says("")
        script = folder / "systemctl"
        script.write_text(
            f'#!/bin/sh\nverb=$1; shift\necho "$verb $*" >> "{folder}/called"\n'
            f'cat "{folder}/says"\n[ "$verb" = reset-failed ] && exit 1\n'
            f'exit "$(cat "{folder}/status")"\n'
        )
        script.chmod(0o755)

    def says(self, text: str, status: int = 0) -> None:
        (self.folder / "says").write_text(text)
        (self.folder / "status").write_text(str(status))

    def called(self) -> list[str]:
        return (self.folder / "called").read_text().splitlines()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SystemctlDouble:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return SystemctlDouble(tmp_path)


def test_states_of_several_units_are_read(systemctl: SystemctlDouble) -> None:
    systemctl.says(SHOW)
    assert SystemUnits().states(["web", "old"]) == (
        UnitState("web", True, "active", "running", 4),
        UnitState("old", False, "inactive", "dead", 0),
    )
    (called,) = systemctl.called()
    assert called.startswith("show ")
    assert called.endswith(" aibox@web.service aibox@old.service")


def test_nothing_is_asked_about_no_unit(systemctl: SystemctlDouble) -> None:
    assert SystemUnits().states([]) == ()
    SystemUnits().stop([])
    assert not (systemctl.folder / "called").exists()


def test_known_units_are_listed_by_service(systemctl: SystemctlDouble) -> None:
    systemctl.says("aibox@web.service  loaded active running aibox: web\n"
                   "aibox@chat.service loaded failed failed  aibox: chat\n")  # fmt: skip
    assert SystemUnits().known() == ("web", "chat")


def test_a_start_forgets_earlier_failures_first(systemctl: SystemctlDouble) -> None:
    SystemUnits().start("web")
    SystemUnits().restart("chat")
    SystemUnits().stop(["web", "chat"])
    assert systemctl.called() == [
        "reset-failed --no-pager aibox@web.service",
        "start --no-pager aibox@web.service",
        "reset-failed --no-pager aibox@chat.service",
        "restart --no-pager aibox@chat.service",
        "stop --no-pager aibox@web.service aibox@chat.service",
    ]


def test_a_refusal_names_the_unit_and_where_to_read_on(systemctl: SystemctlDouble) -> None:
    systemctl.says("Failed to start aibox@web.service: Unit not found.", 5)
    with pytest.raises(Failed, match="could not start the service web") as caught:
        SystemUnits().start("web")
    assert "Unit not found" in caught.value.context
    assert caught.value.hint.endswith("journalctl --all --unit aibox@web")


def test_a_host_without_an_answering_systemd_is_told(systemctl: SystemctlDouble) -> None:
    systemctl.says("System has not been booted with systemd as init system", 1)
    with pytest.raises(Failed, match="systemd does not answer"):
        SystemUnits().known()


def test_what_systemd_leaves_out_does_not_stop_anybody() -> None:
    assert parse_states("") == ()
    assert parse_states("Id=aibox@a.service") == (UnitState("a", False, "unknown", "unknown", 0),)
