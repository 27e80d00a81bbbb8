"""Looking at a bundle without believing it: at once, whatever its size, from read-only media.

Only the head is read. Nothing is verified here: what is said is what the bundle says of itself.
It is read as plain values: the models that others check it with take longer to import than all
of this takes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from aibox.bundle.finding import COMMAND
from aibox.bundle.layout import MANIFEST, MANIFEST_LIMIT
from aibox.bundle.media import Media
from aibox.errors import Fault, VerificationRefused

Facts = Mapping[str, Any]

CLASSES = ("allow", "operator-only", "forbid")
"""Of redistribution, the strictest last (`pins.Redistribution`)."""

_SHOWN_CHANGES = 20


@dataclass(frozen=True, slots=True)
class KindRow:
    """The components of one kind together."""

    kind: str
    count: int
    bytes: int
    licences: str
    redistribution: str

    def for_people(self) -> dict[str, object]:
        """A row of a table."""
        return {**asdict(self), "megabytes": f"{self.bytes / 1e6:.1f}"}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a bundle says of itself, and what it would change on the box here.

    `releases`, `components`, `proofs` and `upstream` are as in the manifest; `changes` are
    {name, current, desired}.
    """

    bundle: str
    sequence: int
    created: str
    expires: str
    signed_by: tuple[str, ...]
    roots: int
    architectures: tuple[str, ...]
    pythons: tuple[str, ...]
    releases: tuple[Facts, ...]
    volumes: tuple[str, ...]
    missing_volumes: tuple[str, ...]
    bytes: int
    carried: int
    sbom: str
    kinds: tuple[KindRow, ...]
    components: tuple[Facts, ...]
    proofs: tuple[Facts, ...]
    upstream: tuple[Facts, ...]
    changes: tuple[Facts, ...]


def inspect(paths: Sequence[Path], root: Path) -> Inspection:
    """Look at the bundle on these media, beside the box at `root` (there may be none).

    Raises what `Media.open` raises, and `VerificationRefused` (`bundle-malformed`).
    """
    with Media.open(paths) as media:
        try:
            return _inspection(media, json.loads(media.head[MANIFEST]), _running(root))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise VerificationRefused(
                "bundle-malformed",
                "bundle.json is not what a bundle says of itself",
                context=f"{type(error).__name__}: {error}"[:200],
                hint=f"it is damaged or forged; ask its maker for it again, then: {COMMAND}",
                fault=Fault.UPSTREAM,
            ) from error


def _inspection(media: Media, manifest: Facts, running: Sequence[Facts]) -> Inspection:
    signed = manifest["signed"]
    said: Facts = signed["aibox"]
    components = tuple(said["components"])
    return Inspection(
        bundle=media.bundle,
        sequence=int(signed["version"]),
        created=str(said["created"]),
        expires=str(signed["expires"]),
        signed_by=tuple(item["keyid"] for item in manifest["signatures"]),
        roots=sum(path.startswith("root/") for path in media.head),
        architectures=tuple(said["architectures"]),
        pythons=tuple(said["pythons"]),
        releases=tuple(said["releases"]),
        volumes=tuple(volume.name for volume in media.volumes),
        missing_volumes=tuple(label.missing() for label in media.missing_volumes),
        bytes=int(said["size"]),
        carried=int(said["carried"]),
        sbom=f"blobs/sha256/{said['sbom']['sha256']}",
        kinds=tuple(_kinds(components)),
        components=components,
        proofs=tuple(said["proofs"]),
        upstream=tuple(said["upstream"]),
        changes=_changes(running, components) if running else (),
    )


def _kinds(components: Sequence[Facts]) -> Iterator[KindRow]:
    def kind(item: Facts) -> str:
        return str(item["kind"])

    for key, items in groupby(sorted(components, key=kind), key=kind):
        group = list(items)
        yield KindRow(
            kind=key,
            count=len(group),
            bytes=sum(int(item["size"]) for item in group),
            licences=most({item["licence"] for item in group}),
            redistribution=strictest({item["redistribution"] for item in group}),
        )


def most(licences: set[str]) -> str:
    """A few of them, and how many more there are."""
    shown = sorted(licences)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def strictest(classes: set[str]) -> str:
    """The class that binds them all; `ValueError` for one that nobody knows."""
    return max(classes, key=CLASSES.index)


def _running(root: Path) -> Sequence[Facts]:
    """The components of the bundle that the box here runs; none where no box can say it: there is
    none, it came from a checkout, or its file is damaged."""
    try:
        with (root / "current" / MANIFEST).open("rb") as file:
            components = json.loads(file.read(MANIFEST_LIMIT))["signed"]["aibox"]["components"]
            _versions(components)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(components)


def _changes(running: Sequence[Facts], offered: Sequence[Facts]) -> tuple[Facts, ...]:
    before, after = _versions(running), _versions(offered)
    return tuple(
        {"name": name, "current": before.get(name, "-"), "desired": after.get(name, "-")}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def _versions(components: Sequence[Facts]) -> dict[str, str]:
    """Component -> its versions: a package may be there in one for each interpreter."""
    found: dict[str, set[str]] = {}
    for item in components:
        found.setdefault(f"{item['kind']} {item['name']}", set()).add(item["version"])
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}


def summary(found: Inspection) -> Iterator[tuple[str, str]]:
    """The facts as people read them: name and value."""
    yield "bundle", found.bundle
    yield "sequence", f"{found.sequence} of {found.created}, taken in until {found.expires[:10]}"
    yield "signed by", ", ".join(key[:16] for key in found.signed_by) or "nobody"
    for release in found.releases:
        yield "release", f"{release['id'][:12]} for {release['profile']}: {release['title']}"
        yield from _needs(release["requires"])
    yield "host", f"{', '.join(found.architectures)}; Python {', '.join(found.pythons)} or its own"
    yield "size", f"{found.carried / 1e6:.1f} MB inside of {found.bytes / 1e6:.1f} MB"
    for volume in found.missing_volumes:
        yield "missing", volume
    for proof in found.proofs:
        yield "proof", f"{proof['what']}: {'proven' if proof['proven'] else proof['reason']}"
    yield "SBOM", f"{found.sbom} (CycloneDX)"
    for change in found.changes[:_SHOWN_CHANGES]:
        yield "changes", f"{change['name']}: {change['current']} -> {change['desired']}"


def _needs(requires: Facts | None) -> Iterator[tuple[str, str]]:
    if requires:
        yield (
            "needs",
            f"{requires['memory_mib_min']} MiB of memory, {requires['disk_mib_min']} MiB of disk, "
            f"{requires['inodes_min']} inodes",
        )
