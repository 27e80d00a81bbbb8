"""What the scenarios in tests/roles/molecule are made of, for their playbooks.

python -m tests.e2e.role_parts PART ARGUMENTS, in the root of the repository. NVIDIA's packages are
doubles: they are really installed and removed, and their programs are those of `gpu_doubles`.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
from pathlib import Path, PurePath

import gpu_doubles
from aibox.render import render_system_units
from ansible_runs import ROOT
from gpu_doubles import KERNEL, VERSION
from package_archives import a_key, publish
from package_maker import make_deb, member

from . import package_root, systemd_host

# Where a server has what is given to it.
GIVEN = Path("/run/given")
NVCC = 'echo "nvcc: a double"\n'
# Version and programs of packages, by their names.
DOUBLES = {
    "nvidia-open-580": (
        f"{VERSION}-1",
        {"usr/bin/nvidia-smi": gpu_doubles.NVIDIA_SMI, "usr/sbin/dkms": gpu_doubles.DKMS},
    ),
    f"linux-headers-{KERNEL}": (f"{VERSION}-1", {}),
    "nvidia-container-toolkit-base": ("1.20.0-1", {"usr/bin/nvidia-ctk": gpu_doubles.NVIDIA_CTK}),
    "libnvidia-container1": ("1.20.0-1", {}),
    "nvidia-mig-manager": ("0.14.0-1", {"usr/bin/nvidia-mig-parted": gpu_doubles.MIG_PARTED}),
    "cuda-nvcc-13-0": ("13.0.48-1", {"usr/local/cuda-13.0/bin/nvcc": NVCC}),
}
# A container has neither the driver nor the notes of the doubles.
IN_CONTAINER = "#!/bin/sh\ncat /list\n"
# Of the distribution: what its kernel's packages are, and programs that ask the kernel.
KERNEL_PACKAGES = ("linux-image-amd64", "linux-headers-amd64")
PROGRAMS = {
    "modinfo": gpu_doubles.MODINFO.format(version=VERSION),
    "modprobe": gpu_doubles.MODPROBE,
    "mokutil": gpu_doubles.MOKUTIL,
}
DOCKER = ("docker.io", "docker-cli", "docker-compose")


def image(*packages: str) -> None:
    """Have an image with these packages; say its name and the options of `docker run`."""
    with tempfile.TemporaryDirectory() as folder:
        made = systemd_host.with_packages(packages, Path(folder))
    print(json.dumps({"image": made, "options": systemd_host.SERVER}))


def units(folder: str, box: str) -> None:
    """Have the units of a server's box, as the installer renders them."""
    stacks = ROOT / "stacks"
    templates = {
        str(path.relative_to(stacks)): path.read_bytes()
        for path in (stacks / "container").glob("*.j2")
    }
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, text in render_system_units(templates, box).items():
        (Path(folder) / name).write_bytes(text)


def doubles(folder: str) -> None:
    """Have `packages/doubles`, signed, and beside it what a host has without NVIDIA's packages."""
    given = Path(folder)
    (given / "debs").mkdir(parents=True)
    (given / "state").mkdir()
    made = [_double(given / "debs", name, *about) for name, about in DOUBLES.items()]
    for name in KERNEL_PACKAGES:
        make_deb(given / "debs", name)
    programs = {name: _program(name, text) for name, text in PROGRAMS.items()}
    (given / "bin").mkdir()
    for name, text in {**programs, "list_double": IN_CONTAINER}.items():
        (given / "bin" / name).write_text(text)
        (given / "bin" / name).chmod(0o755)
    (given / "packages").mkdir()
    publish(given / "packages" / "doubles", made, a_key(given / "signing"))


def _double(folder: Path, name: str, version: str, programs: dict[str, str]) -> Path:
    above = {parent for path in programs for parent in PurePath(path).parents}
    folders = [
        (member(str(path), mode=0o755, type=tarfile.DIRTYPE), b"")
        for path in sorted(above - {PurePath()})
    ]
    files = [
        (member(path, mode=0o755), _program(path, text).encode()) for path, text in programs.items()
    ]
    return make_deb(folder, name, version, members=[*folders, *files])


def _program(path: str, text: str) -> str:
    return gpu_doubles.program(Path(path).name, text, GIVEN / "state", "")


def runtime(folder: str) -> None:
    """Have `packages/runtime`: the distribution's Docker, as the builder makes its repository."""
    with tempfile.TemporaryDirectory() as work:
        locked = package_root.lock(Path(work), package_root.resolve("debian-13", *DOCKER))
        (Path(folder) / "packages").mkdir(parents=True, exist_ok=True)
        locked.made.write(Path(folder) / "packages" / "runtime", locked.file)


if __name__ == "__main__":
    parts = {"image": image, "units": units, "doubles": doubles, "runtime": runtime}
    parts[sys.argv[1]](*sys.argv[2:])
