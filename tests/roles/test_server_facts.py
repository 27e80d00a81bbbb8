"""What the modules of the role preflight see of a server and of its driver."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def server_info(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("preflight/server_info")


@pytest.fixture(scope="module")
def driver_info(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("preflight/driver_info")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('ID="rocky"\nVERSION_ID="9.4"\n', ["rocky 9.4", "rocky 9", "rocky"]),
        ("ID=debian\nVERSION_ID=13\n", ["debian 13", "debian"]),
        ("ID=debian\nPRETTY_NAME=sid\n", ["debian"]),
        ("", ["unknown"]),
    ],
)
def test_a_distribution_is_named_exactly_and_less_so(
    server_info: ModuleType, tmp_path: Path, text: str, names: list[str]
) -> None:
    (tmp_path / "os-release").write_text(text)
    assert server_info.distributions(tmp_path / "os-release") == names


def test_folders_on_one_file_system_are_added_up(server_info: ModuleType, tmp_path: Path) -> None:
    disks = [{"path": str(tmp_path / name), "mib": 3} for name in ("a", "b/c")]
    (found,) = server_info.grouped(disks)
    assert found["expected"] == ">= 6 MiB"
    assert found["found"].endswith(f" MiB free for {tmp_path}/a, {tmp_path}/b/c")
    assert found["enough"] is (int(found["found"].split()[0]) >= 6)
    assert found["nearest"] == str(tmp_path)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"fs/selinux/enforce": "1"}, ("enforcing", "absent")),
        ({"fs/selinux/enforce": "0"}, ("permissive", "absent")),
        ({"module/apparmor/parameters/enabled": "Y\n"}, ("absent", "enabled")),
        ({}, ("absent", "absent")),
    ],
)
def test_access_control_is_seen(
    server_info: ModuleType, tmp_path: Path, files: dict[str, str], found: tuple[str, str]
) -> None:
    write(tmp_path, files)
    said = server_info.security(tmp_path)
    assert (said["selinux"], said["apparmor"]) == found


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def test_control_groups_are_told_by_their_own_files(
    server_info: ModuleType, tmp_path: Path
) -> None:
    assert server_info.control_groups(tmp_path / "none")["version"] == 0
    assert server_info.control_groups(tmp_path)["version"] == 1
    write(tmp_path, {"cgroup.controllers": "cpuset cpu io memory\n"})
    assert server_info.control_groups(tmp_path) == {"version": 2, "missing": ["pids"]}


LIMITS = "Limit Soft Hard Units\nMax open files            1024                 4096 files\n"


def test_the_smaller_limit_of_open_files_counts(server_info: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, {"sys/fs/nr_open": "1048576\n", "1/limits": LIMITS})
    assert server_info.most_open_files(tmp_path) == 4096
    (tmp_path / "1" / "limits").unlink()
    assert server_info.most_open_files(tmp_path) == 1048576


PERIODIC = 'APT::Periodic::Unattended-Upgrade "{}";\n'


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({}, []),
        ({"etc/apt/apt.conf.d/20": PERIODIC.format(1)}, []),
        (
            {"etc/apt/apt.conf.d/20": PERIODIC.format(1), "usr/bin/unattended-upgrade": ""},
            ["unattended-upgrades"],
        ),
        (
            {
                "etc/apt/apt.conf.d/20": PERIODIC.format(1),
                "etc/apt/apt.conf.d/99": "// no\n" + PERIODIC.format(0),
                "usr/bin/unattended-upgrade": "",
            },
            [],
        ),
        (
            {"etc/systemd/system/timers.target.wants/dnf-automatic-notifyonly.timer": ""},
            [],
        ),
        (
            {"etc/systemd/system/timers.target.wants/dnf-automatic.timer": ""},
            ["dnf-automatic.timer"],
        ),
    ],
)
def test_what_upgrades_by_itself_is_named(
    server_info: ModuleType, tmp_path: Path, files: dict[str, str], found: list[str]
) -> None:
    write(tmp_path, files)
    assert server_info.unattended_upgrades(tmp_path) == found


ROUTES = """\
Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT
eth0 00000000 010011AC 0003 0 0 0 00000000 0 0 0
eth1 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0
eth2 00000000 010011AC 0002 0 0 0 00000000 0 0 0
"""
ZERO = "0" * 32
ROUTES_6 = f"""\
{ZERO} 00 {ZERO} 00 {ZERO} 00000400 00000001 00000000 00000003 eth3
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200 lo
fe80{ZERO[4:]} 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001 eth4
"""


def test_ways_out_are_default_routes_and_name_servers(
    server_info: ModuleType, tmp_path: Path
) -> None:
    assert server_info.network(tmp_path) == {"routes": [], "name_servers": []}
    write(
        tmp_path,
        {
            "proc/net/route": ROUTES,
            "proc/net/ipv6_route": ROUTES_6,
            "etc/resolv.conf": "# nameserver 192.0.2.7\nnameserver 192.0.2.1\nsearch example\n",
        },
    )
    found = {"routes": ["eth0", "eth3"], "name_servers": ["192.0.2.1"]}
    assert server_info.network(tmp_path) == found


def test_a_probe_says_whether_it_came_through(server_info: ModuleType) -> None:
    assert server_info.reached("") == ""
    assert server_info.reached("nonsense") not in ("", "reached")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert server_info.reached(address) == "reached"
    assert "refused" in server_info.reached(address)


class DockerDouble(BaseHTTPRequestHandler):
    """A double of Docker's list of containers."""

    LISTED = (
        {"Names": ["/theirs"], "Labels": None},
        {"Names": ["/ours"], "Labels": {"com.docker.compose.project": "aibox"}},
    )

    def do_GET(self) -> None:
        assert self.path == "/containers/json?all=1"
        body = json.dumps(self.LISTED).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def docker_socket(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "docker.sock"
    with socketserver.UnixStreamServer(str(path), DockerDouble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """The number of a process that runs, as Docker writes its own."""
    (tmp_path / "docker.pid").write_text(f"{os.getpid()}\n")
    return tmp_path / "docker.pid"


def test_containers_of_others_are_named(
    server_info: ModuleType, docker_socket: Path, running: Path
) -> None:
    found = {"state": "answers", "others": ["theirs"]}
    assert server_info.docker(docker_socket, running) == found


def test_a_docker_that_does_not_run_is_not_asked(
    server_info: ModuleType, docker_socket: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.pid").write_text("999999999")
    for pid in (tmp_path / "none", tmp_path / "other.pid"):
        assert server_info.docker(docker_socket, pid)["state"] == "stopped"


def test_a_docker_that_is_not_there_or_does_not_answer_is_told_apart(
    server_info: ModuleType, tmp_path: Path, running: Path
) -> None:
    assert server_info.docker(tmp_path / "none", running)["state"] == "absent"
    dead = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(dead))
    assert server_info.docker(dead, running)["state"] == "silent"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ([], "none"),
        (["blobs/sha256/ab/c"], "begun"),
        (["gens/1/plan.json", "current"], "installed"),
        (["gens/1/plan.json", "current", "journal/intent.json"], "unfinished"),
        (["journal/resume.json", "journal/intent.json"], "waiting"),
    ],
)
def test_what_is_left_of_an_earlier_installation_is_recognised(
    server_info: ModuleType, tmp_path: Path, files: list[str], found: str
) -> None:
    write(tmp_path, dict.fromkeys(files, ""))
    (tmp_path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
    assert server_info.box(tmp_path) == found
    assert server_info.box(tmp_path / "not there") == "none"


def test_a_narrow_umask_is_seen_and_left_as_it_is(server_info: ModuleType) -> None:
    before = os.umask(0o027)
    try:
        assert server_info.umask() == {"umask": "0027", "others_may_read": False}
    finally:
        assert os.umask(before) == 0o027


SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "absent"),
        ({SECURE_BOOT: "\x06\0\0\0\x01"}, "enabled"),
        ({SECURE_BOOT: "\x06\0\0\0\0"}, "disabled"),
        ({"sys/firmware/efi/fw_platform_size": "64"}, "unknown"),
    ],
)
def test_secure_boot_is_read_from_its_variable(
    driver_info: ModuleType, tmp_path: Path, files: dict[str, str], state: str
) -> None:
    write(tmp_path, files)
    assert driver_info.secure_boot(tmp_path) == state


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "absent"),
        ({"sys/module/nouveau/x": ""}, "loaded"),
        ({"sys/module/nouveau/x": "", "sys/bus/pci/drivers/nouveau/bind": ""}, "loaded"),
        ({"sys/module/nouveau/x": "", "sys/bus/pci/drivers/nouveau/0000:3b:00.0": ""}, "bound"),
    ],
)
def test_nouveau_is_seen(
    driver_info: ModuleType, tmp_path: Path, files: dict[str, str], state: str
) -> None:
    write(tmp_path, files)
    assert driver_info.nouveau(tmp_path) == state


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ({}, "absent"),
        ({"var/log/nvidia-installer.log": ""}, "removed"),
        ({"var/log/nvidia-installer.log": "", "usr/bin/nvidia-uninstall": ""}, "present"),
    ],
)
def test_a_driver_without_packages_is_seen(
    driver_info: ModuleType, tmp_path: Path, files: dict[str, str], state: str
) -> None:
    write(tmp_path, files)
    assert driver_info.run_installation(tmp_path) == state


