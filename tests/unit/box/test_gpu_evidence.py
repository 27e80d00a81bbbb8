"""Evidence is gathered by asking; asking changes nothing, and no answer is an answer."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from aibox.box import gpu_evidence
from aibox.checks.evidence import Evidence, Image, Source
from aibox.hardware import Gpu, Machine

CARD = Gpu("0000:17:00.0", "10de:20b5", "nvidia")
HOST = Machine(gpus=(CARD,), driver="580.95.05", root=True)
CDI = "hostPath: /usr/lib/libcuda.so.580.95.05\npath: /dev/nvidia0\npath: /dev/nvidia9\n"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


class Programs:
    """Doubles of programs, first on PATH; each notes that it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._calls = folder / "calls"
        for name in ("nvidia-smi", "docker", "modinfo", "dmesg", "dpkg-query", "dkms"):
            self.says(name, f"double of {name}")
        for name in ("systemctl", "nv-fabricmanager"):
            self.says(name, f"double of {name}")

    def says(self, name: str, text: str, status: int = 0) -> None:
        self.does(name, f"cat <<'END'\n{text}\nEND\nexit {status}")

    def does(self, name: str, script: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"{name} $*\" >> {self._calls}\n{script}\n")
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """What was called, with its words."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{made.folder}:/usr/bin:/bin")
    return made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A double of / with what a server with a driver and Docker has."""
    files = {
        "proc/driver/nvidia/version": "NVRM version: x Kernel Module  580.95.05",
        "proc/modules": "nvidia 1 2 - Live 0x0\n",
        "proc/cmdline": "ro quiet\n",
        "run/docker.pid": "1",
        "var/run/cdi/nvidia.yaml": CDI,
        "usr/lib/libcuda.so.580.95.05": "",
        "dev/nvidia0": "",
        "usr/bin/nvidia-uninstall": "",
    }
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "root/run/systemd/system").mkdir(parents=True)
    (tmp_path / "root/sys/class/iommu/dmar0").mkdir(parents=True)
    return tmp_path / "root"


def gather(root: Path, machine: Machine = HOST) -> Evidence:
    return gpu_evidence.gather(machine, root=root)


def test_every_source_is_heard(programs: Programs, root: Path) -> None:
    programs.does(
        "docker", 'case $1 in ps) echo aibox-chat-1; echo aibox-web-1;; *) echo "$*";; esac'
    )
    found = gather(root)
    assert set(found.said) == set(Source) - {Source.HMM}
    assert found.refused == {}
    assert found.text(Source.CARDS) == "double of nvidia-smi"
    assert found.text(Source.CONTAINERS) == "inspect --type=container aibox-chat-1"
    assert found.logs == {"aibox-chat-1": "logs --tail 400 aibox-chat-1"}
    assert found.lost == ("/dev/nvidia9",)
    assert found.existing == {"/usr/bin/nvidia-uninstall"}
    assert found.iommu
    assert found.secure_boot is None


def test_what_is_asked_for_is_kept(programs: Programs, root: Path) -> None:
    images = (Image("vllm", "x/vllm:1", "cuda>=13.0"),)
    assert gpu_evidence.gather(HOST, images=iter(images), root=root).images == images


def test_a_host_without_gpus_is_asked_nothing(programs: Programs, root: Path) -> None:
    assert gather(root, Machine()) == Evidence(Machine())
    assert programs.calls == []


def test_without_a_driver_nothing_is_asked_that_would_load_one(
    programs: Programs, root: Path
) -> None:
    gather(root, replace(HOST, driver=""))
    assert [one for one in programs.calls if one.startswith("nvidia-smi")] == []


def test_without_a_running_docker_nothing_is_asked_that_would_start_it(
    programs: Programs, root: Path
) -> None:
    (root / "run/docker.pid").unlink()
    gather(root)
    assert [one for one in programs.calls if one.startswith("docker")] == []


def test_without_systemd_its_units_are_not_asked_for(programs: Programs, root: Path) -> None:
    (root / "run/systemd/system").rmdir()
    gather(root)
    assert [one for one in programs.calls if one.startswith("systemctl")] == []


def test_where_nvml_hung_nvidia_smi_is_not_tried(programs: Programs, root: Path) -> None:
    found = gather(root, replace(HOST, problems=("NVML did not answer within 20 s",)))
    assert [one for one in programs.calls if one.startswith("nvidia-smi")] == []
    assert "did not answer" in found.refused[Source.CARDS]


