#!/usr/bin/python
"""Measures what an NVIDIA driver depends on and what became of it. Reads only."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: gpu_host
short_description: Measure what an NVIDIA driver depends on and what became of it
description:
  - Reads the system, its GPUs, Secure Boot, the driver's three versions, its manager of the fabric
    and what would load at the next boot. Changes nothing; works with and without a driver.
options:
  kernel:
    description: The kernel the driver is for, as C(uname -r) calls it; empty for the running one.
    type: str
    default: ""
  boot_files:
    description: Files that the boot image of the kernel copies; it is stale when one is newer.
    type: list
    elements: str
    default: []
  root:
    description: Where the system's files lie; another folder for tests.
    type: str
    default: /
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Measure the host
  gpu_host:
  register: measured
"""

RETURN = r"""
host:
  description: Versions are text, empty where there is none.
  returned: always
  type: dict
"""

SECONDS = 60
NVIDIA, DISPLAY, BRIDGE = "0x10de", "0x03", "0x0680"
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
# Debian keeps several drivers side by side, and calls the module's file otherwise.
NAMES = ("nvidia", "nvidia-current", "nvidia-current-open")
# Ubuntu's and everybody else's place.
KEYS = ("var/lib/shim-signed/mok/MOK.der", "var/lib/dkms/mok.pub")
UNITS = ("nvidia-persistenced.service", "nvidia-fabricmanager.service")
KERNEL_PACKAGES = ("linux-image-*", "linux-headers-*", "linux-modules-*", "linux-generic*")
RPM_KERNEL_PACKAGES = ("kernel", "kernel-core", "kernel-modules*", "kernel-devel*")


def measure(root: Path, kernel: str, boot_files: Sequence[str]) -> dict[str, object]:
    """Everything the role judges, as plain values."""
    running = platform.release()
    wanted = kernel or running
    return {
        "system": system(read(root / "etc/os-release")),
        "architecture": platform.machine(),
        "running_kernel": running,
        "kernel": wanted,
        "secure_boot": secure_boot(root),
        "nouveau": "nouveau" in modules(read(root / "proc/modules")),
        "modules": sorted(modules(read(root / "proc/modules"))),
        "run_file": (root / "usr/bin/nvidia-uninstall").exists(),
        "boot_image": bool(boot_images(root, wanted)),
        "boot_image_stale": stale(root, wanted, boot_files),
        **key(root),
        "kernel_packages": kernel_packages(),
        **devices(root),
        **versions(root, wanted),
        **services(),
    }


def system(release: str) -> str:
    """The distribution and its release: `ubuntu-24.04`, `debian-12`; of rpm systems `rocky-9`."""
    pairs = (line.partition("=") for line in release.splitlines())
    fields = {key: value.strip("\"'") for key, _, value in pairs}
    name, version = fields.get("ID", "unknown"), fields.get("VERSION_ID", "")
    whole = name in ("ubuntu", "debian")
    return f"{name}-{version if whole else version.partition('.')[0]}"


def secure_boot(root: Path) -> str:
    """`on`, `off`, or `absent` where the firmware has none; the variable's fifth byte tells."""
    with suppress(OSError, IndexError):
        return "on" if (root / SECURE_BOOT).read_bytes()[4] == 1 else "off"
    return "absent"


def key(root: Path) -> dict[str, str]:
    """The key that DKMS signs modules with, and whether this machine trusts it.

    `enrolled`, `pending` (asked for, waits for the console at the next boot), `unknown` to the
    machine, or `absent`. The words tell: newer and older mokutil end with opposite codes.
    """
    found = next((str(root / name) for name in KEYS if (root / name).exists()), "")
    said_of_it = said("mokutil", "--test-key", found) if found else ""
    states = {"already enrolled": "enrolled", "enrollment request": "pending"}
    known = (state for words, state in states.items() if words in said_of_it)
    return {"key": found, "key_state": next(known, "unknown" if found else "absent")}


def modules(loaded: str) -> set[str]:
    """The names in /proc/modules."""
    return {line.partition(" ")[0] for line in loaded.splitlines()}


def devices(root: Path) -> dict[str, object]:
    """NVIDIA's GPUs by PCI identity, and whether switches join them."""
    found: list[str] = []
    switches = 0
    for folder in sorted((root / "sys/bus/pci/devices").glob("*")):
        if read(folder / "vendor").strip() != NVIDIA:
            continue
        kind = read(folder / "class").strip()
        if kind.startswith(DISPLAY):
            found.append("10de:" + read(folder / "device").strip().removeprefix("0x"))
        switches += kind.startswith(BRIDGE)
    return {"gpus": found, "switches": switches, "subnet_managers": subnet_managers(root)}


