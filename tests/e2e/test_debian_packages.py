"""The closure of Docker for Debian 13: installed from its own repository, without a network."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aibox.bundle.build import deb_file, repository
from package_archives import DATE, Said, a_key, overwrite

from .package_root import Locked, inside, lock, make_root, resolve, why_not

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

WANTED = ("docker.io", "docker-cli", "docker-compose")
INSTALL = (
    "apt-get -o APT::Update::Error-Mode=any update\n"
    "apt-get install --yes --no-install-recommends " + " ".join(WANTED)
)


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Locked:
    return lock(tmp_path_factory.mktemp("packages"), resolve("debian-13", *WANTED))


@pytest.fixture(scope="module")
def repository_folder(tmp_path_factory: pytest.TempPathFactory, docker: Locked) -> Path:
    folder = tmp_path_factory.mktemp("carried") / "repository"
    docker.made.write(folder, docker.file)
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, repository_folder: Path) -> Path:
    """A system that knows the repository and no other source."""
    root = tmp_path_factory.mktemp("host") / "root"
    make_root(repository_folder, "trixie", root)
    (root / "etc/apt/sources.list").unlink()
    use(root, repository_folder)
    return root


def use(root: Path, folder: Path) -> None:
    (root / "etc/apt/sources.list.d/bundle.sources").write_text(
        f"Types: deb\nURIs: file:{folder}\nSuites: trixie\nComponents: main\n"
        f"Signed-By: {folder}/aibox-packages.gpg\n"
    )


@pytest.fixture
def host(bare: Path, tmp_path: Path) -> Path:
    """A copy of the system, this test's own."""
    root = tmp_path / "root"
    subprocess.run(["cp", "--archive", "--reflink=auto", bare, root], check=True)
    return root


def test_the_closure_is_complete_and_its_size_is_known(
    docker: Locked, figure: Callable[[str], None]
) -> None:
    names = {item.name for item in docker.pins.packages}
    assert {"docker.io", "containerd", "runc", "iptables", "libc6", "dpkg", "apt"} <= names
    assert all(item.signed_by for item in docker.pins.archives)
    total = sum(item.size for item in docker.pins.packages)
    figure(f"Docker on Debian 13: {len(names)} packages, {total / 1e6:.1f} MB")


def test_the_same_lock_gives_the_same_repository(docker: Locked) -> None:
    key = a_key(docker.cache.folder.parent / "signing")
    assert repository.make(docker.pins, docker.file, key, DATE, Said()) == docker.made


def test_most_licences_are_known(docker: Locked, figure: Callable[[str], None]) -> None:
    found = deb_file.licences(docker.pins, docker.file, Said())
    unknown = [item.name for item in docker.pins.packages if found[item.sha256] == "unknown"]
    figure(f"licences: {len(found) - len(unknown)} of {len(found)} packages say theirs")
    assert len(unknown) < len(found) / 5
    engine = next(item for item in docker.pins.packages if item.name == "docker.io")
    assert "Apache-2.0" in found[engine.sha256]


def test_docker_installs_from_the_bundle_alone(host: Path, repository_folder: Path) -> None:
    done = inside(host, f"{INSTALL}\ndocker --version\ndocker compose version", repository_folder)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Docker version" in done.stdout
    assert "Docker Compose version" in done.stdout


def carried(folder: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "carried"
    shutil.copytree(folder, copy)
    return copy


def refuses(host: Path, folder: Path, *said: str) -> None:
    use(host, folder)
    done = inside(host, INSTALL, folder)
    assert done.returncode != 0
    assert any(text in done.stdout for text in said), done.stdout[-2000:]
    assert not (host / "usr/bin/dockerd").exists()
    assert not (host / "usr/sbin/dockerd").exists()


def test_apt_refuses_a_flipped_byte_in_a_package(
    host: Path, repository_folder: Path, tmp_path: Path
) -> None:
    folder = carried(repository_folder, tmp_path)
    (path,) = folder.glob("pool/docker.io_*.deb")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    overwrite(path, bytes(data))
    refuses(host, folder, "Hash Sum mismatch")


def test_apt_refuses_a_flipped_byte_in_the_index(
    host: Path, repository_folder: Path, tmp_path: Path
) -> None:
    folder = carried(repository_folder, tmp_path)
    index = folder / "dists/trixie/main/binary-amd64/Packages"
    overwrite(index, index.read_bytes().replace(b"Version: 2", b"Version: 3", 1))
    refuses(host, folder, "Hash Sum mismatch", "mismatch")


def test_apt_refuses_a_repository_of_another_key(
    host: Path, repository_folder: Path, docker: Locked, tmp_path: Path
) -> None:
    folder = carried(repository_folder, tmp_path)
    other = repository.make(docker.pins, docker.file, a_key(tmp_path / "other"), DATE, Said())
    for path, data in other.metadata.items():
        if not path.endswith(".gpg") or path.startswith("dists/"):
            overwrite(folder / path, data)
    refuses(host, folder, "not signed", "NO_PUBKEY", "Missing key")
