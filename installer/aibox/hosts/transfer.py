"""A bundle brought to other hosts: what each needs to plan, then what it lacks; several at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aibox.bundle.discovery import Volume
from aibox.bundle.layout import BLOBS
from aibox.bundle.media import Media
from aibox.errors import Fault, VerificationRefused
from aibox.hosts.connections import Connections
from aibox.lock import Role
from aibox.progress import seldom
from aibox.receiving import Received
from aibox.release import Release

_MIB = 1 << 20
_PROGRESS = re.compile(r"([0-9][0-9.,]*)\s+([0-9]+)%\s+(\S+/s)\s+([0-9:]+)")
"""A line of rsync's `--info=progress2`: bytes, percent, rate, time left."""


@dataclass(frozen=True, slots=True)
class Share:
    """Files of a bundle for one host, named as in the bundle."""

    media: Media
    names: Sequence[str]


def of_plan(received: Received, made: Release, architecture: str) -> list[str]:
    """The files of a bundle without which a host can neither start its program nor plan."""
    head = [*received.media.head, *received.named]
    listing = received.program
    tar = listing.interpreters.get(architecture)
    wanted = {file.sha256 for file in (*listing.files, *listing.wheels)}
    wanted |= {tar.sha256} if tar else set()
    wanted |= {item.sha256 for item in made.of_role(Role.TEMPLATES)}
    chunks = {
        chunk.sha256
        for item in received.index.carried
        if item.sha256 in wanted
        for chunk in item.chunks
    }
    return sorted({*head, *(f"{BLOBS}/{one}" for one in chunks)})


def to_hosts(connections: Connections, shares: Mapping[str, Share], folder: str) -> None:
    """Bring each host its files, into `folder` there; all at once, each with its own progress.

    Raises `VerificationRefused` (`bundle-blob-missing`) and what `Remote.copy` raises.
    """

    def one(name: str) -> None:
        host, say = connections.remote(name), connections.teller(name)
        host.make_folder(folder)
        for number, (source, names) in enumerate(_by_volume(shares[name])):
            lists = connections.folder / f"{name}.{number}"
            lists.mkdir(mode=0o700, exist_ok=True)
            host.copy(
                source, names, folder, on_line=_telling(say), on_tick=connections.tick, lists=lists
            )

    connections.each(one, sorted(shares))


def _by_volume(share: Share) -> list[tuple[Path, list[str]]]:
    """The files by the folder that has them."""
    found: dict[Path, list[str]] = {}
    for name in share.names:
        volume: Volume | None = share.media.volumes[0]
        if name.startswith(f"{BLOBS}/"):
            volume = share.media.volume_of(name.removeprefix(f"{BLOBS}/"))
        if volume is None:
            raise VerificationRefused(
                "bundle-blob-missing",
                "a file of the bundle lies on a volume that is not here",
                context=name,
                hint="bring all volumes, then: ./aibox install --inventory FILE --bundle VOLUME "
                "--bundle VOLUME",
                fault=Fault.YOU,
            )
        found.setdefault(volume.folder.path, []).append(name)
    return sorted(found.items())


def _telling(say: Callable[[str], None]) -> Callable[[str], None]:
    """Tells rsync's progress in words, now and then."""
    say = seldom(say)

    def tell(line: str) -> None:
        found = _PROGRESS.fullmatch(line.split(" (")[0].strip())
        if found is not None and found[1] != "0":
            size = int(re.sub(r"[.,]", "", found[1])) / _MIB
            say(f"copying: {size:.1f} MiB, {found[2]} %, {found[3]}, {found[4]} left")

    return tell
