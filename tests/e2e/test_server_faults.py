"""A server done wrong on purpose, from before the installation to its end; its owner has a shop.

Real: everything that is real in `test_server`, the owner's own Docker with a container in it, and a
disk for Docker's data. Doubles: Qdrant's server, the engine that hangs, the wrong clock. The locale
of the operator's shell was never generated, and its umask lets nobody else read.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import service_images
from .journey import Done, wait_until
from .package_root import newest_kernel
from .server_operator import BOX, REASON, SYSTEM, Operator, standing
from .server_project import Packager
from .systemd_host import DOCKER, docker

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]

DATA, DISK_GIB = "/var/lib/docker", 14
# Docker without Compose: that the box brings, and takes along.
OWNED = (*SYSTEM, *(name for name in DOCKER if name != "docker-compose"), "libfaketime")
SHELL = ("LANG=ko_KR.UTF-8", "LC_ALL=ko_KR.UTF-8")
KOREAN = "업그레이드가 실패하면 어떻게 되돌리나요?"
SHOP = """
mkdir -p /srv/shop/bin && cp /bin/busybox /srv/shop/bin/ && echo open >/srv/shop/index.html
tar -C /srv/shop -c . | docker import - shop
docker run --detach --name shop --publish 8080:80 shop /bin/busybox httpd -f -h /
"""
FAKED = """
echo '@{year}-01-01 00:00:00' >/etc/faketimerc
find /usr/lib -name libfaketime.so.1 >/etc/ld.so.preload
"""
TIMES = "FAKETIME_DONT_FAKE_MONOTONIC=1"
RECOVER = (f"{BOX}/bin/aibox", "recover")
KERNEL = """
[[packages]]
name = "driver-debian-13"
role = "nvidia_driver"
format = "deb"
target = "debian-13"
wanted = ["kmod"]
kernels = ["{kernel}"]

[gate]"""
# What a command may write although it changes nothing: its program, its notes and a lock. And what
# the owner's Docker writes whenever it tidies up.
PASSED = (BOX, "/var/log", "/var/lib/containerd")


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A disk that can be full without harm to anybody else."""
    folder = tmp_path_factory.mktemp("disk")
    image, mount = folder / "disk.img", folder / "mount"
    mount.mkdir()
    with image.open("wb") as stream:
        stream.truncate(DISK_GIB << 30)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)
    image.unlink()