def subnet_managers(root: Path) -> int:
    """Network cards that manage NVLink 5 switches: their vital data say SW_MNG."""
    files = (root / "sys/class/infiniband").glob("*/device/vpd")
    return sum(b"SW_MNG" in read_bytes(path) for path in files)


def versions(root: Path, kernel: str) -> dict[str, object]:
    """The driver's version three times: loaded, on disk for `kernel`, as its tool says it."""
    described = (said("modinfo", "-k", kernel, name) for name in NAMES)
    on_disk = fields(next(filter(None, described), ""))
    query = "--query-gpu=driver_version,persistence_mode"
    tool = said("nvidia-smi", query, "--format=csv,noheader")
    manager = said("nv-fabricmanager", "--version")
    return {
        "loaded": loaded_version(read(root / "proc/driver/nvidia/version")),
        "on_disk": on_disk.get("version", ""),
        "licence": on_disk.get("license", ""),
        "signer": on_disk.get("signer", ""),
        "tool": sorted({row[0] for row in rows(tool)}),
        "tool_says": " ".join(tool.split())[:200],
        "persistence": [row[1] for row in rows(tool)],
        "manager": last_version(manager),
        "fabric": fabric_states(said("nvidia-smi", "-q")),
    }


def loaded_version(text: str) -> str:
    """The version in /proc/driver/nvidia/version: the first number behind "Kernel Module"."""
    match = re.search(r"Kernel Module.*?\s([0-9]+\.[0-9.]+)", text)
    return match[1] if match else ""


def last_version(text: str) -> str:
    """The last dotted number of a line such as "Fabric Manager version is : 580.65.06"."""
    found = re.findall(r"[0-9]+\.[0-9][0-9.]*", text)
    return found[-1] if found else ""


def fields(text: str) -> dict[str, str]:
    """The first value of each field that modinfo prints."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


def rows(text: str) -> list[list[str]]:
    """The rows of an answer of nvidia-smi that begin with a version; an error has none."""
    split = ([part.strip() for part in line.split(",")] for line in text.splitlines())
    return [row for row in split if len(row) == 2 and re.fullmatch(r"[0-9.]+", row[0])]


def fabric_states(text: str) -> list[str]:
    """`State/Status` of each GPU's fabric in `nvidia-smi -q`, without those that have none."""
    found = re.findall(r"^\s+Fabric\n\s+State\s+: (.*)\n\s+Status\s+: (.*)$", text, re.MULTILINE)
    return [f"{state}/{status}" for state, status in found if state != "N/A"]


def boot_images(root: Path, kernel: str) -> list[Path]:
    """The kernel's boot image, as Debian or as RHEL calls it; none in a container."""
    names = (f"boot/initrd.img-{kernel}", f"boot/initramfs-{kernel}.img")
    return [root / name for name in names if (root / name).exists()]


def stale(root: Path, kernel: str, boot_files: Sequence[str]) -> bool:
    """Whether the kernel's boot image is older than a file it should hold; without one, no."""
    times = [path.stat().st_mtime for name in boot_files if (path := Path(name)).exists()]
    return any(i.stat().st_mtime < time for i in boot_images(root, kernel) for time in times)


def kernel_packages() -> list[str]:
    """Installed packages that bring kernels, for holding them with the driver."""
    if shutil.which("dpkg-query"):
        listing = said(
            "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", *KERNEL_PACKAGES
        )
        return sorted(line.split()[1] for line in listing.splitlines() if line.startswith("ii"))
    listing = said("rpm", "-qa", "--queryformat", "%{NAME}\n", *RPM_KERNEL_PACKAGES)
    return sorted(set(listing.split()))


def services() -> dict[str, object]:
    """What systemd says of the driver's units: active, inactive, failed, or nothing."""
    return {"units": {unit: said("systemctl", "is-active", unit).strip() for unit in UNITS}}


def said(*command: str) -> str:
    """What a program prints, in English; nothing when it is not there or takes too long."""
    path = shutil.which(command[0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        return ""
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [path, *command[1:]],
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if command[0] == "nvidia-smi" else subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
        return done.stdout
    return ""


def read(path: Path) -> str:
    """A file's text, or nothing."""
    return read_bytes(path).decode("utf-8", "replace")


def read_bytes(path: Path) -> bytes:
    """A file's bytes, or none."""
    with suppress(OSError):
        return path.read_bytes()
    return b""


def main() -> None:
    """Answer Ansible."""
    module = AnsibleModule(
        argument_spec={
            "kernel": {"type": "str", "default": ""},
            "boot_files": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "str", "default": "/"},
        },
        supports_check_mode=True,
    )
    given = module.params
    module.exit_json(host=measure(Path(given["root"]), given["kernel"], given["boot_files"]))


if __name__ == "__main__":
    main()
