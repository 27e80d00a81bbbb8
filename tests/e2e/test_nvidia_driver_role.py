"""A driver comes to a server without a network from the bundle's packages, compiles, and goes.

Debian 12's own driver for its newest kernel: DKMS really compiles it, in a container whose kernel
is another one and that has no GPU; so the module is there, and is not loaded.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from aibox.pins import Redistribution

from . import package_root, systemd_host
from .package_root import Locked, lock, newest_kernel, resolve
from .role_plays import Played, Stage
from .systemd_host import Server, docker

WHY_NOT = package_root.why_not() or systemd_host.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

WANTED = (
    *("nvidia-kernel-dkms", "firmware-nvidia-gsp"),
    *("nvidia-smi", "libcuda1", "nvidia-persistenced"),
)
BOX = "/var/lib/aibox"
SOURCE = f"{BOX}/gens/1/tree/packages/driver"
CREATE = ("offline_repo.create", "nvidia_driver.create", "offline_repo.remove")
# Without the list of a kernel's modules, which the kernel's own package would take away.
FILES = (
    "find /etc /usr /opt /root /var/lib/dkms /boot "
    "-not -path '*/__pycache__*' -not -path '/usr/lib/modules*'"
)


@dataclass(frozen=True)
class Site:
    """A server that no network reaches, with the driver's repository on its disk."""

    server: Server
    stage: Stage
    driver: Locked

    @property
    def kernel(self) -> str:
        return self.driver.pins.kernels[0]

    @property
    def version(self) -> str:
        package = next(p for p in self.driver.pins.packages if p.name == "nvidia-kernel-dkms")
        return package.version.partition("-")[0]

    def plays(self, *entries: str, check: bool = False, **more: object) -> Played:
        given = {
            "offline_repo_state": f"{BOX}/provision",
            "offline_repo_name": "nvidia_driver",
            "offline_repo_source": SOURCE,
            "offline_repo_suite": "bookworm",
            "nvidia_driver_state": f"{BOX}/provision",
            "nvidia_driver_available": [
                f"{package.name}={package.version}" for package in self.driver.pins.packages
            ],
            "nvidia_driver_branch": int(self.version.split(".")[0]),
            "nvidia_driver_modules": "proprietary",
            "nvidia_driver_kernel": self.kernel,
            "nvidia_driver_report": self.stage.folder / "report.json",
            "nvidia_driver_outcome": self.stage.folder / "outcome.json",
        }
        return self.stage.plays(*entries, given={**given, **more}, check=check)

    def shell(self, script: str) -> str:
        return self.server.root("sh", "-euc", script).strip()

    def packages(self) -> str:
        """Without versions: what the host has is renewed where a package asks for it."""
        return self.shell("dpkg-query --show --showformat='${Package} ${Status}\\n'")

    def lists_files(self, name: str) -> None:
        """Note every path that a package or a role could leave, on the server."""
        self.shell(f"{FILES} | sort > {BOX}/files.{name} || true")

    def came(self, before: str, after: str) -> str:
        return self.shell(f"comm -13 {BOX}/files.{before} {BOX}/files.{after}")

    def report(self) -> dict[str, dict[str, str]]:
        text = (self.stage.folder / "report.json").read_text()
        return {one["check"]: one for one in json.loads(text)}

    def outcome(self) -> dict[str, object]:
        outcome: dict[str, object] = json.loads((self.stage.folder / "outcome.json").read_text())
        return outcome


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    kernel = newest_kernel("debian-12")
    driver = lock(folder, resolve("debian-12", *WANTED, kernels=(kernel,)))
    driver.made.write(folder / "driver", driver.file)
    name = f"aibox-driver-{uuid.uuid4().hex[:8]}"
    with systemd_host.daemon(folder):
        docker("network", "create", "--internal", name)
        try:
            options = ("--network", name)
            with systemd_host.server(folder, options=options, release="bookworm") as server:
                # dpkg waits for the disk after every file otherwise.
                unsafe = "echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/unsafe"
                folders = f"mkdir -m 700 -p {BOX}/gens/1/tree/packages"
                server.root("sh", "-c", f"{unsafe}; {folders}")
                docker("cp", str(folder / "driver"), f"{server.id}:{SOURCE}")
                (folder / "stage").mkdir()
                yield Site(server, Stage(server, folder / "stage"), driver)
        finally:
            docker("network", "rm", name)


def test_a_driver_is_compiled_on_the_host_stays_and_goes(
    site: Site, figure: Callable[[str], None]
) -> None:
    assert site.driver.pins.redistribution is Redistribution.OPERATOR_ONLY
    packages = site.packages()
    site.lists_files("before")
    a_kernel_that_the_bundle_does_not_have_is_refused(site)
    assert site.plays(*CREATE, check=True).changed
    assert site.packages() == packages

    came = site.plays(*CREATE)
    assert came.changed
    assert came.retries > 3  # every look at the installation is seen
    the_module_is_there(site)
    site.shell("systemd-analyze verify /etc/systemd/system/aibox-nvidia-persistence.service")
    again = site.plays(*CREATE)
    assert again.changed == []
    figure(
        f"driver {site.version} for {site.kernel}: installed and compiled in {came.seconds:.0f} s; "
        f"again, without a change, in {again.seconds:.0f} s"
    )

    gone = site.plays("nvidia_driver.remove")
    assert gone.changed
    assert site.packages() == packages
    assert site.shell("apt-mark showhold") == ""
    site.lists_files("after")
    assert site.came("before", "after") == ""
    assert site.plays("nvidia_driver.remove").changed == []
    figure(f"driver: taken away in {gone.seconds:.0f} s")


def a_kernel_that_the_bundle_does_not_have_is_refused(site: Site) -> None:
    packages = site.packages()
    refused = site.plays(*CREATE, nvidia_driver_kernel="6.1.0-1-amd64")
    assert not refused.stats.succeeded
    assert "linux-headers-6.1.0-1-amd64" in refused.complaint
    assert site.packages() == packages


def the_module_is_there(site: Site) -> None:
    described = site.shell(f"modinfo -k {site.kernel} nvidia-current")
    assert site.version in described
    assert f"vermagic:       {site.kernel} " in described
    assert "installed" in site.shell("dkms status")
    held = site.shell("apt-mark showhold").split()
    assert {"nvidia-kernel-dkms", "libcuda1", f"linux-headers-{site.kernel}"} <= set(held)
    report, outcome = site.report(), site.outcome()
    assert report["kernel modules"]["status"] == "ok"
    assert report["GPUs"]["status"] == "veto"
    assert outcome["route"] == "debian-proprietary"
    assert outcome["version"] == site.version
    assert outcome["reboot_required"] is True
    assert site.shell("systemctl is-enabled aibox-nvidia-persistence.service") == "enabled"
    assert "nouveau" in site.shell("cat /etc/modprobe.d/aibox-nouveau.conf")