def test_a_refusal_is_kept_with_its_last_words(programs: Programs, root: Path) -> None:
    programs.says("dkms", "one line\nError! Could not locate dkms.conf", 1)
    found = gather(root)
    assert found.refused == {Source.DKMS: "Error! Could not locate dkms.conf"}
    assert Source.DKMS not in found.said


def test_a_device_of_another_number_is_told_of(programs: Programs, root: Path) -> None:
    """The double of a device is a file, which is of number 0:0."""
    nodes = "{path: /dev/nvidia0, major: 195, minor: 7}, {path: /dev/nvidia9, major: 1, minor: 1}"
    text = f"containerEdits: {{deviceNodes: [{nodes}]}}\n"
    (root / "var/run/cdi/nvidia.yaml").write_text(text)
    assert gather(root).lost == ("/dev/nvidia9", "/dev/nvidia0 as 195:7")


def test_the_journal_stands_in_for_dmesg(programs: Programs, root: Path) -> None:
    programs.says("dmesg", "dmesg: Operation not permitted", 1)
    programs.says("journalctl", "kernel: NVRM: Xid")
    found = gather(root)
    assert found.text(Source.KERNEL_LOG) == "kernel: NVRM: Xid"
    assert found.refused == {}


def test_a_program_that_hangs_is_ended_and_told_of(
    programs: Programs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_evidence, "TIMEOUT_S", 0.2)
    programs.does("dkms", "exec sleep 60")
    assert "did not end within" in gather(root).refused[Source.DKMS]


@pytest.mark.parametrize(
    ("program", "source", "text"),
    [
        ("modinfo", Source.MODULE, "modinfo: ERROR: Module nvidia not found."),
        (
            "dpkg-query",
            Source.PACKAGES,
            "ii \tx\t1\ndpkg-query: no packages found matching linux-modules-*",
        ),
    ],
)
def test_that_nothing_was_found_is_an_answer(
    programs: Programs, root: Path, program: str, source: Source, text: str
) -> None:
    programs.says(program, text, 1)
    found = gather(root)
    assert found.text(source) == text
    assert source not in found.refused


def test_hosts_without_dpkg_have_their_packages_from_rpm(
    programs: Programs, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (programs.folder / "dpkg-query").unlink()
    programs.does("rpm", "echo 'ii x'")
    (programs.folder / "cat").symlink_to("/bin/cat")
    monkeypatch.setattr(gpu_evidence, "_path", lambda: str(programs.folder))
    assert gather(root).text(Source.PACKAGES) == "ii x"


def test_programs_that_are_not_installed_are_no_refusal(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_evidence, "_path", lambda: str(tmp_path / "empty"))
    (root / "run/systemd/system").rmdir()
    found = gather(root)
    assert found.refused == {}
    assert set(found.said) == {*(Source.VERSION, Source.MODULES, Source.COMMAND_LINE, Source.CDI)}


@pytest.mark.parametrize(("value", "expected"), [(b"\6\0\0\0\1", True), (b"\6\0\0\0\0", False)])
def test_secure_boot_is_what_the_firmware_says(
    programs: Programs, root: Path, value: bytes, expected: bool
) -> None:
    path = root / SECURE_BOOT
    path.parent.mkdir(parents=True)
    path.write_bytes(value)
    assert gather(root).secure_boot is expected


def test_long_answers_are_kept_whole(programs: Programs, root: Path) -> None:
    """Eight cards fill more lines than other commands keep."""
    programs.does("nvidia-smi", "seq 1 3000")
    assert len(gather(root).text(Source.CARDS).splitlines()) == 3000


def test_looking_changes_no_file(programs: Programs, root: Path) -> None:
    before = fingerprint(root)
    gather(root)
    assert fingerprint(root) == before


def fingerprint(root: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in root.rglob("*")
    }


def test_only_questions_are_asked(programs: Programs, root: Path) -> None:
    """Every command line that is ever used, so that a new one is looked at."""
    gather(root)
    words = {tuple(one.split()[:2]) for one in programs.calls}
    assert words == {
        ("nvidia-smi", "-q"),
        ("nvidia-smi", "topo"),
        ("nvidia-smi", "nvlink"),
        ("docker", "info"),
        ("docker", "ps"),
        ("modinfo", "nvidia"),
        ("dmesg",),
        ("dpkg-query", "--show"),
        ("dkms", "status"),
        ("nv-fabricmanager", "--version"),
        ("systemctl", "show"),
    }
