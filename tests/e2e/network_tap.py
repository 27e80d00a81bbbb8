"""What a server sends into a Docker network, heard from outside: `python network_tap.py BRIDGE`.

A server that knows of no way out refuses its own programs before anything is sent, and nobody
would hear them. So `way_out` gives it a default route and a name server, both of which lead to a
machine that answers nobody: whatever then is asked of anybody comes by here, also during a boot.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from .journey import wait_until
from .systemd_host import docker

ALL_PROTOCOLS = 3  # ETH_P_ALL, linux/if_ether.h
IP, IP6 = 0x0800, 0x86DD
IGMP, TCP, UDP, ICMP6 = 2, 6, 17, 58
READY = "listening\n"
# Before there is anything that could ask.
UNIT = """
cat >/etc/systemd/system/way-out.service <<'END'
[Unit]
DefaultDependencies=no
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'ip route replace default via {gateway}; \\
    echo nameserver {gateway} >/etc/resolv.conf'
[Install]
WantedBy=sysinit.target
END
systemctl enable --quiet --now way-out
"""


def way_out(network: str) -> str:
    """A script that has a server try its luck at the network's gateway, now and at every boot."""
    return UNIT.format(gateway=_inspected(network)["IPAM"]["Config"][0]["Gateway"])


@dataclass(frozen=True)
class Tap:
    """What was heard since it began."""

    path: Path

    def heard(self) -> list[str]:
        """Every packet to somebody else, in order."""
        return self.path.read_text().removeprefix(READY).splitlines()


@contextlib.contextmanager
def tapped(network: str, path: Path) -> Iterator[Tap]:
    """Listen for the length of the block; `path` keeps what is heard."""
    bridge = f"br-{_inspected(network)['Id'][:12]}"
    command = [sys.executable, "-m", "tests.e2e.network_tap", bridge]
    with (
        path.open("w") as heard,
        subprocess.Popen(command, stdout=heard, cwd=Path(__file__).parents[2]) as process,
    ):
        try:
            wait_until(lambda: path.read_text().startswith(READY), 20, "a tap")
            yield Tap(path)
        finally:
            process.terminate()


def _inspected(network: str) -> dict[str, Any]:
    found: dict[str, Any] = docker("network", "inspect", network).json[0]
    return found


def listen(bridge: str) -> None:
    """Print a line for every packet that comes in by a bridge and asks something of somebody."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS)) as tap:
        tap.bind((bridge, 0))
        print(READY, end="", flush=True)
        while True:
            packet, (_, kind, direction, *_) = tap.recvfrom(256)
            if direction != socket.PACKET_OUTGOING and (said := described(kind, packet[14:])):
                print(said, flush=True)


def described(kind: int, packet: bytes) -> str:
    """A packet in words; nothing for what the kernel itself tells its neighbours."""
    if kind == IP:
        protocol, header = packet[9], 4 * (packet[0] & 15)
        return _told(protocol, IPv4Address(packet[16:20]), packet[header:])
    if kind == IP6:
        return _told(packet[6], IPv6Address(packet[24:40]), packet[40:])
    return ""


def _told(protocol: int, target: IPv4Address | IPv6Address, rest: bytes) -> str:
    if protocol in (IGMP, ICMP6) and target.is_multicast:
        return ""
    port = int.from_bytes(rest[2:4]) if protocol in (TCP, UDP) else 0
    return f"protocol {protocol} to {target} port {port}"


if __name__ == "__main__":
    listen(sys.argv[1])
