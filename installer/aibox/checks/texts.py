"""From what programs print to values: nvidia-smi, modinfo, dkms, dpkg, systemctl, docker. Pure.

What is not understood is left out; no text makes these functions raise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_FIELD = re.compile(r"^(\s*)(\S.*?)\s*: ?(.*)$")
_GPU = re.compile(r"^GPU ([0-9A-Fa-f]{8}):([0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-7])$")
_DKMS = re.compile(
    r"^(nvidia[\w.-]*?)[/,] ?([\d.]+)(?:, ([^,\s]+), [^,:\s]+)?: (\w+)", re.MULTILINE
)
_ADDRESS_DOMAIN = 4


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU as `nvidia-smi -q` tells it: values by path (`ECC Errors/Volatile/…`)."""

    address: str
    values: Mapping[str, str]

    def get(self, path: str) -> str:
        """The value at a path; empty where the card or the driver has none."""
        value = self.values.get(path, "")
        return "" if value in ("N/A", "[N/A]") else value

    def number(self, path: str) -> int | None:
        """The number a value starts with."""
        found = re.match(r"\d+", self.get(path))
        return int(found.group()) if found else None


@dataclass(frozen=True, slots=True)
class Cards:
    """`nvidia-smi -q`: the driver's library, the CUDA it speaks, and each card."""

    driver: str = ""
    cuda: str = ""
    cards: tuple[Card, ...] = ()


def cards(text: str) -> Cards:
    """Read `nvidia-smi -q`; sections are told by their indentation."""
    head: dict[str, str] = {}
    found: list[tuple[str, dict[str, str]]] = []
    sections: list[tuple[int, str]] = []
    for line in text.splitlines():
        if one := _GPU.match(line.strip()):
            found.append((f"{one[1][_ADDRESS_DOMAIN:]}:{one[2]}".lower(), {}))
            sections = []
            continue
        _take(line, sections, found[-1][1] if found else head)
    return Cards(
        driver=head.get("Driver Version", ""),
        cuda=head.get("CUDA Version", ""),
        cards=tuple(Card(address, values) for address, values in found),
    )


def _take(line: str, sections: list[tuple[int, str]], into: dict[str, str]) -> None:
    depth = len(line) - len(line.lstrip())
    while sections and sections[-1][0] >= depth:
        sections.pop()
    if one := _FIELD.match(line):
        path = "/".join([*(name for _, name in sections), one[2]])
        into[path] = one[3].strip()
        sections.append((depth, one[2]))
    elif line.strip():
        sections.append((depth, line.strip()))


def fields(text: str) -> dict[str, str]:
    """`key:   value` lines, such as those of modinfo; the first of a name counts."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            found.setdefault(key.strip(), value.strip())
    return found


@dataclass(frozen=True, slots=True)
class Module:
    """A module that DKMS knows, for one kernel (empty: for none yet) and in one state."""

    name: str
    version: str
    kernel: str
    state: str


def dkms(text: str) -> tuple[Module, ...]:
    """NVIDIA's modules in `dkms status`, in its older and its newer way of writing."""
    return tuple(Module(one[1], one[2], one[3] or "", one[4]) for one in _DKMS.finditer(text))


@dataclass(frozen=True, slots=True)
class Package:
    """An installed package; `held` ones stay at their version."""

    name: str
    version: str
    held: bool


def packages(text: str) -> tuple[Package, ...]:
    """Lines of `dpkg-query --show` as `status<TAB>name<TAB>version`; only what is installed."""
    rows = (line.split("\t") for line in text.splitlines())
    return tuple(
        Package(row[1].partition(":")[0], row[2], row[0].startswith("h"))
        for row in rows
        if len(row) == 3 and row[0][1:2] == "i"
    )


def units(text: str) -> dict[str, dict[str, str]]:
    """`systemctl show` of several units, by name; those that are not there are left out."""
    found: dict[str, dict[str, str]] = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("LoadState") == "loaded" and values.get("Id"):
            found[values["Id"]] = values
    return found


def loaded_modules(text: str) -> dict[str, tuple[int, tuple[str, ...]]]:
    """/proc/modules: how often each is used, and by which others."""
    rows = (line.split() for line in text.splitlines())
    return {
        row[0]: (int(row[2]), tuple(name for name in row[3].split(",") if name not in ("", "-")))
        for row in rows
        if len(row) > 3 and row[2].isdecimal()
    }


