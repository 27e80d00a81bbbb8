"""Which packages make the driver of a host: the table of routes, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from ansible_runs import ROOT

# An excerpt of the public pci.ids; the file says from where.
CHIPS = ROOT / "tests" / "assets" / "nvidia_chips.txt"
GENERATION = {
    "GM": "maxwell",
    "GP": "pascal",
    "GV": "volta",
    "TU": "turing",
    "GA": "ampere",
    "AD": "ada",
    "GH": "hopper",
    "GB": "blackwell",
}

UBUNTU_KERNEL, DEBIAN_KERNEL = "6.8.0-45-generic", "6.1.0-56-amd64"
ROCKY_VERSION = "5.14.0-570.18.1.el9_6"
ROCKY_KERNEL = f"{ROCKY_VERSION}.x86_64"
DRIVER = "580.178.04"
CANONICAL_USER = ["nvidia-utils-580-server", "libnvidia-compute-580-server"]
RPM_USER = ["nvidia-driver-cuda", "nvidia-driver-libs", "libnvidia-ml", "nvidia-persistenced"]
RPM_COMPILER = [
    *(f"kernel-devel={ROCKY_VERSION}", f"kernel-headers={ROCKY_VERSION}"),
    *("gcc", "elfutils-libelf-devel", "dkms"),
]


@pytest.fixture(scope="module")
def driver(load_module: Callable[[str], ModuleType]) -> ModuleType:
    return load_module("nvidia_driver/driver_choice")


def wish(driver: ModuleType, system: str, kernel: str, *names: str, **more: Any) -> Any:
    """A host and a bundle with packages; without `=`, of the driver's version."""
    version = more.pop("version", DRIVER)
    pairs = [name.partition("=") for name in names]
    given = {
        "system": system,
        "architecture": "x86_64",
        "kernel": kernel,
        "branch": int(version.split(".")[0]),
        "modules": "open",
        "available": tuple((name, own or f"{version}-1") for name, _, own in pairs),
    }
    return driver.Wish(**{**given, **more})


