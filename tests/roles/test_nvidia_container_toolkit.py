"""The role nvidia_container_toolkit on a double of a GPU host: its programs are doubles."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aibox.preflight import read_report
from ansible_runs import Runs
from gpu_doubles import LOADED, VERSION, GpuHost, make

# A play of the whole role takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(400)

AVAILABLE = [
    "nvidia-container-toolkit-base=1.20.0-1",
    "libnvidia-container1=1.20.0-1",
    "libc6=2.41",
]
LIST = "GPU 0: NVIDIA A100 80GB PCIe (UUID: GPU-1111)\n"
SPEC = 'cdiVersion: 0.7.0\nkind: nvidia.com/gpu\ndevices:\n    - name: "0"\n    - name: GPU-1111\n'
ALL = "    - name: all\n"

Play = Callable[..., int]


@pytest.fixture
def host(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    """One with a driver, a toolkit, and Docker."""
    host = make(runs, monkeypatch)
    host.has("proc/driver/nvidia/version", LOADED.format(version=VERSION))
    host.says("list", LIST)
    host.says("spec", SPEC + ALL)
    host.says("toolkit", "1.20.0")
    host.says("cdi_folders", '["/etc/cdi","/var/run/cdi"]')
    return host


@pytest.fixture
def play(runs: Runs, host: GpuHost) -> Play:
    def play(entry: str, **more: object) -> int:
        name = "nvidia_container_toolkit"
        given = {
            f"{name}_state": host.state,
            f"{name}_available": AVAILABLE,
            f"{name}_image": "aibox/vllm:1",
            f"{name}_report": runs.folder / "report.json",
            f"__{name}_units": host.units,
            f"__{name}_spec": host.root / "var/run/cdi/nvidia.yaml",
            f"__{name}_driver_file": host.root / "proc/driver/nvidia/version",
        }
        playbook = runs.tasks(
            "    - name: Play\n      ansible.builtin.include_role:\n"
            f"        name: {name}\n        tasks_from: {entry}\n"
        )
        return runs.play(playbook, {**given, **more}).changed

    return play


def bad(runs: Runs) -> dict[str, str]:
    """The checks that are not well."""
    found = read_report(runs.folder / "report.json")
    return {one.check: one.status.value for one in found if one.status != "ok"}


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_changed_slices_are_listed_and_gpus_lost_after_a_reload_are_told(
    runs: Runs, host: GpuHost, play: Play
) -> None:
    assert play("refresh") == 1
    host.says("spec", SPEC.replace('"0"', '"0:0"') + ALL)
    assert play("refresh") == 1
    assert '"0:0"' in (host.root / "var/run/cdi/nvidia.yaml").read_text()
    host.says("loses")
    play("verify")
    assert bad(runs) == {"GPUs in a container": "veto"}
    assert not (host.state / "container").exists()


@pytest.mark.e2e
def test_before_a_driver_is_loaded_everything_waits_for_the_restart(
    runs: Runs, host: GpuHost, play: Play
) -> None:
    (host.root / "proc/driver/nvidia/version").unlink()
    play("create")
    assert host.calls("nvidia-ctk") == ["nvidia-ctk --version"]
    assert set(bad(runs).values()) == {"warn"}
    assert (host.state / "enabled.aibox-cdi.service").exists()
