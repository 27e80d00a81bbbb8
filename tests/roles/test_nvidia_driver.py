"""The role nvidia_driver on a double of a GPU host: NVIDIA's programs and apt are doubles."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from aibox.errors import Failed
from aibox.preflight import Finding, Status, read_report
from ansible_runs import Runs
from gpu_doubles import FABRIC, KERNEL, LOADED, VERSION, GpuHost, make

OPEN = [f"linux-headers-{KERNEL}={VERSION}-1", f"nvidia-open-580={VERSION}-1"]
MANAGER = [f"nvidia-fabricmanager={VERSION}-1", f"libnvidia-nscq={VERSION}-1"]
SIGNED = [
    *(
        f"linux-modules-nvidia-580-server-open-{KERNEL}=6.8",
        f"linux-signatures-nvidia-{KERNEL}=6.8",
    ),
    *(
        f"nvidia-headless-no-dkms-580-server-open={VERSION}-1",
        f"nvidia-utils-580-server={VERSION}-1",
    ),
    f"libnvidia-compute-580-server={VERSION}-1",
]
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


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


def test_check_mode_on_a_host_without_a_driver_changes_nothing(driver: Driver) -> None:
    before = driver.host.files()
    assert driver.play("create", check=True) > 0
    assert driver.host.files() == before
    assert not driver.host.calls("modprobe")
    assert not (driver.host.state / "nvidia_driver.packages.json").exists()
    assert not (driver.host.state / "holds").read_text()


def test_a_driver_is_installed_compiled_held_started_and_found_well(driver: Driver) -> None:
    driver.play("create")
    assert driver.asked() == [names(OPEN), names(OPEN)]
    assert driver.host.calls("dkms") == [f"dkms autoinstall -k {KERNEL}"]
    assert driver.host.calls("modprobe") == ["modprobe --all nvidia nvidia-uvm nvidia-modeset"]
    assert driver.bad() == {}
    assert driver.outcome == {
        "reboot_required": False,
        "reboot_reasons": [],
        "route": "nvidia-open",
        "version": VERSION,
        "kernel": KERNEL,
        "packages": names(OPEN),
    }
    holds = (driver.host.state / "holds").read_text().split()
    assert holds == ["linux-headers-amd64", "linux-image-amd64"]
    files = driver.host.files()
    assert "etc/modprobe.d/aibox-nouveau.conf" in files
    assert "etc/modules-load.d/aibox-nvidia.conf" in files
    assert (driver.host.state / "enabled.aibox-nvidia-persistence.service").exists()


def test_a_second_run_changes_nothing_and_removal_leaves_nothing(driver: Driver) -> None:
    before = driver.host.files() - {"proc/modules"}
    driver.play("create")
    assert driver.play("create") == 0
    driver.play("remove")
    assert driver.findings["driver removed"].status is Status.WARN
    assert driver.outcome["reboot_required"] is True
    left = driver.host.files() - before
    assert left == {"proc/modules", "proc/driver/nvidia/version"}  # until the host restarts
    assert (driver.host.state / "holds").read_text() == ""
    assert not (driver.host.state / "nvidia_driver.holds.json").exists()
    assert not (driver.host.state / "nvidia_driver.packages.json").exists()
    assert not list(driver.host.state.glob("enabled.*"))
    assert driver.play("remove") == 0


def test_holds_of_the_owner_stay(driver: Driver) -> None:
    driver.host.says("holds", "linux-image-amd64\n")
    driver.play("create")
    driver.play("remove")
    assert (driver.host.state / "holds").read_text() == "linux-image-amd64\n"


def test_ready_modules_are_not_compiled(driver: Driver) -> None:
    driver.host.has("etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\n')
    driver.play("create", nvidia_driver_available=SIGNED)
    assert driver.host.calls("dkms") == []
    assert driver.outcome["route"] == "ubuntu-signed-open"
    assert driver.bad() == {}


@pytest.mark.parametrize(
    ("more", "check", "said"),
    [
        ({"nvidia_driver_available": OPEN[1:]}, "driver packages", "linux-headers"),
        (
            {"nvidia_driver_kernel": "6.1.0-1-amd64"},
            "driver packages",
            "linux-headers-6.1.0-1-amd64",
        ),
        ({"nvidia_driver_floor": "581.1"}, "driver version", "581.1"),
        ({"nvidia_driver_fabric": "nvswitch"}, "fabric manager", "nvidia-fabricmanager"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_changed(
    driver: Driver, more: dict[str, object], check: str, said: str
) -> None:
    before = driver.host.files()
    with pytest.raises(Failed, match=said) as failure:
        driver.play("create", **more)
    assert "nothing was changed" in failure.value.message
    assert driver.findings[check].status is Status.VETO
    assert driver.host.files() == before
    assert not (driver.host.state / "nvidia_driver.packages.json").exists()


def test_a_driver_of_nvidias_installer_is_refused(driver: Driver) -> None:
    driver.host.has("usr/bin/nvidia-uninstall")
    with pytest.raises(Failed, match="nvidia-uninstall"):
        driver.play("create")


def test_a_module_that_does_not_compile_ends_the_play_with_the_compilers_words(
    driver: Driver,
) -> None:
    driver.host.says("broken")
    with pytest.raises(Failed, match=r"did not compile for the kernel .*make\.log"):
        driver.play("create")


def test_nouveau_is_kept_away_and_a_restart_is_only_reported(driver: Driver) -> None:
    driver.host.has("proc/modules", "nouveau 1 0 - Live 0x0\n")
    image = driver.host.has(f"boot/initrd.img-{KERNEL}")
    os.utime(image, (1, 1))
    driver.play("create")
    assert driver.host.calls("update-initramfs") == [f"update-initramfs -u -k {KERNEL}"]
    assert driver.host.calls("modprobe") == []
    assert driver.outcome["reboot_required"] is True
    assert driver.outcome["reboot_reasons"] == ["nouveau has the GPUs until then"]
    assert driver.findings["driver versions"].status is Status.WARN
    assert driver.findings["restart"].fix.endswith("systemctl reboot")
    assert not [call for call in driver.host.calls("systemctl") if "reboot" in call]
    assert driver.play("create") == 0


def test_an_older_driver_that_is_loaded_wants_a_restart(driver: Driver) -> None:
    driver.play("create")
    driver.host.has("proc/driver/nvidia/version", LOADED.format(version="580.65.06"))
    driver.play("verify")
    assert driver.outcome["reboot_reasons"] == [f"580.65.06 is loaded, {VERSION} installed"]
    assert driver.bad() == {"driver versions": Status.WARN, "restart": Status.WARN}


def test_three_versions_must_be_one(driver: Driver) -> None:
    driver.play("create")
    driver.host.says("tool", "580.65.06")
    assert driver.play("verify") == 0
    assert driver.bad() == {"driver versions": Status.VETO}
    assert "nvidia-smi 580.65.06" in driver.findings["driver versions"].found


def switches(driver: Driver, state: str = "Completed", status: str = "Success") -> None:
    for name, value in (("vendor", "0x10de"), ("class", "0x068000"), ("device", "0x22a3")):
        driver.host.has(f"sys/bus/pci/devices/0000:09:00.0/{name}", f"{value}\n")
    driver.host.says("manager", VERSION)
    driver.host.says("unit.nvidia-fabricmanager.service")
    driver.host.says("fabric", FABRIC.format(state=state, status=status))


def test_a_fabric_manager_of_the_same_version_is_enabled_and_started(driver: Driver) -> None:
    switches(driver)
    more = {"nvidia_driver_available": [*OPEN, *MANAGER], "nvidia_driver_fabric": "nvswitch"}
    driver.play("create", **more)
    assert driver.bad() == {}
    assert (driver.host.state / "enabled.nvidia-fabricmanager.service").exists()
    driver.host.says("manager", "580.65.06")
    driver.play("verify", **more)
    assert driver.bad() == {"fabric manager": Status.VETO}


def test_a_fabric_that_is_not_complete_and_switches_without_a_manager_are_told(
    driver: Driver,
) -> None:
    switches(driver, status="Insufficient Resources")
    more = {"nvidia_driver_available": [*OPEN, *MANAGER], "nvidia_driver_fabric": "nvswitch"}
    driver.play("create", **more)
    assert driver.bad() == {"fabric manager": Status.VETO}
    assert "Insufficient Resources" in driver.findings["fabric manager"].found
    driver.play("verify")
    assert driver.findings["fabric manager"].found.startswith("1 switches")
    assert driver.bad() == {"fabric manager": Status.VETO}


def with_secure_boot(driver: Driver) -> None:
    (driver.host.has(SECURE_BOOT)).write_bytes(b"\6\0\0\0\1")
    driver.host.has("var/lib/dkms/mok.pub")
    driver.host.says("rejected")


def test_secure_boot_without_a_trusted_key_is_reported_and_not_forced(driver: Driver) -> None:
    with_secure_boot(driver)
    driver.play("create")
    bad = driver.bad()
    assert bad["secure boot"] is Status.VETO
    assert driver.findings["secure boot"].found.startswith("on, signer none")
    assert "mokutil --import" in driver.findings["secure boot"].fix
    assert driver.outcome["reboot_required"] is False
    assert not [call for call in driver.host.calls("mokutil") if "--import" in call]


def test_enrolment_is_a_phase_of_its_own_that_asks_once(driver: Driver) -> None:
    with_secure_boot(driver)
    asked = {"nvidia_driver_hash_file": driver.host.has("hash")}
    assert driver.play("enrol", **asked) == 1
    assert driver.findings["key of compiled modules"].status is Status.WARN
    assert "console" in driver.findings["key of compiled modules"].fix
    assert driver.outcome["reboot_required"] is True
    assert driver.play("enrol", **asked) == 0
    driver.host.says("key", "is already enrolled")
    assert driver.play("enrol", **asked) == 0
    assert driver.bad() == {}
    assert driver.outcome == {"reboot_required": False, "reboot_reasons": []}
    imports = [call for call in driver.host.calls("mokutil") if "--import" in call]
    key = driver.host.root / "var/lib/dkms/mok.pub"
    assert imports == [f"mokutil --import {key} --hash-file {driver.host.root / 'hash'}"]


def test_without_a_key_there_is_nothing_to_enrol(driver: Driver) -> None:
    with pytest.raises(Failed, match="dkms generate_mok"):
        driver.play("enrol", nvidia_driver_hash_file="/nowhere")


def test_a_host_without_a_gpu_is_told_so(driver: Driver) -> None:
    for file in (driver.host.root / "sys/bus/pci/devices").glob("*/class"):
        file.write_text("0x020000\n")
    driver.play("create")
    assert driver.findings["GPUs"].status is Status.VETO
    assert driver.outcome["reboot_required"] is False
    assert driver.host.calls("modprobe") == []


def test_every_fix_ends_in_a_command(driver: Driver) -> None:
    driver.play("verify")
    path = Path(driver.runs.folder / "report.json")
    assert [item.check for item in read_report(path) if ": " not in item.fix] == []
