"""Real packages from the mirror of this machine, and roots without a network to install them in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aibox.bundle.build import archive_files, debian, mirrors_file, repository
from aibox.bundle.build.cache import BlobCache
from aibox.bundle.build.repository_files import Repository
from aibox.errors import BadUsage
from aibox.pins import PackageFormat, PackageSet
from aibox.profile import PackagesWish
from package_archives import DATE, Said, a_key

ARCHITECTURE = "amd64"
COMMAND_SECONDS = 900
_NEEDED = {
    "debootstrap": "debootstrap",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "gpg": "gpg",
    "gpgv": "gpgv",
    "setpriv": "util-linux",
    "unshare": "util-linux",
}
_ALONE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")


def why_not() -> str:
    """Why there are no such roots on this machine and what to do about it, or nothing."""
    if os.geteuid() != 0:
        return "installing packages into a root wants root: run ./test e2e as root"
    lacking = sorted({package for name, package in _NEEDED.items() if shutil.which(name) is None})
    if lacking:
        return f"there is no root to install in: apt-get install {' '.join(lacking)}"
    if os.uname().machine != "x86_64":
        return "the packages of these tests are those of x86-64"
    try:
        mirrors_file.read().archives(debian.targets.target("debian-13"), ARCHITECTURE)
    except BadUsage as error:
        return f"{error.message}: run on Debian"
    return ""


@dataclass(frozen=True)
class Locked:
    """A wish as the lock has it, its files fetched, and the repository made of them."""

    pins: PackageSet
    cache: BlobCache
    made: Repository

    def file(self, sha256: str) -> Path:
        sizes = {item.sha256: item.size for item in self.pins.packages}
        path = self.cache.find(sha256, sizes[sha256])
        assert path is not None
        return path


def resolve(target: str, *wanted: str, kernels: Sequence[str] = ()) -> PackageSet:
    """The closure by the real apt from the real archive."""
    wish = PackagesWish(
        name="wanted",
        format=PackageFormat.DEB,
        target=target,
        wanted=wanted,
        kernels=tuple(kernels),
    )
    return debian.resolve(wish, ARCHITECTURE, mirrors_file.read(), Said())


def lock(folder: Path, pins: PackageSet) -> Locked:
    """Fetch a closure and make its repository."""
    cache = BlobCache(folder / "cache")
    archive_files.fetch(pins, cache, mirrors_file.read(), Said())
    sizes = {item.sha256: item.size for item in pins.packages}

    def file(sha256: str) -> Path:
        path = cache.find(sha256, sizes[sha256])
        assert path is not None
        return path

    made = repository.make(pins, file, a_key(folder / "signing"), DATE, Said())
    return Locked(pins, cache, made)


def newest_kernel(target: str) -> str:
    """The newest kernel of the target's archive, as `uname -r` would say it."""
    names = [item.name for item in resolve(target, "linux-headers-amd64").packages]
    headers = [
        name for name in names if name.startswith("linux-headers-") and name[14:15].isdigit()
    ]
    return next(name.removeprefix("linux-headers-") for name in headers if name.endswith("-amd64"))


def make_root(repository_folder: Path, suite: str, root: Path) -> None:
    """The smallest system of a release, from the packages of a repository alone."""
    keyring = repository_folder / "aibox-packages.gpg"
    words = ["--variant=minbase", f"--keyring={keyring}", suite, str(root)]
    done = _run(*_ALONE, "debootstrap", *words, f"file://{repository_folder}")
    assert done.returncode == 0, done.stdout[-3000:]


def inside(root: Path, script: str, *shared: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a root, with no network; shared folders lie at the same place in it."""
    mounts = [f"mount -t proc proc '{root}/proc'"] if (root / "proc").is_dir() else []
    for folder in shared:
        (root / str(folder).lstrip("/")).mkdir(parents=True, exist_ok=True)
        mounts.append(f"mount --bind '{folder}' '{root}{folder}'")
    outer = "\n".join(["set -eu", *mounts, 'exec chroot "$1" sh -eu -c "$2"'])
    return _run(*_ALONE, "sh", "-c", outer, "sh", str(root), script)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "DEBIAN_FRONTEND": "noninteractive",
        "DPKG_FORCE": "unsafe-io",
        "LC_ALL": "C.UTF-8",
    }
    return subprocess.run(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