# Names and versions as the archives of Ubuntu, Debian and NVIDIA have them.
@pytest.mark.parametrize(
    ("name", "version", "branch", "flavour"),
    [
        ("linux-modules-nvidia-580-server-open-6.8.0-101-generic", "6.8.0-101.101", "580", "open"),
        ("linux-objects-nvidia-535-server-6.8.0-79-generic", "6.8.0-79.79", "535", "proprietary"),
        ("linux-signatures-nvidia-6.8.0-101-generic", "6.8.0-101.101", "", "proprietary"),
        ("nvidia-dkms-580-server-open", "580.65.06-0ubuntu0.24.04.2", "580", "open"),
        ("nvidia-headless-no-dkms-580-server-open", "580.65.06-0ubuntu0.24.04.2", "580", ""),
        ("libnvidia-compute-580-server", "580.65.06-0ubuntu0.24.04.2", "580", ""),
        ("nvidia-kernel-common-580-server", "580.65.06-0ubuntu0.24.04.2", "580", ""),
        ("nvidia-open", "595.91.07-1ubuntu1", "595", "open"),
        ("nvidia-open-kernel-dkms", "550.163.01-2", "550", "open"),
        ("nvidia-kernel-dkms", "535.247.01-1~deb12u1", "535", "proprietary"),
        ("cuda-drivers-580", "580.65.06-1", "580", "proprietary"),
        ("kmod-nvidia-open-dkms", "3:580.65.06-1.el9", "580", "open"),
        ("nvidia-support", "20240109+1", "", ""),
    ],
)
def test_a_package_tells_its_branch_and_flavour(
    driver_info: ModuleType, name: str, version: str, branch: str, flavour: str
) -> None:
    package = driver_info.Package(name, version, "")
    assert (package.branch, package.flavour) == (branch, flavour)


