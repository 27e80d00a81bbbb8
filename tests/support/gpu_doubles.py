"""Doubles of a GPU host: its files in a folder, its programs on PATH, and the roles it uses.

Nothing here is NVIDIA's. The programs answer in the form that NVIDIA's have in public reports:
`modinfo` and /proc/driver/nvidia/version as in NVIDIA/open-gpu-kernel-modules issue 171, the fabric
as in Azure/azhpc-images pull request 506, mokutil as in lcp/mokutil pull request 96, mig-parted as
in the README of NVIDIA/mig-parted.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_runs import ROLES, Runs

VERSION = "580.178.04"
LOADED = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {version}  Release Build  (double)\n"
    "GCC version:  gcc version 12.2.0\n"
)
FABRIC = """\
    Fabric
        State                             : {state}
        Status                            : {status}
"""

MODINFO = """\
[ -e "$state/installed" ] || {{ echo "modinfo: ERROR: Module nvidia not found." >&2; exit 1; }}
case "$*" in
    *"-F version"*) echo {version} ;;
    *) echo "filename:       /lib/modules/x/updates/dkms/nvidia.ko"
       echo "version:        {version}"
       echo "license:        Dual MIT/GPL"
       echo "signer:         $(cat "$state/signer" 2>/dev/null)" ;;
esac
"""
MODPROBE = """\
[ -e "$state/installed" ] && [ ! -e "$state/rejected" ] || exit 1
mkdir -p "$root/proc/driver/nvidia"
cp "$state/version" "$root/proc/driver/nvidia/version"
# A kernel without modules has no such file.
[ ! -e "$root/proc/modules" ] || echo "nvidia 1 0 - Live 0x0" >> "$root/proc/modules"
"""
DKMS = """\
[ -e "$state/broken" ] && exit 11
touch "$state/installed"
mkdir -p "$root/var/lib/dkms"
touch "$root/var/lib/dkms/mok.key" "$root/var/lib/dkms/mok.pub"
"""
NVIDIA_SMI = """\
if [ ! -e "$root/proc/driver/nvidia/version" ]; then
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    exit 9
fi
case "$*" in
    *driver_version,persistence_mode*)
        mode=$([ -e "$state/persistent" ] && echo Enabled || echo Disabled)
        for gpu in 0 1; do echo "$(cat "$state/tool"), $mode"; done ;;
    *mig.mode*) cat "$state/mig_modes" ;;
    *compute-apps*) cat "$state/users" 2>/dev/null || true ;;
    -q) cat "$state/fabric" ;;
    --persistence-mode=1) touch "$state/persistent" ;;
    -L) cat "$state/list" ;;
esac
"""
FABRIC_MANAGER = (
    '[ -e "$state/manager" ] && echo "Fabric Manager version is : $(cat "$state/manager")"\n'
)
SYSTEMCTL = """\
unit=$(for word; do case $word in *.service|*.path) echo "$word" ;; esac; done)
case "$1" in
    show)
        [ -e "$units/$unit" ] || [ -e "$state/unit.$unit" ] || { echo LoadState=not-found; exit 0; }
        echo LoadState=loaded
        [ -e "$state/active.$unit" ] && echo ActiveState=active || echo ActiveState=inactive ;;
    is-enabled) [ -e "$state/enabled.$unit" ] && echo enabled || { echo disabled; exit 1; } ;;
    is-active) [ -e "$state/active.$unit" ] && echo active || { echo inactive; exit 3; } ;;
    enable) touch "$state/enabled.$unit" ;;
    disable) rm -f "$state/enabled.$unit" ;;
    start|restart)
        touch "$state/active.$unit"
        case $unit in aibox-nvidia-persistence*) nvidia-smi --persistence-mode=1 ;; esac ;;
    stop) rm -f "$state/active.$unit" ;;
    daemon-reload) ;;
    *) exit 1 ;;
