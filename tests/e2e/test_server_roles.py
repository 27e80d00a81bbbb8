"""The roles that need no package, on a server: judged, made ready, closed, and given back.

One journey; every test goes on where the one before it stopped. Docker and the command line are
doubles on the server; its systemd, users, file systems and nftables are real. The server's shell
has a narrow umask and a Korean locale (`role_plays.Stage`).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aibox.preflight import ServerNeeds, server_variables
from aibox.profile import Requires
from aibox.render import render_system_units
from ansible_runs import ROOT

from . import systemd_host
from .journey import wait_until
from .role_plays import Played, Stage
from .systemd_host import Server

WHY_NOT = systemd_host.why_not()
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.enable_socket,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]

BOX = "/var/lib/aibox"
SMALL_DISK = "/small"
CREATE = ("box_layout.create_system", "stack_units.create", "firewall.create", "hardening.create")
REMOVE = ("stack_units.remove", "firewall.remove", "hardening.remove", "box_layout.remove_system")
# A network of the stack with one service in it, and a machine outside that the server can reach.
NETWORKS = """
ip link add aibox-outside type bridge
ip address add 10.99.0.1/24 dev aibox-outside
ip link set aibox-outside up
ip netns add service
ip link add inner type veth peer name eth0 netns service
ip link set inner master aibox-outside up
ip -netns service address add 10.99.0.2/24 dev eth0
ip -netns service link set lo up
ip -netns service link set eth0 up
ip -netns service route add default via 10.99.0.1
ip netns add outside
ip link add outer type veth peer name eth0 netns outside
ip address add 10.98.0.1/24 dev outer
ip link set outer up
ip -netns outside address add 10.98.0.2/24 dev eth0
ip -netns outside link set lo up
ip -netns outside link set eth0 up
ip -netns outside route add default via 10.98.0.1
"""
SERVICE, OUTSIDE, GATEWAY = "10.99.0.2", "10.98.0.2", "10.98.0.1"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)"
# A double of Docker: a container runs until it is told to stop.
DOCKER = """\
#!/bin/sh
for service; do :; done
case " $* " in
    *" up "*) echo $$ > "/run/double-$service"; exec sleep infinity ;;
    *" stop "*) kill "$(cat "/run/double-$service")" ;;