STATUS = """\
Package: nvidia-driver-535
Status: install ok installed
Maintainer: Ubuntu Core Developers <ubuntu-devel-discuss@lists.ubuntu.com>
Version: 535.183.01-0ubuntu0.22.04.1

Package: libnvidia-compute-580-server
Status: install ok installed
Maintainer: Ubuntu Core Developers <ubuntu-devel-discuss@lists.ubuntu.com>
Version: 580.65.06-0ubuntu0.22.04.1

Package: nvidia-open
Status: deinstall ok config-files
Maintainer: cudatools <cudatools@nvidia.com>
Version: 595.91.07-1

Package: nvidia-container-toolkit
Status: install ok installed
Maintainer: NVIDIA CORPORATION <cudatools@nvidia.com>
Version: 1.20.0-1

Package: bash
Status: install ok installed
Version: 5.2
"""


def test_packages_that_do_not_go_together_are_found(
    driver_info: ModuleType, tmp_path: Path
) -> None:
    write(tmp_path, {"var/lib/dpkg/status": STATUS})
    found = driver_info.driver(tmp_path, "")
    assert found["packages"] == ["libnvidia-compute-580-server", "nvidia-driver-535"]
    assert found["branches"] == ["535", "580"]
    assert found["editions"] == ["desktop", "server"]
    assert found["origins"] == ["lists.ubuntu.com"]


def test_packages_of_rpm_are_found(driver_info: ModuleType, tmp_path: Path) -> None:
    listing = "kmod-nvidia-open-dkms\t580.65.06\tNVIDIA\nbash\t5.1\tRocky\nnonsense\n"
    found = driver_info.driver(tmp_path, listing)
    assert (found["branches"], found["flavours"]) == (["580"], ["open"])
    assert found["origins"] == ["NVIDIA"]