esac
"""
DPKG_QUERY = 'printf "ii  linux-image-amd64\\nii  linux-headers-amd64\\nrc  linux-image-old\\n"\n'
APT_MARK = """\
touch "$state/holds"
verb=$1; shift
case "$verb" in
    showhold) cat "$state/holds" ;;
    hold) printf '%s\\n' "$@" >> "$state/holds" ;;
    unhold) for name; do sed -i "/^$name$/d" "$state/holds"; done ;;
esac
"""
UPDATE_INITRAMFS = 'touch "$root/boot/initrd.img-$3"\n'
MOKUTIL = """\
case "$1" in
    --test-key)
        echo "$2 $(cat "$state/key" 2>/dev/null || echo "is not enrolled")"
        grep -q already "$state/key" 2>/dev/null && exit 1 || exit 0 ;;
    --import) echo "is already in the enrollment request" > "$state/key" ;;
esac
"""
NVIDIA_CTK = """\
case "$*" in
    --version) echo "NVIDIA Container Toolkit CLI version $(cat "$state/toolkit")" ;;
    "cdi generate --output="*)
        [ -e "$state/unlisted" ] && { echo "failed to initialize NVML: Unknown Error" >&2; exit 1; }
        cat "$state/spec" > "${3#--output=}" ;;
esac
"""
# It keeps the GPUs of its one container from before a reload of systemd, unless told otherwise.
DOCKER = """\
case "$1" in
    info) cat "$state/cdi_folders" ;;
    run) touch "$state/container" ;;
    exec)
        [ -e "$state/container" ] || exit 1
        if [ -e "$state/loses" ] && grep -q "daemon-reload" "$state/calls"; then
            echo "Failed to initialize NVML: Unknown Error"
            exit 255
        fi
        nvidia-smi -L ;;
    rm) rm -f "$state/container" ;;
esac
"""
# What is applied is a copy of the file and the name that was chosen of it.
MIG_PARTED = """\
case "$1" in
    export)
        printf 'version: v1\\nmig-configs:\\n  current:\\n'
        printf '  - devices: all\\n    mig-enabled: false\\n' ;;
    assert)
        if grep -qxF "$5" "$state/divided" 2>/dev/null && cmp -s "$3" "$state/layout"; then
            echo "Selected MIG configuration currently applied"
        else
            echo "ERRO[0000] Assertion failure: selected configuration not currently applied" >&2
            exit 1
        fi ;;
    apply)
        [ -e "$state/needs_reset" ] && { echo "GPU reset failed" >&2; exit 1; }
        echo "$5" > "$state/divided"
        cp "$3" "$state/layout" ;;
esac
"""
PROGRAMS = {
    "nvidia-mig-parted": MIG_PARTED,
    "nvidia-ctk": NVIDIA_CTK,
    "docker": DOCKER,
    "modinfo": MODINFO.format(version=VERSION),
    "modprobe": MODPROBE,
    "dkms": DKMS,
    "nvidia-smi": NVIDIA_SMI,
    "nv-fabricmanager": FABRIC_MANAGER,
    "systemctl": SYSTEMCTL,
    "dpkg-query": DPKG_QUERY,
    "apt-mark": APT_MARK,
    "update-initramfs": UPDATE_INITRAMFS,
    "mokutil": MOKUTIL,
}

# What the double of the role offline_repo does: it notes what it was asked for, once.
INSTALL = """\
---
- name: Double | Install
  ansible.builtin.copy:
    content: "{{ [offline_repo_packages, __held] | to_json }}"
    dest: "{{ offline_repo_state }}/{{ offline_repo_owner }}.packages.json"
    mode: "0600"
  vars:
    __held: "{{ offline_repo_held | default(offline_repo_packages) }}"
- name: Double | What ready modules would bring
  ansible.builtin.file:
    path: "{{ offline_repo_state }}/installed"
    state: touch
    mode: "0600"
    access_time: preserve
    modification_time: preserve
  when: offline_repo_packages | select('match', 'linux-modules-nvidia') | list | length > 0