@pytest.fixture(scope="module")
def operator(
    media: Path, network: str, disk: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("owned")
    volume = ("--volume", f"{disk}:{DATA}")
    with standing(folder, media, network, *volume, packages=OWNED) as machine:
        machine.root("systemctl", "restart", "docker")
        machine.root("sh", "-euc", SHOP)
        yield Operator(machine, (*SHELL, TIMES), mask="077")


@pytest.fixture(scope="module")
def shop(operator: Operator) -> str:
    return in_shop(operator)


def in_shop(operator: Operator) -> str:
    """Since when the owner's container runs, which also has to be reached."""
    assert operator.runs("curl", "--silent", "http://localhost:8080/").out == "open\n"
    return operator.runs(
        "docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", "shop"
    ).out


def files(operator: Operator) -> set[str]:
    """Everything on the server that a command could have changed, with when it last was."""
    prune = " -o ".join(f"-path {path}" for path in PASSED)
    script = f"find / -xdev '(' {prune} ')' -prune -o -type f -printf '%p %T@ %s\\n'"
    words = ["docker", "exec", operator.machine.id, "sh", "-euc", script]
    found = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return {line for line in found if "__pycache__" not in line}


def left_alone(operator: Operator, bundle: str = "box", code: int = 3) -> str:
    """What an installation says that is refused; it changed nothing."""
    before, packages = files(operator), operator.runs("dpkg-query", "--show").out
    refused = operator.installs(bundle, code=code)
    assert files(operator) == before
    assert operator.runs("dpkg-query", "--show").out == packages
    kept = ("-path", f"{BOX}/programs/*", "-o", "-path", f"{BOX}/runs/*", "-o", "-name", "lock")
    assert operator.runs("find", BOX, "-type", "f", "-not", "(", *kept, ")").out == ""
    return refused.err


@contextlib.contextmanager
def full(operator: Operator, free_mib: int) -> Iterator[None]:
    """The disk of Docker's data with so little left on it."""
    fill = f"fallocate -l $(($(df --output=avail -m {DATA} | tail -1) - {free_mib}))MiB {DATA}/junk"
    operator.machine.root("sh", "-euc", fill)
    try:
        yield
    finally:
        operator.machine.root("rm", f"{DATA}/junk")


def test_a_taken_port_and_full_disks_are_told_at_once_and_nothing_is_changed(
    operator: Operator, shop: str
) -> None:
    taking = ("--quiet", "--unit", "taking", "python3", "-m", "http.server", "443")
    operator.machine.root("systemd-run", *taking)
    operator.machine.root("mount", "-t", "tmpfs", "-o", "size=512m", "tmpfs", BOX)
    try:
        with full(operator, 300):
            said = left_alone(operator)
    finally:
        operator.machine.root("umount", BOX)
        operator.machine.root("systemctl", "stop", "taking")
    assert "error[preflight-veto]" in said
    assert "fault: the host" in said
    assert "ports: found taken: 443" in said
    assert f"at {BOX}; expected >= 8000 MiB free" in said
    assert f"MiB free for {DATA}" in said
    assert in_shop(operator) == shop


@pytest.mark.parametrize(
    ("year", "code", "told"),
    [
        (2019, 3, ("clock: found 2019-01-01 (UTC)", "date --set")),
        (2046, 4, ("expired", "2046-01-01")),
    ],
)
def test_a_clock_that_is_years_off_is_refused(
    operator: Operator, year: int, code: int, told: tuple[str, ...]
) -> None:
    operator.machine.root("sh", "-euc", FAKED.format(year=year))
    try:
        said = left_alone(operator, code=code)
    finally:
        operator.machine.root("rm", "/etc/ld.so.preload")
    assert [part for part in told if part not in said] == [], said


def in_its_turn(operator: Operator, bundle: str) -> Done:
    """Install once nobody is left who holds the box: what a killed command had started ends."""
    done: list[Done] = []

    def is_free() -> bool:
        done.append(operator.tries(*operator.installation(bundle)))
        return "error[box-busy]" not in done[-1].err

    wait_until(is_free, 120, "the end of what a killed command had started")
    assert done[-1].code == 0, f"{done[-1].code}:\n{done[-1].err}"
    return done[-1]


def test_killed_in_a_play_in_which_packages_come(operator: Operator, shop: str) -> None:
    playing = r"\[provision_server\] .*(Install|Bring|package)"
    operator.is_interrupted(playing, operator.kills, *operator.installation())
    assert operator.tries(*operator.installation()).code == 1
    assert in_shop(operator) == shop


def test_a_later_release_goes_on_and_says_what_is_wrong_when_the_disk_fills_up(
    operator: Operator, tuned: str, shop: str
) -> None:
    """What was left lying is that of an earlier release, whose command line was another one."""
    wait_until(lambda: operator.tries(*RECOVER).code == 0, 120, "a box that nobody holds")
    (left,) = operator.types("history", "--json").json
    assert left["reason"] == "interrupted while staging"
    with contextlib.ExitStack() as stack:

        def fills() -> None:
            stack.enter_context(full(operator, 100))

        loading = r"\[images\] \S+: loading"
        said = operator.is_interrupted(loading, fills, *operator.installation(tuned), code=1)
    assert "the disk that holds Docker's data is full" in said
    assert "fault: the host" in said
    assert "docker system df" in said
    assert in_shop(operator) == shop


def test_killed_while_an_image_is_loaded_the_next_run_finishes_it(
    operator: Operator, tuned: str, shop: str
) -> None:
    loading = r"\[images\] \S+: (loaded [1-9]|Loading)"
    operator.is_interrupted(loading, operator.kills, *operator.installation(tuned))
    done = in_its_turn(operator, tuned)
    assert done.longest_silence < 6
    answer = operator.types("ask", KOREAN, "--json").json
    assert answer["grounded"]
    assert answer["engine"] != "extractive"
    assert answer["citations"][0]["document"] == "ko/upgrade-and-rollback.md"
    history = operator.types("history", "--json").json
    assert [fact["outcome"] for fact in history].count("committed") == 1
    assert in_shop(operator) == shop


@pytest.fixture(scope="module")
def holdings(operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """What a delta for the installed server is made against."""
    path = tmp_path_factory.mktemp("holdings") / "have.json"
    operator.machine.root("sh", "-euc", f"{BOX}/bin/aibox have >/root/have.json")
    docker("cp", f"{operator.machine.id}:/root/have.json", str(path))
    return "--have", str(path)


def test_a_kernel_that_the_packages_are_not_for_is_refused_and_the_box_serves_on(
    operator: Operator, supplier: Packager, media: Path, holdings: tuple[str, str]
) -> None:
    kernel = newest_kernel("debian-13")
    with supplier.changed((r"^\[gate\]", KERNEL.format(kernel=kernel))):
        supplier.builds(media / "driver", "--skip-proof", *holdings)
    before, containers = files(operator), operator.containers()
    said = operator.runs(*operator.upgrade("driver"), code=3).err
    running = operator.runs("uname", "-r").out.strip()
    assert f"kernel: found {running}; expected {kernel}" in said
    assert (files(operator), operator.containers()) == (before, containers)


def test_an_engine_that_hangs_behind_a_good_health_page_is_taken_back(
    operator: Operator,
    supplier: Packager,
    media: Path,
    holdings: tuple[str, str],
    tmp_path: Path,
    figure: Callable[[str], None],
) -> None:
    double = service_images.hanging_engine(tmp_path)
    image = service_images.publish(double, supplier.registry, "hanging:1")
    with supplier.changed(
        (r'^reference = "\S+/vllm:1"', f'reference = "{image}"'),
        (r"^ready_deadline_s = .*", "ready_deadline_s = 20.0"),
        (r"^question_deadline_s = .*", "question_deadline_s = 5.0"),
    ):
        supplier.builds(media / "hanging", *holdings)
    before, begun = operator.status(), time.monotonic()
    refused = operator.runs(*operator.upgrade("hanging"), code=5)
    figure(f"an upgrade to an engine that hangs: undone after {time.monotonic() - begun:.1f} s")
    assert "the engine does not answer after 20 s" in refused.err
    after = operator.status()
    assert (after["release"], after["state"]) == (before["release"], "running")
    wait_until(lambda: not operator.answers().get("degraded"), 180, "an answer of the engine")
    answer = operator.answers()
    assert answer["citations"][0]["document"] == "upgrade-and-rollback.md"
    figure(f"and the earlier engine answered after {time.monotonic() - begun:.1f} s")


def test_uninstalled_the_server_is_its_owners_again(operator: Operator, shop: str) -> None:
    operator.types("uninstall", "--purge", "--yes")
    assert in_shop(operator) == shop
    packages = operator.runs("dpkg-query", "--show", "--showformat", "${Package}\n").out.split()
    assert "docker.io" in packages
    assert "docker-compose" not in packages
    assert operator.runs("docker", "images", "--format", "{{.Repository}}").out == "shop\n"