def topology(text: str) -> dict[tuple[int, int], str]:
    """`nvidia-smi topo -m`: how GPU i reaches GPU j (NV12, PIX, PXB, PHB, NODE, SYS)."""
    links: dict[tuple[int, int], str] = {}
    for line in text.splitlines():
        words = line.split()
        if words and (row := _gpu_number(words[0])) is not None:
            # The heading names GPUs too: its second word is another of them.
            cells = () if len(words) > 1 and words[1].startswith("GPU") else words[1:]
            links |= {(row, column): cell for column, cell in enumerate(cells)}
    return {pair: link for pair, link in links.items() if _is_link(link)}


def _gpu_number(word: str) -> int | None:
    found = re.fullmatch(r"GPU(\d+)", word)
    return int(found[1]) if found else None


def _is_link(word: str) -> bool:
    return re.fullmatch(r"NV\d+|PIX|PXB|PHB|NODE|SYS", word) is not None


@dataclass(frozen=True, slots=True)
class Docker:
    """What `docker info` says that matters for GPUs."""

    version: str
    cgroup_driver: str
    default_runtime: str
    cdi_directories: bool
    cdi_devices: tuple[str, ...]


def docker(text: str) -> Docker:
    """Read `docker info`."""
    known = fields(text)
    return Docker(
        version=known.get("Server Version", ""),
        cgroup_driver=known.get("Cgroup Driver", ""),
        default_runtime=known.get("Default Runtime", ""),
        cdi_directories="CDI spec directories" in known,
        cdi_devices=tuple(re.findall(r"^\s*cdi: (\S+)", text, re.MULTILINE)),
    )


@dataclass(frozen=True, slots=True)
class Container:
    """An engine's container: its /dev/shm in bytes, its limit of open files (None: Docker's own),
    its devices by driver, and the devices its environment chooses."""

    name: str
    shared_memory: int
    open_files: int | None
    devices: tuple[tuple[str, tuple[str, ...]], ...]
    visible: str


def containers(text: str) -> tuple[Container, ...]:
    """Read `docker inspect` of several containers; nothing where it is anything else."""
    try:
        return tuple(_container(one) for one in json.loads(text))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return ()


def _container(one: dict[str, Any]) -> Container:
    host, config = one.get("HostConfig") or {}, one.get("Config") or {}
    limits = {limit.get("Name"): limit.get("Soft") for limit in host.get("Ulimits") or ()}
    environment = dict(str(item).partition("=")[::2] for item in config.get("Env") or ())
    return Container(
        name=str(one.get("Name", "")).lstrip("/"),
        shared_memory=int(host.get("ShmSize") or 0),
        open_files=limits.get("nofile"),
        devices=tuple(
            (str(asked.get("Driver") or ""), tuple(map(str, asked.get("DeviceIDs") or ())))
            for asked in host.get("DeviceRequests") or ()
        ),
        visible=environment.get("CUDA_VISIBLE_DEVICES", ""),
    )


def cdi_paths(text: str) -> tuple[str, ...]:
    """Every file and device of this host that a CDI specification names, in YAML or JSON."""
    named = re.findall(r"""["']?hostPath["']?:\s*["']?([^\s"',]+)""", text)
    nodes = re.findall(r"""["']?path["']?:\s*["']?(/dev/[^\s"',]+)""", text)
    return tuple(dict.fromkeys([*named, *nodes]))


def cdi_numbers(text: str) -> dict[str, tuple[int, int]]:
    """The device numbers that a CDI specification fixes, by path; most leave them open."""
    import yaml

    try:
        return dict(_numbers(yaml.safe_load(text)))
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _numbers(specification: Any) -> Iterator[tuple[str, tuple[int, int]]]:
    parts = [specification, *(specification.get("devices") or ())]
    for part in parts:
        for node in (part.get("containerEdits") or {}).get("deviceNodes") or ():
            if "major" in node and "minor" in node:
                yield node.get("hostPath") or node["path"], (int(node["major"]), int(node["minor"]))


def cdi_drivers(text: str) -> frozenset[str]:
    """The driver versions of the libraries a CDI specification names."""
    return frozenset(re.findall(r"libcuda\.so\.(\d+\.\d+(?:\.\d+)?)", text))
