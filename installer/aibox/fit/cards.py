"""The GPUs of a question: found by name or PCI id, refused where a name does not say enough."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aibox.errors import BadUsage, Fault
from aibox.fit.catalogue import UNVERIFIED, Catalogue, GpuEntry
from aibox.hardware import Hardware

_SLICE = re.compile(r"\bmig\b|\b[1-7]g\.[0-9]+gb\b", re.IGNORECASE)
_LONGEST = 60
"""Letters of a name that are looked at."""
_NOISE = re.compile(r"nvidia|geforce|tesla|graphics|[^a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Cards:
    """GPUs that one engine gets: `count` of them, of which the least decides.

    `memory_mib` is per GPU, as reported; `compute` None is no GPU but the processor; `mixture` says
    how many of which, where they are not alike; `notes` say what of it is not certain.
    """

    name: str
    count: int
    memory_mib: int
    compute: tuple[int, int] | None
    joined: str = ""
    mixture: str = ""
    notes: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """How many of which, for people."""
        if self.compute is None:
            return self.name
        return self.mixture or f"{self.count} x {self.name}"


def find(catalogue: Catalogue, name: str) -> GpuEntry:
    """The GPU of this name, alias or PCI id; raises `BadUsage` (`gpu-…`)."""
    if _SLICE.search(name):
        raise _sliced(name)
    for entry in catalogue.gpus:
        if _is_called(entry, name):
            return entry
    near = [entry for entry in catalogue.gpus if _fits(entry, name)]
    if len(near) == 1:
        return near[0]
    raise _unknown(catalogue, name, [entry.name for entry in near])


def cards(
    catalogue: Catalogue, names: Sequence[str], count: int | None, memory_mib: int | None
) -> Cards:
    """The GPUs that were named, once each or one name and a count; raises `BadUsage`.

    `memory_mib` is what nvidia-smi reports, where somebody has looked: it is believed.
    """
    found = [find(catalogue, name) for name in names]
    if count is not None and len(names) > 1 and count != len(names):
        raise BadUsage(
            "gpu-count-contradictory",
            f"{len(names)} GPUs are named and --count says {count}",
            hint="name each, or one and the count: ./aibox fit --model M --gpu G --count N",
            fault=Fault.YOU,
        )
    number = count or len(names)
    times = Counter(entry.name for entry in found)
    reported = [memory_mib or _memory(entry) for entry in found]
    kinds = sorted(times)
    return Cards(
        name=" and ".join(kinds),
        count=number,
        memory_mib=min(reported),
        compute=min(entry.compute for entry in found),
        joined=found[0].joined if len(kinds) == 1 else "",
        mixture=" and ".join(f"{times[kind]} x {kind}" for kind in kinds) if kinds[1:] else "",
        notes=tuple(_notes(catalogue, names, found, memory_mib)),
    )


def of_profile(catalogue: Catalogue, wanted: Hardware, count: int) -> Cards:
    """The GPUs of a profile: the least memory it accepts, and the least of the cards it is for."""
    entries = [entry for entry in catalogue.gpus if set(entry.pci) & set(wanted.gpus)]
    name = " or ".join(entry.name for entry in entries) or ", ".join(wanted.gpus)
    if not entries:
        raise _unknown(catalogue, name, [])
    return Cards(
        name=name,
        count=count,
        memory_mib=wanted.memory_mib_min,
        compute=min(entry.compute for entry in entries),
        joined=wanted.peer_to_peer.value,
        notes=(f"computed for {wanted.memory_mib_min} MiB a GPU, the least the profile accepts",),
    )


def _memory(entry: GpuEntry) -> int:
    if entry.memory_mib is None:
        raise BadUsage(
            "gpu-memory-unknown",
            f"nobody has told what memory a driver reports of {entry.title}; the "
            f"{entry.nominal_gb} GB of its data sheet are more than that",
            hint="look with nvidia-smi --query-gpu=memory.total --format=csv, and say it: "
            f"./aibox fit --model M --gpu {entry.name} --memory-mib N",
            fault=Fault.US,
        )
    return entry.memory_mib.value


def _notes(
    catalogue: Catalogue, names: Sequence[str], found: Sequence[GpuEntry], memory_mib: int | None
) -> Iterator[str]:
    """What of these GPUs is not certain."""
    each = {entry.name: (name, entry) for name, entry in zip(names, found, strict=True)}
    if len(each) > 1:
        yield (
            f"the GPUs are not alike ({', '.join(sorted(each))}): every one holds as many blocks "
            "as the smallest can, and the slowest sets the pace"
        )
    for name, entry in each.values():
        others = [one.name for one in catalogue.gpus if one is not entry and _fits(one, name)]
        also = f"; there are also {', '.join(others)}" if others else ""
        if _plain(name) not in (_plain(entry.name), _plain(entry.title)) and (
            others or not _is_called(entry, name)
        ):
            yield f"{name} is taken for {entry.title}{also}"
        if memory_mib is not None and memory_mib > entry.nominal_gb * 1024:
            yield f"{memory_mib} MiB are more than the {entry.nominal_gb} GB {entry.title} has"
        elif memory_mib is None and entry.memory_mib and entry.memory_mib.source == UNVERIFIED:
            yield (
                f"the memory of {entry.title} is unverified; nvidia-smi says what yours reports: "
                "--memory-mib N"
            )


def _is_called(entry: GpuEntry, name: str) -> bool:
    names = (entry.name, entry.title, *entry.aliases)
    return name.lower() in entry.pci or _plain(name) in map(_plain, names)


def _fits(entry: GpuEntry, name: str) -> bool:
    """Whether every word of a name is in the GPU's own."""
    words = [plain for word in name.split() if (plain := _plain(word))]
    title = _plain(entry.title)
    return len("".join(words)) > 2 and all(word in title for word in words)


def _plain(name: str) -> str:
    return _NOISE.sub("", name.lower())


def _sliced(name: str) -> BadUsage:
    return BadUsage(
        "gpu-in-slices",
        f"{name[:_LONGEST]} is a slice of a GPU (MIG): what memory a slice reports is not known "
        "here, and an engine cannot be cut over slices",
        hint="see the memory of yours with nvidia-smi -L and nvidia-smi, then for one slice: "
        "./aibox fit --model M --gpu WHOLE-CARD --count 1 --memory-mib N",
        fault=Fault.YOU,
    )


def _unknown(catalogue: Catalogue, name: str, near: Sequence[str]) -> BadUsage:
    known = [entry.name for entry in catalogue.gpus]
    close = near or difflib.get_close_matches(name[:_LONGEST].lower(), known, n=4)
    told = f"; did you mean {' or '.join(close)}?" if close else ""
    return BadUsage(
        "gpu-unknown",
        f"no single GPU of the catalogue is called {name[:_LONGEST]!r}{told}",
        hint="see those that are known: ./aibox fit --list",
        fault=Fault.YOU,
    )
