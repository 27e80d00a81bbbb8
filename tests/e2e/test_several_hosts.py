"""Three bare Debian 13 servers without a way out become one box, over ssh, and change as one.

Real: systemd, Docker from Debian's packages, ssh, rsync, Caddy, the application, and vLLM on the
CPU with a Llama whose weights were set by hand. A double: Qdrant's server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from .journey import Done, listen, wait_until
from .server_operator import BOX, QUESTION, REASON, SYSTEM, Operator, standing
from .systemd_host import USER, Server, checked, docker

WHY_NOT = REASON or (
    ""
    if shutil.which("ssh") and shutil.which("rsync")
    else "the other hosts are reached by ssh: apt-get install openssh-client rsync"
)
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT),
]
GROUPS = {"cards": ["gpu"], "data": ["vector", "app"], "door": ["gateway", "monitoring"]}
# A server comes without them only where its owner wanted it so.
REACHABLE = (*SYSTEM, "openssh-server", "rsync")
LET_IN = """
rm -f /etc/ssh/ssh_host_*
ssh-keygen -A >/dev/null
systemctl restart ssh
home=$(getent passwd "$1" | cut -d : -f 6)
install -d -m 700 -o "$1" "$home/.ssh"
install -m 600 -o "$1" /dev/stdin "$home/.ssh/authorized_keys"
echo "ann ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/installer
"""


@dataclass
class Site:
    """Whoever installs them, at a machine of his own with a home that is empty at first."""

    folder: Path
    media: Path
    network: str
    machines: dict[str, Server]

    @property
    def inventory(self) -> Path:
        return self.folder / "inventory.toml"

    def writes_inventory(self, **changes: str) -> None:
        """`changes` are lines of TOML by host, which replace those of the same key."""
        text = "version = 1\n"
        for name, machine in self.machines.items():
            lines = {
                "address": f'"{address_of(machine, self.network)}"',
                "groups": json.dumps(GROUPS[name]),
                "user": '"root"' if name == "cards" else f'"{USER}"',
                "key_file": f'"{self.folder / "key"}"',
                "host_key": f'"{host_key(machine)}"',
            }
            for line in changes.get(name, "").splitlines():
                key, _, value = line.partition(" = ")
                lines[key] = value
            text += f"\n[hosts.{name}]\n" + "".join(f"{k} = {v}\n" for k, v in lines.items())
        self.inventory.write_text(text + changes.get("text", ""))

    def types(self, *words: str, code: int = 0) -> Done:
        done = self.tries(*words)
        assert done.code == code, f"{words} ended with {done.code}:\n{done.out}\n{done.err}"
        return done

    def tries(self, *words: str) -> Done:
        return listen(self.command(*words), self.folder, self.surroundings())

    def command(self, *words: str) -> list[str]:
        return ["sh", str(self.media / "box" / "aibox"), *words, "--inventory", str(self.inventory)]

    def surroundings(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home")}

    def installs(self, *more: str, bundle: str = "box", code: int = 0) -> Done:
        root = str(self.media / "1.root.json")
        words = ("install", "--profile", "cpu", "--bundle", str(self.media / bundle))
        return self.types(*words, "--root", root, "--yes", *more, code=code)

    def upgrade(self, bundle: str) -> list[str]:
        return self.command("upgrade", "--bundle", str(self.media / bundle), "--yes")

    def status(self) -> Any:
        return self.tries("status", "--json").json

    def answers(self) -> Any:
        """The answer of the box, asked on the host with the gateway."""
        return Operator(self.machines["door"]).types("ask", QUESTION, "--json").json


def address_of(machine: Server, network: str) -> str:
    shape = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return docker("inspect", "--format", shape, machine.id).out.strip()


def host_key(machine: Server) -> str:
    return " ".join(machine.root("cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()[:2])


@pytest.fixture(scope="module")
def site(media: Path, network: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = Path(mkdtemp(prefix="aibox-site-"))
    (folder / "home").mkdir()
    checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
    with ExitStack() as closing:
        closing.callback(shutil.rmtree, folder)
        machines = {}
        for name in GROUPS:
            options = ("--hostname", name, "--volume", "/var/lib/docker")
            machine = closing.enter_context(
                standing(
                    *(tmp_path_factory.mktemp(name), media, network, *options), packages=REACHABLE
                )
            )
            user = "root" if name == "cards" else USER
            subprocess.run(
                ["docker", "exec", "--interactive", machine.id, "sh", "-c", LET_IN, "sh", user],
                input=(folder / "key.pub").read_bytes(),
                check=True,
            )
            machines[name] = machine
        found = Site(folder, media, network, machines)
        found.writes_inventory()
        yield found


@pytest.fixture(scope="module")
def installed(site: Site) -> Done:
    return site.installs()


# -- before anything is there -------------------------------------------------------------------


def test_a_host_that_cannot_be_reached_is_named_and_nothing_is_changed(site: Site) -> None:
    site.writes_inventory(door="port = 2")
    done = site.installs(code=1)
    assert "error[host-unreachable]: the host door cannot be reached" in done.err
    assert "cards: [" not in done.err
    site.writes_inventory()
    assert not any(site.machines[name].root("ls", "/var/lib/aibox") for name in GROUPS)


def test_a_key_that_nobody_knows_and_a_host_that_is_another_are_told(site: Site) -> None:
    checked("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(site.folder / "wrong"))
    site.writes_inventory(data=f'key_file = "{site.folder / "wrong"}"')
    assert "error[ssh-refused]: the host data" in site.installs(code=1).err
    public = (site.folder / "wrong.pub").read_text().split()
    site.writes_inventory(cards=f'host_key = "{public[0]} {public[1]}"')
    assert "error[ssh-host-key]: the host cards" in site.installs(code=1).err
    site.writes_inventory()


def test_sudo_that_wants_a_password_is_told_with_the_way_out(site: Site) -> None:
    door = site.machines["door"]
    door.root("mv", "/etc/sudoers.d/installer", "/root/installer")
    done = site.installs(code=1)
    door.root("mv", "/root/installer", "/etc/sudoers.d/installer")
    assert "error[sudo-" in done.err
    assert "the host door" in done.err


def test_groups_that_lack_a_host_or_are_unknown_are_refused(site: Site) -> None:
    site.writes_inventory(door='groups = ["monitoring"]')
    assert "the group 'gateway' needs exactly one host" in site.installs(code=2).err
    site.writes_inventory(door='groups = ["gateways"]')
    assert "hosts.door.groups[0]" in site.installs(code=2).err
    site.writes_inventory()


# -- together -----------------------------------------------------------------------------------


def test_three_hosts_answer_as_one(site: Site, installed: Done) -> None:
    assert installed.longest_silence < 6
    answer = site.answers()
    assert answer["grounded"]
    assert answer["engine"] != "extractive"
    status = site.status()
    assert status["state"] == "running"
    where = {service["name"]: service["host"] for service in status["services"]}
    assert where == {
        "chat": "cards",
        "gateway": "door",
        "web": "data",
        "ingest": "data",
        "qdrant": "data",
    }


def test_each_host_has_only_what_it_runs(site: Site, installed: Done) -> None:
    images = {
        name: machine.root("docker", "images", "--format", "{{.Repository}}").split()
        for name, machine in site.machines.items()
    }
    assert images["door"] == ["aibox/caddy"]
    assert images["cards"] == ["aibox/vllm"]
    assert "models" not in site.machines["door"].root("ls", f"{BOX}/current/tree").split()
    assert site.machines["cards"].root("ls", "/etc/systemd/system").count("aibox@.service") == 1


def test_only_the_hosts_that_ask_are_let_in(site: Site, installed: Done) -> None:
    """A port that a host of the box may ask is closed to the others and to anybody else."""
    cards, data = (address_of(site.machines[name], site.network) for name in ("cards", "data"))
    asks = ("curl", "--silent", "--max-time", "5", "--output", "/dev/null")
    may = Operator(site.machines["data"]).tries(*asks, f"http://{cards}:8000/health")
    may_not = Operator(site.machines["door"]).tries(*asks, f"http://{cards}:8000/health")
    assert (may.code, may_not.code) == (0, 28)
    nobody = listen([*asks, f"http://{data}:8642/healthz"], Path("/"), dict(os.environ))
    assert nobody.code == 28


def test_one_of_them_does_not_change_alone(site: Site, installed: Done) -> None:
    door = Operator(site.machines["door"])
    assert "change together" in door.types("rollback", code=2).err
    assert door.types("status", "--json").json["state"] == "running"
    assert "answers on another" in Operator(site.machines["cards"]).types("ask", "x", code=2).err


def test_a_second_run_changes_nothing(site: Site, installed: Done) -> None:
    before = _containers(site)
    done = json.loads(site.installs("--json").out)
    assert done["hosts"] == dict.fromkeys(GROUPS, 1)
    assert _containers(site) == before


def test_a_host_that_drops_out_takes_all_of_them_back(
    site: Site, installed: Done, tuned: str
) -> None:
    before = _containers(site)["cards"]
    said = _is_disturbed(
        site, "[data] services: ", lambda: _unplug(site, "data"), code=5, bundle=tuned
    )
    _plug_in(site, "data")
    assert "goes back by itself" in said
    wait_until(lambda: _generations(site) == dict.fromkeys(GROUPS, 1), 180, "all hosts as before")
    wait_until(lambda: site.status()["state"] == "running", 180, "services as before")
    assert site.answers()["grounded"]
    assert _containers(site)["cards"] == before


def test_a_line_that_is_cut_mid_play_changes_nothing(
    site: Site, installed: Done, tuned: str
) -> None:
    said = _is_disturbed(
        site, "[cards] provision_server: ", lambda: _cut(site, "cards"), code=1, bundle=tuned
    )
    assert "error[host-lost]: the host cards was lost" in said
    wait_until(lambda: not _held(site), 180, "hosts that let go of their locks")
    assert _generations(site) == dict.fromkeys(GROUPS, 1)
    assert site.answers()["grounded"]


def test_who_installs_is_killed_and_goes_on(site: Site, installed: Done, tuned: str) -> None:
    with subprocess.Popen(
        site.upgrade(tuned), stderr=subprocess.PIPE, text=True, env=site.surroundings()
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("[cards] provision_server"):
                process.kill()
    wait_until(lambda: not _held(site), 180, "hosts that let go of their locks")
    assert _generations(site) == dict.fromkeys(GROUPS, 1)
    done = listen(site.upgrade(tuned), site.folder, site.surroundings())
    assert done.code == 0, done.err
    assert len(set(_releases(site).values())) == 1
    assert site.answers()["grounded"]


def test_all_go_back_when_they_are_told_to(site: Site, installed: Done) -> None:
    newer = _releases(site)
    done = json.loads(site.types("rollback", "--json").out)
    assert set(_releases(site).values()) == {done["release"]} != set(newer.values())
    assert site.answers()["grounded"]


def test_all_are_given_back(site: Site, installed: Done) -> None:
    site.types("uninstall", "--purge", "--yes")
    for name, machine in site.machines.items():
        units = machine.root("sh", "-c", "ls /etc/systemd/system | grep -c aibox || true")
        users = machine.root("sh", "-c", "grep -c ^aibox /etc/passwd || true")
        assert (units.strip(), users.strip()) == ("0", "0"), name
        assert machine.root("sh", "-c", "ls -A /var/lib/aibox").strip() == "", name


def _is_disturbed(site: Site, line: str, act: Callable[[], None], *, code: int, bundle: str) -> str:
    """Upgrade, and do something once at a line of progress; all that was said."""
    said, acted = "", False
    with subprocess.Popen(
        site.upgrade(bundle), stderr=subprocess.PIPE, text=True, env=site.surroundings()
    ) as process:
        assert process.stderr is not None
        for one in process.stderr:
            said += one
            if not acted and line in one:
                acted = True
                act()
    assert acted, said
    assert process.returncode == code, f"ended with {process.returncode}:\n{said}"
    return said


def _cut(site: Site, name: str) -> None:
    """Kill the ssh to a host in which its command line runs."""
    address = address_of(site.machines[name], site.network)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode().split("\0")
            if words[0] == "ssh" and address in words and words[-2].endswith("member"):
                os.kill(int(folder.name), signal.SIGKILL)


def _unplug(site: Site, name: str) -> None:
    site.machines[name].root("ip", "link", "set", "eth0", "down")


def _plug_in(site: Site, name: str) -> None:
    site.machines[name].root("ip", "link", "set", "eth0", "up")


def _containers(site: Site) -> dict[str, dict[str, str]]:
    return {name: Operator(machine).containers() for name, machine in site.machines.items()}


def _generations(site: Site) -> dict[str, int]:
    return {
        name: int(machine.root("readlink", f"{BOX}/current").strip().removeprefix("gens/"))
        for name, machine in site.machines.items()
    }


def _releases(site: Site) -> dict[str, str]:
    return {name: facts["release"] for name, facts in site.status()["hosts"].items()}


def _held(site: Site) -> bool:
    """Whether any host's lock is held."""
    words = ("flock", "--nonblock", f"{BOX}/lock", "true")
    return any(Operator(one).tries(*words).code != 0 for one in site.machines.values())