esac
"""
# A double of the command line: it notes what it is told, and starts one service.
COMMAND = f"""\
#!/bin/sh
echo "$*" >> {BOX}/told
[ "$1" != start ] || systemctl start aibox@chat.service
[ "$1 $2" != 'install --resume' ] || rm {BOX}/journal/resume.json
"""
DOCKER_UNIT = "[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"


@dataclass(frozen=True)
class Site:
    """A server, the stage on which roles are played, and where these leave their reports."""

    server: Server
    stage: Stage
    folder: Path

    def plays(self, *entries: str, check: bool = False, **more: object) -> Played:
        return self.stage.plays(*entries, given={**self.given(), **more}, check=check)

    def given(self) -> dict[str, object]:
        return {
            "box_layout_root": BOX,
            "box_layout_users": [{"name": "aibox-app", "uid": 70002}, {"name": "aibox-other"}],
            "box_layout_service_folders": [{"path": "data/rag", "owner": "aibox-app"}],
            "box_layout_report": self.folder / "layout.json",
            "stack_units_source": self.folder / "units",
            "firewall_mode": "enforce",
            "firewall_close_host": True,
            "firewall_report": self.folder / "firewall.json",
            "hardening_root": BOX,
            "hardening_report": self.folder / "hardening.json",
        }

    def shell(self, script: str) -> str:
        return self.server.root("sh", "-euc", script).strip()

    def has(self, script: str) -> bool:
        return self.shell(f"if {script}; then echo yes; fi") == "yes"

    def writes(self, path: str, text: str, mode: str = "644") -> None:
        self.shell(f"printf %s {shlex.quote(text)} | install -D -m {mode} /dev/stdin {path}")

    def listens(self, port: int, *, within: str = "") -> None:
        """Let something accept connections on every address of the server, or of a network."""
        inside = f"ip netns exec {within}" if within else ""
        name = f"listens-{within}{port}"
        self.shell(f"systemd-run --quiet --unit {name} {inside} python3 -m http.server {port}")
        here = "127.0.0.1" if not within else {"service": SERVICE, "outside": OUTSIDE}[within]
        # A look from the same network: no rule is in the way.
        wait_until(lambda: self.connects(here, port, within=within), 20, f"port {port}")

    def connects(self, address: str, port: int, *, within: str = "") -> bool:
        """Whether a connection comes about, from the server or from one of the networks."""
        inside = f"ip netns exec {within}" if within else ""
        done = f"{inside} python3 -c {shlex.quote(CONNECT)} {address} {port}"
        return self.has(f"{done} 2> /dev/null")

    def findings(self, name: str) -> dict[str, dict[str, str]]:
        found = json.loads((self.folder / f"{name}.json").read_text())
        return {one["check"]: one for one in found}

    def left(self) -> list[str]:
        """Every file of the roles outside of the box root."""
        return self.shell("find /etc -name '*aibox*'").splitlines()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("roles")
    options = (
        *("--tmpfs", f"{SMALL_DISK}:size=16m"),
        *("--sysctl", "net.ipv4.ip_forward=1"),
    )
    packages = ("nftables", "iproute2")
    with (
        systemd_host.daemon(folder),
        systemd_host.server(folder, packages=packages, options=options) as server,
    ):
        (folder / "stage").mkdir()
        made = Site(server, Stage(server, folder / "stage"), folder)
        made.writes("/usr/bin/docker", DOCKER, "755")
        made.writes("/etc/systemd/system/docker.service", DOCKER_UNIT)
        made.shell("systemctl daemon-reload; systemctl enable --now docker.service 2> /dev/null")
        write_units(folder / "units")
        yield made


def write_units(folder: Path) -> None:
    stacks = ROOT / "stacks"
    templates = {
        str(path.relative_to(stacks)): path.read_bytes()
        for path in (stacks / "container").glob("*.j2")
    }
    folder.mkdir()
    for name, text in render_system_units(templates, BOX).items():
        (folder / name).write_bytes(text)


def test_a_server_that_will_not_do_is_told_all_of_it_and_left_as_it_is(site: Site) -> None:
    site.listens(443)
    requires = Requires(
        architectures=("x86_64", "aarch64"),
        python_min="3.11",
        memory_mib_min=1,
        memory_mib_recommended=2,
        disk_mib_min=1,
        inodes_min=1,
    )
    needs = ServerNeeds(
        distributions=("debian 13",),
        kernels=("6.1.0-not-this-one",),
        disks={Path(SMALL_DISK, "docker"): 5000, Path("/var"): 1},
        air_gapped=True,
        egress_probe="127.0.0.1:443",
    )
    report = site.folder / "preflight.json"
    asked = server_variables(requires, needs, root=Path(BOX), report=report, ports=(443, 8443))
    assert site.plays("preflight.judge_server", **asked).changed == []
    found = site.findings("preflight")
    vetoed = {name for name, finding in found.items() if finding["status"] == "veto"}
    assert vetoed == {"kernel", "disk space per file system", "ports", "air gap"}
    assert found["ports"]["found"] == "taken: 443"
    assert f"MiB free for {SMALL_DISK}/docker; " in found["disk space per file system"]["found"]
    assert found["distribution"]["found"] == "debian 13"
    assert found["administrator"]["found"] == "root"
    assert (found["umask"]["found"], found["umask"]["status"]) == ("0077", "warn")
    assert "eth0" in found["air gap"]["found"]
    assert site.left() == []
    assert not site.has(f"[ -e {BOX} ]")


def test_check_mode_on_a_virgin_server_announces_and_makes_nothing(site: Site) -> None:
    announced = site.plays(*CREATE, check=True).changed
    assert any("Make the users of the services" in task for task in announced)
    assert any("Compare the box's rules" in task for task in announced)
    assert site.left() == []
    assert not site.has(f"[ -e {BOX} ] || getent passwd aibox-app || nft list table inet aibox")


def test_users_folders_units_and_rules_are_made_and_a_second_run_changes_nothing(
    site: Site,
) -> None:
    site.shell("nft add table inet theirs")
    assert site.plays(*CREATE).changed != []
    assert site.plays(*CREATE).changed == []

    assert site.shell("getent passwd aibox-app | cut -d: -f3,5-7") == (
        "70002:aibox service:/nonexistent:/usr/sbin/nologin"
    )
    assert site.shell("getent shadow aibox-app | cut -d: -f2").startswith("!")
    modes = dict(
        reversed(line.split(" ", 1))
        for line in site.shell(f"cd {BOX}; find . -type d -printf '%m:%u:%g %P\\n'").splitlines()
    )
    assert modes[""] == "711:root:root"
    assert modes["data/rag"] == "700:aibox-app:aibox-app"
    assert modes["secrets"] == modes["tls"] == "700:root:root"
    assert "aibox-app is 70002" in site.findings("layout")["service users"]["found"]

    assert site.shell("systemctl is-enabled aibox.service aibox-resume.service") == (
        "enabled\nenabled"
    )
    site.writes(f"{BOX}/bin/aibox", COMMAND, "755")
    site.shell(f"ln -s gens/1 {BOX}/current")
    units = "aibox.service aibox@chat.service aibox-resume.service aibox-firewall.service"
    assert site.shell(f"systemd-analyze verify {units} 2>&1") == ""
    assert site.findings("firewall")["firewall"]["found"] == "in force"
    assert site.findings("hardening")["audit daemon"]["status"] == "warn"
    assert "inet theirs" in site.shell("nft list tables")


def test_a_service_is_started_again_when_it_ends_and_stopped_when_asked(site: Site) -> None:
    site.shell("systemctl start aibox.service")
    first = site.shell("cat /run/double-chat")
    site.shell(f"kill -9 {first}")
    wait_until(lambda: site.shell("cat /run/double-chat") != first, 20, "a new start")
    site.shell("systemctl stop aibox@chat.service")
    assert not site.has("systemctl is-active --quiet aibox@chat.service")
    assert site.shell(f"cat {BOX}/told") == "start"


def test_nothing_of_the_stack_gets_out_and_the_gateway_is_reached(site: Site) -> None:
    site.shell(NETWORKS)
    site.listens(80, within="outside")
    site.listens(8443, within="service")
    site.listens(8080)
    # The server itself reaches both, so that what follows is not for want of a way.
    assert site.connects(OUTSIDE, 80)
    assert site.connects(SERVICE, 8443)
    assert site.connects(SERVICE, 8443, within="outside")
    assert not site.connects(OUTSIDE, 80, within="service")
    assert not site.connects("10.99.0.1", 443, within="service")
    assert site.connects(GATEWAY, 443, within="outside")
    assert not site.connects(GATEWAY, 8080, within="outside")


def test_without_its_rules_the_stack_does_get_out_and_they_are_put_back(site: Site) -> None:
    site.shell("nft delete table inet aibox")
    assert site.connects(OUTSIDE, 80, within="service")
    assert site.connects(GATEWAY, 8080, within="outside")
    assert site.plays("firewall.create", firewall_mode="report").changed == []
    assert site.findings("firewall")["firewall"]["status"] == "warn"
    assert len(site.plays("firewall.create").changed) == 1
    assert not site.connects(OUTSIDE, 80, within="service")
    # Whatever the host does with its own rules, by the unit that forgets every table first.
    site.shell("systemctl start nftables; systemctl restart aibox-firewall nftables")
    assert "inet aibox" in site.shell("nft list tables")


def test_after_a_reboot_the_box_starts_goes_on_and_is_closed(site: Site) -> None:
    site.shell(
        f"systemctl disable --quiet nftables; touch {BOX}/journal/resume.json; : > {BOX}/told"
    )
    site.server.reboots()
    assert site.shell(f"cat {BOX}/told").splitlines() == ["stop", "start", "install --resume"]
    assert site.has("systemctl is-active --quiet aibox@chat.service")
    assert site.shell("nft list tables") == "table inet aibox"


def test_the_server_is_given_back_and_a_new_user_gets_what_the_old_one_had(site: Site) -> None:
    document = f"{BOX}/data/rag/document"
    site.shell(f"install -o aibox-app -m 600 /dev/null {document}")
    assert site.plays(*REMOVE).changed != []
    assert site.plays(*REMOVE).changed == []
    assert site.left() == []
    assert not site.has("getent passwd aibox-app || getent group aibox-app")
    assert not site.has("systemctl is-active --quiet aibox@chat.service aibox.service")
    assert site.shell(f"nft list tables; stat -c %U {document}") == "root"

    users = [{"name": "aibox-app", "uid": 70005}]
    site.plays("box_layout.create_system", box_layout_users=users)
    assert site.shell(f"stat -c %u:%g {document}") == "70005:70005"
    site.plays("box_layout.remove_system", box_layout_users=users, box_layout_purge=True)
    assert not site.has(f"[ -e {BOX}/data/rag ] || getent passwd aibox-app")


def test_a_user_of_the_same_name_is_left_alone(site: Site) -> None:
    site.shell("useradd --uid 70009 aibox-app")
    played = site.plays("box_layout.create_system")
    assert "already has a user" in played.complaint
    site.plays("box_layout.remove_system")
    assert site.shell("id --user aibox-app") == "70009"