# Every row of the table: (route, system, kernel, driver, flavour, packages in their order).
ROWS = [
    (
        *("ubuntu-signed-open", "ubuntu-24.04", UBUNTU_KERNEL, DRIVER, "open"),
        [
            f"linux-modules-nvidia-580-server-open-{UBUNTU_KERNEL}",
            "nvidia-headless-no-dkms-580-server-open",
            *CANONICAL_USER,
            f"linux-signatures-nvidia-{UBUNTU_KERNEL}",
        ],
    ),
    (
        *("ubuntu-signed-proprietary", "ubuntu-22.04", UBUNTU_KERNEL, DRIVER, "proprietary"),
        [
            f"linux-objects-nvidia-580-server-{UBUNTU_KERNEL}",
            f"linux-modules-nvidia-580-server-{UBUNTU_KERNEL}",
            "nvidia-headless-no-dkms-580-server",
            *CANONICAL_USER,
            f"linux-signatures-nvidia-{UBUNTU_KERNEL}",
        ],
    ),
    (
        *("ubuntu-dkms-open", "ubuntu-24.04", UBUNTU_KERNEL, DRIVER, "open"),
        [
            *(f"linux-headers-{UBUNTU_KERNEL}", "gcc", "make", "dkms"),
            *("nvidia-kernel-source-580-server-open", "nvidia-dkms-580-server-open"),
            "nvidia-headless-no-dkms-580-server-open",
            *CANONICAL_USER,
        ],
    ),
    (
        *("ubuntu-dkms-proprietary", "ubuntu-22.04", UBUNTU_KERNEL, DRIVER, "proprietary"),
        [
            *(f"linux-headers-{UBUNTU_KERNEL}", "gcc", "make", "dkms"),
            *("nvidia-kernel-source-580-server", "nvidia-dkms-580-server"),
            "nvidia-headless-no-dkms-580-server",
            *CANONICAL_USER,
        ],
    ),
    (
        *("nvidia-open", "debian-12", DEBIAN_KERNEL, DRIVER, "open"),
        [f"linux-headers-{DEBIAN_KERNEL}", "nvidia-open-580"],
    ),
    (
        *("nvidia-open", "ubuntu-24.04", UBUNTU_KERNEL, DRIVER, "open"),
        [f"linux-headers-{UBUNTU_KERNEL}", "nvidia-driver-580-open"],
    ),
    (
        *("nvidia-proprietary", "debian-13", DEBIAN_KERNEL, DRIVER, "proprietary"),
        [f"linux-headers-{DEBIAN_KERNEL}", "cuda-drivers-580"],
    ),
    (
        *("nvidia-pinned-open", "ubuntu-24.04", UBUNTU_KERNEL, "595.91.07", "open"),
        [f"linux-headers-{UBUNTU_KERNEL}", "nvidia-driver-pinning-595", "nvidia-open"],
    ),
    (
        *("nvidia-pinned-open-compute", "ubuntu-26.04", UBUNTU_KERNEL, "595.91.07", "open"),
        [
            *(f"linux-headers-{UBUNTU_KERNEL}", "nvidia-driver-pinning-595.91.07"),
            *("libnvidia-compute", "nvidia-dkms-open", "zstd"),
        ],
    ),
    (
        *("nvidia-pinned-proprietary", "debian-12", DEBIAN_KERNEL, "595.91.07", "proprietary"),
        [f"linux-headers-{DEBIAN_KERNEL}", "nvidia-driver-pinning-595", "cuda-drivers"],
    ),
    (
        *("debian-open", "debian-13", DEBIAN_KERNEL, "550.163.01", "open"),
        [
            *(f"linux-headers-{DEBIAN_KERNEL}", "nvidia-open-kernel-dkms", "firmware-nvidia-gsp"),
            *("nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ],
    ),
    (
        *("debian-proprietary", "debian-12", DEBIAN_KERNEL, "535.309.01", "proprietary"),
        [
            *(f"linux-headers-{DEBIAN_KERNEL}", "nvidia-kernel-dkms", "firmware-nvidia-gsp"),
            *("nvidia-smi", "libcuda1", "nvidia-persistenced"),
        ],
    ),
    (
        *("rpm-ready-open", "rocky-9", ROCKY_KERNEL, DRIVER, "open"),
        [f"kmod-nvidia-open-{DRIVER}-5.14.0-570.18.1", *RPM_USER],
    ),
    (
        *("rpm-ready-proprietary", "rhel-9", ROCKY_KERNEL, DRIVER, "proprietary"),
        [f"kmod-nvidia-{DRIVER}-5.14.0-570.18.1", *RPM_USER],
    ),
    (
        *("rpm-dkms-open", "rocky-9", ROCKY_KERNEL, DRIVER, "open"),
        [*RPM_COMPILER, "kmod-nvidia-open-dkms", *RPM_USER],
    ),
    (
        *("rpm-dkms-proprietary", "rocky-8", ROCKY_KERNEL, DRIVER, "proprietary"),
        [*RPM_COMPILER, "kmod-nvidia-latest-dkms", *RPM_USER],
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_bundle_with_a_rows_packages_gives_them_in_their_order(
    driver: ModuleType, row: tuple[str, str, str, str, str, list[str]]
) -> None:
    route, system, kernel, version, modules, packages = row
    names = sorted(packages)
    choice = driver.choose(wish(driver, system, kernel, *names, version=version, modules=modules))
    assert choice.problems == []
    assert (choice.route, choice.version, choice.packages) == (route, version, packages)
    assert choice.compiles is ("signed" not in route and "ready" not in route)
    assert choice.load == ["nvidia", "nvidia-uvm", "nvidia-modeset"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_without_any_one_of_them_the_bundle_is_refused_and_the_missing_one_is_named(
    driver: ModuleType, row: tuple[str, str, str, str, str, list[str]]
) -> None:
    _, system, kernel, version, modules, packages = row
    optional = ("linux-signatures-nvidia", "zstd")
    for absent in (name for name in packages if not name.startswith(optional)):
        names = [name for name in packages if name != absent]
        given = wish(driver, system, kernel, *names, version=version, modules=modules)
        (problem,) = driver.choose(given).problems
        assert problem.check == "driver packages"
        # Of several ways that lack one package each, the preferred one is told.
        assert "lacks" in problem.found
        assert problem.fix.endswith("uname -r")


def test_every_route_has_a_row(driver: ModuleType) -> None:
    assert {route.name for route in driver.ROUTES} == {row[0] for row in ROWS}


def test_modules_that_are_ready_and_signed_come_before_a_compiler(driver: ModuleType) -> None:
    everything = {name for row in ROWS if row[1] == "ubuntu-24.04" for name in row[5]}
    choice = driver.choose(wish(driver, "ubuntu-24.04", UBUNTU_KERNEL, *everything))
    assert choice.route == "ubuntu-signed-open"
    other = driver.choose(wish(driver, "ubuntu-24.04", "6.8.0-99-generic", *everything))
    assert other.packages == []
    (problem,) = other.problems
    assert "6.8.0-99-generic" in problem.expected
    assert "it carries them for 6.8.0-45-generic" in problem.expected


def test_a_driver_of_another_branch_is_not_taken(driver: ModuleType) -> None:
    names = [f"linux-headers-{DEBIAN_KERNEL}", "nvidia-driver-pinning-595", "nvidia-open"]
    given = wish(driver, "debian-12", DEBIAN_KERNEL, *names, version="600.1.1", branch=595)
    (problem,) = driver.choose(given).problems
    assert "a driver of the branch 595" in problem.found


def test_an_unknown_system_is_told_so(driver: ModuleType) -> None:
    (problem,) = driver.choose(wish(driver, "gentoo-2", "6.6.1", "nvidia-open-580")).problems
    assert problem.found.startswith("gentoo-2")


def fabric(driver: ModuleType, kind: str, *names: str, **more: Any) -> Any:
    base = [f"linux-headers-{DEBIAN_KERNEL}", f"nvidia-open-{DRIVER.split('.')[0]}"]
    return driver.choose(
        wish(driver, "debian-12", DEBIAN_KERNEL, *base, *names, fabric=kind, **more)
    )


MANAGER = ["nvidia-fabricmanager", "libnvidia-nscq"]
SUBNET = ["nvlsm=2026.1", "infiniband-diags=1.0", "libnvsdm"]


def test_an_nvswitch_brings_a_manager_of_the_very_version_of_the_driver(driver: ModuleType) -> None:
    choice = fabric(driver, "nvswitch", *MANAGER)
    assert choice.problems == []
    assert choice.packages[-2:] == MANAGER
    assert choice.units == ["nvidia-fabricmanager.service"]
    assert choice.load == ["nvidia", "nvidia-uvm", "nvidia-modeset"]


@pytest.mark.parametrize("version", ["580.178.03", "580.178.04.1", "580.65.06"])
def test_a_manager_of_another_version_is_refused(driver: ModuleType, version: str) -> None:
    choice = fabric(driver, "nvswitch", f"nvidia-fabricmanager={version}-1", "libnvidia-nscq")
    (problem,) = choice.problems
    assert problem.check == "fabric manager"
    assert f"nvidia-fabricmanager {version}" in problem.found
    assert DRIVER in problem.expected


def test_names_of_the_branch_are_taken_where_there_are_no_others(driver: ModuleType) -> None:
    old = ["nvidia-fabricmanager-580", "libnvidia-nscq-580"]
    assert fabric(driver, "nvswitch", *old).packages[-2:] == old
    both = fabric(driver, "nvswitch", *old, "nvidia-fabricmanager=580.1.1-1", "libnvidia-nscq")
    assert both.packages[-2:] == ["nvidia-fabricmanager-580", "libnvidia-nscq"]


def test_nvlink_5_brings_its_subnet_manager_and_modules(driver: ModuleType) -> None:
    choice = fabric(driver, "nvlink5", *MANAGER, *SUBNET)
    assert choice.problems == []
    assert set(choice.packages) >= {"nvlsm", "infiniband-diags", "libnvsdm", *MANAGER}
    assert choice.load[-2:] == ["ib_umad", "mlx5_core"]
    (problem,) = fabric(driver, "nvlink5", *MANAGER, *SUBNET[1:]).problems
    assert problem.found == "the bundle lacks nvlsm"


def test_arm_has_no_libnvsdm_and_grace_blackwell_wants_imex(driver: ModuleType) -> None:
    more = {"architecture": "aarch64", "gpus": ("10de:2941",)}
    (problem,) = fabric(driver, "nvlink5", *MANAGER, *SUBNET[:2], **more).problems
    assert problem.found == "the bundle lacks nvidia-imex"
    choice = fabric(driver, "nvlink5", *MANAGER, *SUBNET[:2], "nvidia-imex", **more)
    assert choice.problems == []
    assert choice.packages[-1] == "nvidia-imex"


def test_rpm_systems_call_the_manager_otherwise(driver: ModuleType) -> None:
    names = [*RPM_COMPILER, "kmod-nvidia-open-dkms", *RPM_USER]
    more = ["nvidia-fabric-manager", "libnvidia-nscq"]
    given = wish(driver, "rocky-9", ROCKY_KERNEL, *names, *more, fabric="nvswitch")
    assert driver.choose(given).packages[-2:] == more


def test_the_diagnosis_is_for_the_cuda_of_the_driver_and_new_enough(driver: ModuleType) -> None:
    core = "datacenter-gpu-manager-4-core=1:4.2.3-1"
    names = [core, "datacenter-gpu-manager-4-cuda12=1:4.2.3-1", f"linux-headers-{DEBIAN_KERNEL}"]
    old = wish(
        *(driver, "debian-12", DEBIAN_KERNEL, *names, "nvidia-open-570"),
        version="570.133.20",
        diagnosis=True,
    )
    wanted = [name.partition("=")[0] for name in names[:2]]
    assert (driver.choose(old).problems, driver.choose(old).packages[-2:]) == ([], wanted)
    new = wish(
        *(driver, "debian-12", DEBIAN_KERNEL, *names, "nvidia-driver-pinning-595", "nvidia-open"),
        version="595.91.07",
        diagnosis=True,
    )
    lacks, too_old = driver.choose(new).problems
    assert (lacks.check, lacks.found[-7:]) == ("diagnosis", "-cuda13")
    assert (too_old.check, too_old.found) == ("diagnosis", "DCGM 4.2.3")


def chips() -> Iterator[tuple[str, str]]:
    for line in CHIPS.read_text().splitlines():
        if not line.startswith("#"):
            device, chip, *_ = line.split(" ")
            yield device, GENERATION[chip[:2]]


def test_every_published_device_has_the_generation_of_its_chip(driver: ModuleType) -> None:
    wrong = {device: kind for device, kind in chips() if driver.generation(device) != kind}
    assert wrong == {}


def test_what_no_list_has_is_of_no_generation(driver: ModuleType) -> None:
    assert [driver.generation(device) for device in ("0040", "1003", "ffff")] == ["", "", ""]


def refusals(driver: ModuleType, gpu: str, modules: str, version: str, **more: Any) -> list[str]:
    """The checks that fail, of a bundle that has all packages."""
    if version < "590":
        names = [f"nvidia-open-{version[:3]}", f"cuda-drivers-{version[:3]}"]
    else:
        names = [f"nvidia-driver-pinning-{version[:3]}", "nvidia-open", "cuda-drivers"]
    names.append(f"linux-headers-{DEBIAN_KERNEL}")
    given = wish(
        *(driver, "debian-12", DEBIAN_KERNEL, *names),
        version=version,
        modules=modules,
        gpus=(f"10de:{gpu}",),
        **more,
    )
    return [problem.check for problem in driver.choose(given).problems]


@pytest.mark.parametrize(
    ("gpu", "modules", "version", "checks"),
    [
        ("20b2", "open", DRIVER, []),  # A100
        ("20b2", "proprietary", DRIVER, []),
        ("1eb8", "open", DRIVER, []),  # T4
        ("26b9", "proprietary", "595.91.07", []),  # L40S
        ("2330", "open", DRIVER, []),  # H100
        ("2342", "proprietary", DRIVER, ["driver modules"]),  # GH200
        ("2b85", "proprietary", DRIVER, ["driver modules"]),  # RTX 5090
        ("2901", "proprietary", DRIVER, ["driver modules"]),  # B200
        ("2901", "open", "570.133.20", []),
        ("2901", "open", "570.124.06", ["driver version"]),
        ("2bb5", "open", "575.51.03", ["driver version"]),  # RTX PRO 6000 Server
        ("2bb5", "open", "575.57.08", []),
        ("1db6", "proprietary", DRIVER, []),  # V100
        ("1db6", "open", DRIVER, ["driver modules"]),
        ("1db6", "proprietary", "595.91.07", ["driver branch"]),
        ("1b38", "open", "595.91.07", ["driver modules", "driver branch"]),  # P40
        ("20b2", "proprietary", "615.71.09", ["driver modules"]),
    ],
)
def test_a_card_gets_only_what_there_is_for_it(
    driver: ModuleType, gpu: str, modules: str, version: str, checks: list[str]
) -> None:
    assert refusals(driver, gpu, modules, version) == checks
    assert refusals(driver, gpu.upper(), modules, version) == checks


@pytest.mark.parametrize(
    ("floor", "checks"),
    [("", []), (DRIVER, []), ("580.65.06", []), ("580.178.05", ["driver version"])],
)
def test_the_release_has_a_floor(driver: ModuleType, floor: str, checks: list[str]) -> None:
    assert refusals(driver, "20b2", "open", DRIVER, floor=floor) == checks


def test_a_fix_ends_in_a_command(driver: ModuleType) -> None:
    given = wish(
        *(driver, "gentoo-2", "6.6.1", "x"),
        gpus=("10de:1db6", "10de:2901"),
        version="620.1.1",
        modules="proprietary",
    )
    problems = driver.choose(given).problems
    assert len(problems) == 4
    assert all(re.search(r": (\./aibox|cat|uname) ?[^:]*$", problem.fix) for problem in problems)