"""
UNINSTALL = """\
---
- name: Double | Uninstall
  ansible.builtin.file:
    path: "{{ offline_repo_state }}/{{ item }}"
    state: absent
  loop: ["{{ offline_repo_owner }}.packages.json", installed]
"""
# What the double of the role container_runtime does: it notes the settings.
SETTINGS = """\
---
- name: Double | Merge settings
  ansible.builtin.copy:
    content: "{{ container_runtime_settings | to_json }}"
    dest: "{{ container_runtime_state }}/{{ container_runtime_owner }}.settings.json"
    mode: "0600"
"""
UNSET = """\
---
- name: Double | Take settings out
  ansible.builtin.file:
    path: "{{ container_runtime_state }}/{{ container_runtime_owner }}.settings.json"
    state: absent
"""
DOUBLES = {
    "offline_repo": {"install": INSTALL, "uninstall": UNINSTALL},
    "container_runtime": {"settings": SETTINGS, "unset": UNSET},
}


@dataclass(frozen=True)
class GpuHost:
    """The double: `state` says how its programs answer, `root` holds its files."""

    folder: Path

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def units(self) -> Path:
        return self.root / "etc/systemd/system"

    def says(self, name: str, text: str = "") -> None:
        """Decide an answer of the programs, or that something is so."""
        (self.state / name).write_text(text)

    def has(self, path: str, text: str = "") -> Path:
        """Put a file into the host."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def calls(self, program: str) -> list[str]:
        """How a program was called, oldest first."""
        log = self.state / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == program]

    def files(self) -> set[str]:
        """Every file of the host."""
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()}


def make(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> GpuHost:
    """A host with two A100 and without a driver; its programs come first on PATH."""
    host = GpuHost(runs.folder / "host")
    host.state.mkdir(parents=True)
    for folder in ("etc/modprobe.d", "etc/modules-load.d", "etc/systemd/system", "boot"):
        (host.root / folder).mkdir(parents=True)
    host.has("etc/os-release", 'ID=debian\nVERSION_ID="12"\n')
    host.has("proc/modules", "overlay 1 0 - Live 0x0\n")
    for place in ("0000:01:00.0", "0000:02:00.0"):
        for name, value in (("vendor", "0x10de"), ("class", "0x030200"), ("device", "0x20b2")):
            host.has(f"sys/bus/pci/devices/{place}/{name}", f"{value}\n")
    host.says("version", LOADED.format(version=VERSION))
    host.says("tool", VERSION)
    host.says("fabric")
    programs(host, PROGRAMS)
    monkeypatch.setenv("PATH", f"{host.folder / 'bin'}:{os.environ['PATH']}")
    runs.roles = roles(runs.folder)
    return host


def programs(host: GpuHost, texts: dict[str, str]) -> None:
    """Write doubles of programs; each notes how it was called."""
    (host.folder / "bin").mkdir(exist_ok=True)
    for name, text in texts.items():
        path = host.folder / "bin" / name
        path.write_text(program(name, text, host.state, str(host.root)))
        path.chmod(0o755)


def program(name: str, text: str, state: Path, root: str) -> str:
    """The script of a double whose files are below `root`, nothing for a host of its own."""
    head = f"#!/bin/sh\nstate={state} root={root} units={root}/etc/systemd/system\n"
    return f'{head}echo "{name} $*" >> "$state/calls"\n{text}'


def roles(folder: Path) -> Path:
    """The real roles, with doubles of those that want root among them."""
    made = folder / "roles"
    for name, entries in DOUBLES.items():
        (made / name / "tasks").mkdir(parents=True)
        for entry, text in entries.items():
            (made / name / "tasks" / f"{entry}.yml").write_text(text)
    for role in ROLES.iterdir():
        if role.is_dir() and role.name not in DOUBLES:
            (made / role.name).symlink_to(role)
    return made


KERNEL = platform.release()
