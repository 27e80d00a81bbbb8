"""The role mig on a double of a GPU host: nvidia-mig-parted and nvidia-smi are doubles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from aibox.errors import Failed
from aibox.preflight import Finding
from ansible_runs import Runs
from gpu_doubles import LOADED, VERSION, GpuHost, make
from role_tables import value

# A play of the whole role takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(400)

LAYOUT = [
    {"devices": [0], "mig-enabled": False},
    {"devices": [1], "mig-enabled": True, "mig-devices": {"3g.40gb": 2}},
]
SPEC = 'kind: nvidia.com/gpu\ndevices:\n    - name: "1:0"\n    - name: all\n'

Play = Callable[..., int]


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    host = make(runs, monkeypatch)
    host.has("proc/driver/nvidia/version", LOADED.format(version=VERSION))
    host.says("mig_modes", "Disabled, Disabled\nEnabled, Enabled\n")
    host.says("spec", SPEC)
    return host


@pytest.fixture
def play(runs: Runs, host: GpuHost) -> Play:
    def play(entry: str, **more: object) -> int:
        driver = host.root / "proc/driver/nvidia/version"
        given = {
            "mig_state": host.state,
            "mig_report": runs.folder / "report.json",
            "mig_outcome": runs.folder / "outcome.json",
            "__mig_units": host.units,
            "__mig_file": host.root / "etc/aibox/mig.yaml",
            "__mig_driver_file": driver,
            "__nvidia_container_toolkit_spec": host.root / "var/run/cdi/nvidia.yaml",
            "__nvidia_container_toolkit_driver_file": driver,
        }
        playbook = runs.tasks(
            "    - name: Play\n      ansible.builtin.include_role:\n"
            f"        name: mig\n        tasks_from: {entry}\n"
        )
        return runs.play(playbook, {**given, **more}).changed

    return play


def test_gpus_are_left_as_they_are_by_default(host: GpuHost, play: Play) -> None:
    assert play("create") == 0
    assert host.calls("nvidia-mig-parted") == []


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_gpus_in_use_are_left_alone(host: GpuHost, play: Play) -> None:
    host.says("users", "4711, /usr/bin/python3\n")
    with pytest.raises(Failed, match=r"4711, /usr/bin/python3.*\./aibox stop"):
        play("create", mig_layout=LAYOUT)
    assert not (host.state / "divided").exists()


def said(name: str, **more: Any) -> Any:
    """What the table says of a double of a host that is divided as declared but for `more`."""
    given = {
        "__mig_driver": {"rc": 0},
        "__mig_assertion": {"rc": 0, "stderr": ""},
        "__mig_asked": {"stdout_lines": ["Disabled, Disabled", "Enabled, Enabled"]},
        "__mig_applied": {"rc": 0, "stderr": ""},
        "mig_layout": LAYOUT,
    }
    return value("mig", name, {**given, **more})


NOT_SO = {"__mig_assertion": {"rc": 1, "stderr": "ERRO not applied"}}


@pytest.mark.parametrize(
    ("more", "status", "reboot"),
    [
        ({}, "ok", False),
        ({"mig_layout": []}, "ok", False),
        (NOT_SO, "veto", False),
        ({**NOT_SO, "__mig_driver": {"rc": 1}}, "warn", True),
        ({**NOT_SO, "__mig_asked": {"stdout_lines": ["Disabled, Enabled"]}}, "warn", True),
        ({**NOT_SO, "__mig_asked": {"stdout_lines": ["[N/A], [N/A]"]}}, "veto", False),
    ],
)
def test_a_host_is_judged(more: dict[str, Any], status: str, reboot: bool) -> None:
    (finding,) = TypeAdapter(list[Finding]).validate_python(said("__mig_findings", **more))
    assert finding.status == status
    assert ": " in finding.fix
    assert said("__mig_result", **more)["reboot_required"] is reboot
