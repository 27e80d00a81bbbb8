"""How GPUs reach one another: Fabric Manager, links, and what stands between them.

| check | what people run into |
|---|---|
| fabric manager | NVSwitches and no Fabric Manager: "Error 802" (7) |
| fabric manager version | not the driver's, to the patch level (8) |
| fabric state | the GPUs wait for it: "In Progress" (7, §2.7) |
| links between GPUs | through the processor where NVLink was expected (10, §2.7) |
| nvlink | a link is down (§2.7) |
| iommu | between GPUs on PCIe: hangs or wrong sums (10) |
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from aibox.checks import texts
from aibox.checks.evidence import Evidence, Source, bad, doubtful, good
from aibox.hardware import Fabric, PeerToPeer
from aibox.preflight import Finding

UNIT = "nvidia-fabricmanager.service"
# Of Ubuntu and Debian, and of Red Hat; older ones bear the branch.
PACKAGE = r"nvidia-fabric-?manager(-\d+)?"
START = "start it: systemctl enable --now nvidia-fabricmanager"
SAME = "let an installation bring the driver's own version: ./aibox install"
_VERSION = re.compile(r"\d{3,4}\.\d{2,3}(?:\.\d{2})?")
_FAR = ("NODE", "SYS")
_THROUGH = re.compile(r"\biommu=(?:pt|off)\b|\b(?:intel|amd)_iommu=off\b|iommu\.passthrough=1\b")


def examine(evidence: Evidence) -> Iterator[Finding]:
    """Every finding about fabric and links; none for a single GPU."""
    if evidence.machine.fabric is not Fabric.NONE:
        yield _manager(evidence)
        yield from _manager_version(evidence)
        yield from _state(evidence)
    if len(evidence.used) > 1 and evidence.machine.driver:
        yield from _links(evidence)
        yield from _nvlink(evidence)
        yield from _iommu(evidence)


def _manager(evidence: Evidence) -> Finding:
    unit = texts.units(evidence.text(Source.UNITS)).get(UNIT, {})
    state, expected = unit.get("ActiveState", "not installed"), "active, for the NVSwitches"
    if state == "active":
        return good("fabric manager", state, expected)
    return bad("fabric manager", state, expected, fix=START if unit else SAME)


def _manager_version(evidence: Evidence) -> Iterator[Finding]:
    told = _VERSION.search(evidence.text(Source.FABRIC_MANAGER))
    packaged = (
        _VERSION.search(one.version)
        for one in texts.packages(evidence.text(Source.PACKAGES))
        if re.fullmatch(PACKAGE, one.name)
    )
    found = told or next(filter(None, packaged), None)
    if found is None or not evidence.machine.driver:
        return
    expected = f"the driver's: {evidence.machine.driver}"
    if found.group() == evidence.machine.driver:
        yield good("fabric manager version", found.group(), expected)
    else:
        yield bad("fabric manager version", found.group(), expected, fix=SAME)


def _state(evidence: Evidence) -> Iterator[Finding]:
    for number, card in enumerate(texts.cards(evidence.text(Source.CARDS)).cards):
        state, status = card.get("Fabric/State"), card.get("Fabric/Status")
        if state and (state, status) != ("Completed", "Success"):
            found = f"GPU {number}: {state}" + (f", {status}" if status else "")
            fix = "read why: journalctl --unit nvidia-fabricmanager"
            yield bad("fabric state", found, "Completed, Success", fix=fix)


def _links(evidence: Evidence) -> Iterator[Finding]:
    wanted = evidence.wanted.peer_to_peer if evidence.wanted else None
    links = texts.topology(evidence.text(Source.TOPOLOGY))
    count = len(evidence.used)
    mine = [links[pair] for pair in links if max(pair) < count]
    if not mine:
        return
    told = ", ".join(sorted(set(mine)))
    slow = [one for one in mine if not one.startswith("NV")]
    far = [one for one in mine if one in _FAR]
    if wanted is PeerToPeer.NVLINK and slow:
        fix = "look at the bridge between the cards, then: nvidia-smi nvlink --status"
        yield doubtful("links between GPUs", told, "NVLink between all", fix=fix)
    elif wanted is PeerToPeer.PCIE and far:
        fix = "put the cards on one processor's slots, then: nvidia-smi topo -m"
        yield doubtful("links between GPUs", told, "no way through another processor", fix=fix)
    else:
        yield good("links between GPUs", told, wanted.value if wanted else "as they are")


def _nvlink(evidence: Evidence) -> Iterator[Finding]:
    down = re.findall(r"Link \d+:\s*<?inactive>?", evidence.text(Source.LINKS))
    if down:
        fix = "look at bridge or board, then: nvidia-smi nvlink --status"
        yield doubtful("nvlink", f"{len(down)} links are down", "every link is up", fix=fix)


def _iommu(evidence: Evidence) -> Iterator[Finding]:
    """A translating IOMMU sends what goes from card to card through the processor, or loses it."""
    wanted = evidence.wanted
    if wanted is None or wanted.peer_to_peer is not PeerToPeer.PCIE or not evidence.iommu:
        return
    expected = "off, or passing through, where cards talk over PCIe"
    if _THROUGH.search(evidence.text(Source.COMMAND_LINE)):
        yield good("iommu", "passes through", expected)
    else:
        fix = "add iommu=pt to the kernel's command line, then restart the host: systemctl reboot"
        yield doubtful("iommu", "translates", expected, fix=fix)
