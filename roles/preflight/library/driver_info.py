#!/usr/bin/python
"""Finds what drives NVIDIA GPUs on a host, and what would get into a driver's way. Reads only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule  # type: ignore[import-untyped]

DOCUMENTATION = r"""
module: driver_info
short_description: Find what drives NVIDIA GPUs on a host
description:
  - Reads secure boot, the nouveau driver, installed driver packages and traces of an installation
    without packages. Changes nothing, needs no root.
options:
  root:
    description: Folder that stands for the root of the file system.
    type: str
    default: /
author: aibox maintainers
"""

EXAMPLES = r"""
- name: Look for drivers
  driver_info:
  register: found
"""

RETURN = r"""
driver:
  description: Words and lists of words; see the module's functions.
  returned: always
  type: dict
"""

# The byte after four bytes of attributes says whether secure boot is on (UEFI, global variables).
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
DRIVER_PACKAGE = re.compile(
    r"(lib)?nvidia-|cuda-drivers|linux-(modules|objects|signatures)-nvidia|"
    r"xserver-xorg-video-nvidia|kmod-nvidia|dkms-nvidia|xorg-x11-drv-nvidia"
)
# Runs containers on GPUs, whatever drives these.
NO_DRIVER = re.compile(r"(lib)?nvidia-container|nvidia-docker")
NAMED_BRANCH = re.compile(r"(?:nvidia|cuda-drivers)(?:-[a-z]+[0-9]?)*-(\d{3})(?:-|$)")
VERSION_BRANCH = re.compile(r"(?:\d+:)?(\d{3})\.\d+")
KERNEL_MODULES = re.compile(
    r"nvidia-(dkms|kernel-dkms|kernel-source|driver|open)|cuda-drivers|kmod-nvidia|dkms-nvidia|"
    r"linux-(modules|objects|signatures)-nvidia"
)
ASK_RPM = ("rpm", "--query", "--all", "--queryformat", r"%{NAME}\t%{VERSION}\t%{VENDOR}\n")


@dataclass(frozen=True)
class Package:
    """An installed package; `origin` is who made it: the domain of its maintainer, or a vendor."""

    name: str
    version: str
    origin: str

    @property
    def branch(self) -> str:
        """The driver branch, such as 580, of the name or else of the version; or nothing."""
        found = NAMED_BRANCH.search(self.name) or VERSION_BRANCH.match(self.version)
        return found[1] if found else ""

    @property
    def flavour(self) -> str:
        """Which kernel modules a package brings, or nothing if it brings none."""
        if not KERNEL_MODULES.match(self.name):
            return ""
        return "open" if "open" in self.name.split("-") else "proprietary"

    @property
    def edition(self) -> str:
        """Canonical packs a branch twice, and the two cannot be installed side by side."""
        if not NAMED_BRANCH.search(self.name) or "ubuntu" not in self.origin:
            return ""
        return "server" if "server" in self.name.split("-") else "desktop"


def driver(root: Path, rpm_listing: str) -> dict[str, object]:
    """Everything the role judges."""
    packages = [*dpkg_packages(root / "var/lib/dpkg/status"), *rpm_packages(rpm_listing)]
    return {
        "secure_boot": secure_boot(root),
        "nouveau": nouveau(root),
        "run_installation": run_installation(root),
        **mixture(drivers_among(packages)),
    }


def secure_boot(root: Path) -> str:
    """`enabled`, `disabled`, `absent` (no UEFI) or `unknown` (the variable cannot be read)."""
    if not (root / "sys/firmware/efi").is_dir():
        return "absent"
    try:
        value = (root / SECURE_BOOT).read_bytes()
    except OSError:
        return "unknown"
    return "enabled" if value[4:5] == b"\x01" else "disabled"


def nouveau(root: Path) -> str:
    """`bound` (it holds a GPU), `loaded` or `absent`."""
    with suppress(OSError):
        if any(":" in path.name for path in (root / "sys/bus/pci/drivers/nouveau").iterdir()):
            return "bound"
    return "loaded" if (root / "sys/module/nouveau").is_dir() else "absent"


def run_installation(root: Path) -> str:
    """`present`: installed from a `.run` file, beside all packages; `removed`: only its log is
    left; or `absent`."""
    if (root / "usr/bin/nvidia-uninstall").exists():
        return "present"
    return "removed" if (root / "var/log/nvidia-installer.log").exists() else "absent"


def dpkg_packages(status: Path) -> Iterator[Package]:
    """What dpkg has installed; `status` is its own list, which everybody may read."""
    if not status.exists():
        return
    for paragraph in status.read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status|Maintainer): (.*)$", paragraph, re.M))
        if fields.get("Status", "").endswith(" installed"):
            origin = fields.get("Maintainer", "").rpartition("@")[2].rstrip("> ")
            yield Package(fields["Package"], fields.get("Version", ""), origin)


def rpm_packages(listing: str) -> Iterator[Package]:
    """What rpm has installed, as `ASK_RPM` prints it."""
    for line in listing.splitlines():
        if line.count("\t") == 2:
            yield Package(*line.split("\t"))


def drivers_among(packages: Iterable[Package]) -> list[Package]:
    """The packages of an NVIDIA driver that have a branch."""
    return [
        one
        for one in packages
        if DRIVER_PACKAGE.match(one.name) and not NO_DRIVER.match(one.name) and one.branch
    ]


def mixture(drivers: list[Package]) -> dict[str, object]:
    """What the installed packages have in common; two words of one kind do not go together."""
    return {
        "packages": sorted(one.name for one in drivers),
        "branches": kinds(one.branch for one in drivers),
        "flavours": kinds(one.flavour for one in drivers),
        "editions": kinds(one.edition for one in drivers),
        "origins": kinds(one.origin for one in drivers),
    }


def kinds(words: Iterable[str]) -> list[str]:
    return sorted(set(words) - {""})


def main() -> None:
    """Answer Ansible."""
    options = {"root": {"type": "str", "default": "/"}}
    module = AnsibleModule(argument_spec=options, supports_check_mode=True)
    listing = ""
    if module.get_bin_path("rpm") is not None:
        _, listing, _ = module.run_command(list(ASK_RPM))
    module.exit_json(driver=driver(Path(module.params["root"]), listing))


if __name__ == "__main__":
    main()
