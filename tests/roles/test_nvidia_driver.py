"""The role nvidia_driver on a double of a GPU host: NVIDIA's programs and apt are doubles."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

import pytest

from aibox.errors import Failed
from aibox.preflight import Finding, Status, read_report
from ansible_runs import Runs
from gpu_doubles import KERNEL, VERSION, GpuHost, make

# A play of the whole role takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(400)

OPEN = [f"linux-headers-{KERNEL}={VERSION}-1", f"nvidia-open-580={VERSION}-1"]
MANAGER = [f"nvidia-fabricmanager={VERSION}-1", f"libnvidia-nscq={VERSION}-1"]


@dataclass(frozen=True)
class Driver:
    """The role and the double it is run on."""

    runs: Runs
    host: GpuHost

    def play(self, entry: str, *, check: bool = False, **more: object) -> int:
        """Run an entry point; how many tasks changed something."""
        playbook = self.runs.tasks(
            "    - name: Play\n      ansible.builtin.include_role:\n"
            f"        name: nvidia_driver\n        tasks_from: {entry}\n"
        )
        return self.runs.play(playbook, {**self.variables(), **more}, check=check).changed

    def variables(self) -> dict[str, object]:
        root = self.host.root
        return {
            "nvidia_driver_state": self.host.state,
            "nvidia_driver_available": OPEN,
            "nvidia_driver_branch": 580,
            "nvidia_driver_modules": "open",
            "nvidia_driver_report": self.runs.folder / "report.json",
            "nvidia_driver_outcome": self.runs.folder / "outcome.json",
            "__nvidia_driver_root": root,
            "__nvidia_driver_blacklist": root / "etc/modprobe.d/aibox-nouveau.conf",
            "__nvidia_driver_load": root / "etc/modules-load.d/aibox-nvidia.conf",
            "__nvidia_driver_units": self.host.units,
            "__nvidia_driver_dkms": root / "usr/sbin/dkms",
            "__nvidia_driver_dkms_folder": root / "var/lib/dkms",
        }

    @property
    def findings(self) -> dict[str, Finding]:
        return {item.check: item for item in read_report(self.runs.folder / "report.json")}

    def bad(self) -> dict[str, Status]:
        """The checks that are not well."""
        return {name: item.status for name, item in self.findings.items() if item.status != "ok"}

    @property
    def outcome(self) -> dict[str, object]:
        outcome: dict[str, object] = json.loads((self.runs.folder / "outcome.json").read_text())
        return outcome

    def asked(self) -> list[list[str]]:
        """What the double of offline_repo was asked to install and to hold."""
        record = self.host.state / "nvidia_driver.packages.json"
        asked: list[list[str]] = json.loads(record.read_text())
        return asked


@pytest.fixture
def driver(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Driver:
    return Driver(runs, make(runs, monkeypatch))


def names(available: list[str]) -> list[str]:
    return [item.partition("=")[0] for item in available]


def untouched(driver: Driver, before: set[str]) -> bool:
    """Whether nothing has come to the host, and nothing was asked for."""
    state = driver.host.state
    record = state / "nvidia_driver.packages.json"
    return driver.host.files() == before and not record.exists() and not driver.host.calls("dkms")


def test_what_cannot_work_is_refused_before_anything_is_changed(driver: Driver) -> None:
    before = driver.host.files()
    with pytest.raises(Failed, match=r"linux-headers-6\.1\.0-1-amd64") as failure:
        driver.play("create", nvidia_driver_kernel="6.1.0-1-amd64")
    assert "nothing was changed" in failure.value.message
    assert driver.bad() == {"driver packages": Status.VETO}
    assert untouched(driver, before)


@pytest.mark.e2e
def test_a_module_that_does_not_compile_ends_the_play_with_the_compilers_words(
    driver: Driver,
) -> None:
    driver.host.says("broken")
    with pytest.raises(Failed, match=r"did not compile for the kernel .*make\.log"):
        driver.play("create")


@pytest.mark.e2e
def test_nouveau_and_switches_are_dealt_with_and_a_restart_is_only_reported(
    driver: Driver,
) -> None:
    driver.host.has("proc/modules", "nouveau 1 0 - Live 0x0\n")
    os.utime(driver.host.has(f"boot/initrd.img-{KERNEL}"), (1, 1))
    driver.host.says("unit.nvidia-fabricmanager.service")
    driver.play(
        "create", nvidia_driver_available=[*OPEN, *MANAGER], nvidia_driver_fabric="nvswitch"
    )
    assert driver.host.calls("update-initramfs") == [f"update-initramfs -u -k {KERNEL}"]
    assert driver.host.calls("modprobe") == []
    assert (driver.host.state / "enabled.nvidia-fabricmanager.service").exists()
    assert not (driver.host.state / "active.nvidia-fabricmanager.service").exists()
    assert driver.outcome["reboot_reasons"] == ["nouveau has the GPUs until then"]
    assert driver.findings["driver versions"].status is Status.WARN
    assert not [call for call in driver.host.calls("systemctl") if "reboot" in call]


@pytest.mark.e2e  # it plays several times: too long for ./test
def test_enrolment_is_a_phase_of_its_own_that_asks_once(driver: Driver) -> None:
    key, asked = "var/lib/dkms/mok.pub", {"nvidia_driver_hash_file": driver.host.has("hash")}
    with pytest.raises(Failed, match="dkms generate_mok"):
        driver.play("enrol", **asked)
    driver.host.has(key)
    assert driver.play("enrol", **asked) == 1
    assert driver.bad() == {"key of compiled modules": Status.WARN}
    assert driver.outcome["reboot_required"] is True
    assert driver.play("enrol", **asked) == 0
    driver.host.says("key", "is already enrolled")
    assert driver.play("enrol", **asked) == 0
    assert driver.bad() == {}
    assert driver.outcome == {"reboot_required": False, "reboot_reasons": []}
    imports = [call for call in driver.host.calls("mokutil") if "--import" in call]
    assert imports == [
        f"mokutil --import {driver.host.root / key} --hash-file {driver.host.root / 'hash'}"
    ]
